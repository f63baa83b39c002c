"""The hand-written backward passes against autograd's own."""

import pytest
import torch
import torch.nn.functional as F

from tudsr.model.fused import blur, paired_moments


@pytest.mark.parametrize(("side", "stride", "padding"), [(3, 2, 1), (3, 1, 1), (4, 1, 0)])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_blur_is_a_depthwise_convolution_in_value_and_gradient(side, stride, padding, size):
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    kernel = torch.rand(side, side, dtype=torch.float64)
    ours = blur(x, kernel, stride, padding)
    plain = F.conv2d(x, kernel.expand(3, 1, -1, -1), stride=stride, padding=padding, groups=3)
    assert torch.allclose(ours, plain)
    weight = torch.rand_like(plain)
    expected = torch.autograd.grad((plain * weight).sum(), x)[0]
    assert torch.allclose(torch.autograd.grad((ours * weight).sum(), x)[0], expected)


def test_paired_moments_against_torch_and_finite_differences():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    mean_x, mean_y, var_x, var_y, cov = paired_moments(x, y)
    assert torch.allclose(mean_x, x.mean((2, 3)))
    assert torch.allclose(mean_y, y.mean((2, 3)))
    assert torch.allclose(var_x, x.var((2, 3), correction=0))
    assert torch.allclose(var_y, y.var((2, 3), correction=0))
    by_hand = ((x - x.mean((2, 3), True)) * (y - y.mean((2, 3), True))).mean((2, 3))
    assert torch.allclose(cov, by_hand)

    def used(z):
        moments = paired_moments(z, y)
        return moments[0].sin() + moments[2].cos() + moments[4].exp()

    assert torch.autograd.gradcheck(used, (x,))
