"""The critic's augmentation does what DiffAugment publishes, and hands gradients on."""

import torch

from tudsr.model.diff_augment import cut_out, diff_augment, recoloured, translated


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_colour_is_brightness_saturation_and_contrast_within_the_published_ranges():
    images = torch.rand(64, 3, 8, 8, generator=drawn(0)).double() * 2 - 1
    found = recoloured(images, drawn(1))

    def parts(x):
        grey, mean = x.mean(1, keepdim=True), x.mean((1, 2, 3), keepdim=True)
        return mean.flatten(), (grey - mean).flatten(1), (x - grey).flatten(1)

    (mean, light, colour), (new_mean, new_light, new_colour) = parts(images), parts(found)
    contrast = (new_light * light).sum(1) / light.square().sum(1)
    both = (new_colour * colour).sum(1) / colour.square().sum(1)
    torch.testing.assert_close(new_light, contrast[:, None] * light)
    torch.testing.assert_close(new_colour, both[:, None] * colour)
    for values, low, high in (
        (new_mean - mean, -0.5, 0.5),
        (both / contrast, 0, 2),
        (contrast, 0.5, 1.5),
    ):
        reach = high - low
        assert low <= values.min() < low + 0.1 * reach, "the whole range is drawn from"
        assert high - 0.1 * reach < values.max() <= high


def test_translation_moves_by_up_to_an_eighth_and_zeros_come_in():
    height, width = 16, 24
    numbered = torch.arange(1.0, height * width + 1).view(1, 1, height, width)
    images = numbered.expand(64, 3, -1, -1)
    moves = set()
    for moved in translated(images, drawn(0))[:, 0]:
        y, x = moved.nonzero().T
        before = moved[y, x].long() - 1
        ((dy, dx),) = torch.stack([y - before // width, x - before % width], 1).unique(dim=0)
        assert len(y) == (height - abs(dy)) * (width - abs(dx)), "all else is zero"
        moves.add((int(dy), int(dx)))
    assert {dy for dy, _ in moves} == set(range(-2, 3))
    assert {dx for _, dx in moves} == set(range(-3, 4))


def test_cutout_leaves_zeros_in_a_window_of_half_the_sides_that_may_reach_outside():
    sizes = set()
    for kept in cut_out(torch.ones(128, 3, 16, 24), drawn(0)):
        assert torch.equal(kept, kept[:1].expand(3, -1, -1))
        y, x = (kept[0] == 0).nonzero().T
        height, width = int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1
        assert len(y) == height * width and kept.sum() == 3 * (16 * 24 - len(y))
        sizes.add((height, width))
    assert (8, 12) in sizes and max(sizes) == (8, 12)
    assert min(h for h, _ in sizes) <= 5, "at the border less of it is there"


def test_it_is_differentiable_and_a_function_of_its_generator():
    x = torch.rand(2, 3, 32, 32, generator=drawn(0)).requires_grad_()
    first, again = diff_augment(x, drawn(3)), diff_augment(x, drawn(3))
    assert torch.equal(first, again) and not torch.equal(first, x)
    assert not torch.equal(first, diff_augment(x, drawn(4)))
    exact = x.detach().double()[:, :, :6, :6].requires_grad_()
    torch.autograd.gradcheck(lambda images: diff_augment(images, drawn(3)), exact)


def test_what_comes_in_is_a_middle_grey():
    """Zero of the published range of -1 to 1, half of this one."""
    moved = diff_augment(torch.full((64, 3, 16, 16), 1.0), drawn(0))
    assert all((image == 0.5).any() for image in moved)
