"""The losses of a picture too large for their graph, window by window, with exact gradients.

DISTS knows two pictures by their features' moments; the critic's loss is a mean over places, once
each sample's power is known. Both add up over windows. So passes without a graph add up, the loss
of the sums tells what each window's part is worth, and a last pass makes one window after another
with its graph and takes that window's part of the gradient.

A window is seen with the margin that its features depend on and starts at a multiple of the deepest
stride; the picture's own borders are the only ones whose padding counts. So its features are the
whole picture's. A vision transformer sees a picture at once and cannot be cut like this: of its
graph `tudsr.train.whole` keeps the inputs of blocks. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tudsr.model.critic import Critic, power
from tudsr.model.losses import Dists, StagedTrunk, bce, dists_moments, sobel

Pair = tuple[Tensor, Tensor]


class Span(NamedTuple):
    """Rows or columns: a window's own, all that it sees, and the picture's; from, to, in pixels."""

    own: tuple[int, int]
    seen: tuple[int, int]
    length: int

    def kept(self, stride_px: int) -> slice:
        """Where its own lie in a map of all that it sees."""
        first, last = (place - self.seen[0] for place in self.own)
        return slice(first // stride_px, -(-last // stride_px))

    def share(self, stride_px: int) -> float:
        """Its own places over those of a map of the whole picture."""
        kept = self.kept(stride_px)
        return (kept.stop - kept.start) / -(-self.length // stride_px)


class Window(NamedTuple):
    """A part of a picture; windows of one picture share nothing and leave nothing out."""

    rows: Span
    columns: Span

    def see(self, images: Tensor) -> Tensor:
        """The part of (B, C, H, W) images with its margin; a view."""
        return images[..., slice(*self.rows.seen), slice(*self.columns.seen)]

    def keep(self, maps: Tensor, stride_px: int) -> Tensor:
        """The window's own places in maps of what it sees; a view."""
        return maps[..., self.rows.kept(stride_px), self.columns.kept(stride_px)]

    def share(self, stride_px: int) -> float:
        """How much of a map of the whole picture is the window's own; all windows' make up 1."""
        return self.rows.share(stride_px) * self.columns.share(stride_px)


def cut(size: Sequence[int], side_px: int, margin_px: int, align_px: int) -> list[Window]:
    """Windows of a (height, width) picture that start at multiples of ``align_px``.

    Their side is ``side_px``, but no less than twice the margin: so at most three quarters of what
    a window sees are margin.
    """
    margin_px = _aligned(margin_px, align_px)
    side_px = _aligned(max(side_px, 2 * margin_px), align_px)

    def spans(length: int) -> list[Span]:
        own = [(start, min(start + side_px, length)) for start in range(0, length, side_px)]
        seen = [(max(0, a - margin_px), min(length, b + margin_px)) for a, b in own]
        return [Span(o, s, length) for o, s in zip(own, seen, strict=True)]

    height, width = size
    return [Window(rows, columns) for rows in spans(height) for columns in spans(width)]


@dataclass(frozen=True)
class WindowedLosses:
    """Backward passes of EA-DISTS and of both GAN losses at the memory of one window.

    Attributes:
        side_px: of a window, its margin left out.
        precision: a context that the networks run in.
    """

    side_px: int
    precision: Callable[[], AbstractContextManager[Any]]

    def one_covers(self, trunk: StagedTrunk, size: Sequence[int]) -> bool:
        """Whether a (height, width) picture is a single window: cutting it would save nothing."""
        return len(cut(size, self.side_px, trunk.reaches_px[-1], trunk.strides_px[-1])) == 1

    def backward_dists(
        self, dists: Dists, trunk: StagedTrunk, pictures: Pair, weight: float, edges: bool = False
    ) -> Tensor:
        """Mean DISTS of (result, truth), or with ``edges`` of what ``sobel`` makes of them.

        Both are (B, 3, H, W); ``weight`` times the derivative is added to ``result.grad``.
        """
        reach_px = trunk.reaches_px[-1] + (1 if edges else 0)
        windows = cut(pictures[0].shape[2:], self.side_px, reach_px, trunk.strides_px[-1])
        strides_px = (1, *trunk.strides_px)

        def moments(window: Window, *seen: Tensor) -> Tensor:
            with self.precision():
                views = [sobel(images) if edges else images for images in seen]
                maps = [[view, *trunk(view)] for view in views]
            own = [list(map(window.keep, m, strides_px)) for m in maps]
            return dists_moments(own[0], own[1])

        with torch.no_grad():
            made = [moments(w, *map(w.see, pictures)) for w in windows]
        parts = torch.stack(made).requires_grad_()
        stages = list(zip((3, *trunk.widths), strides_px, strict=True))
        shares = [[w.share(s) for width, s in stages for _ in range(width)] for w in windows]
        distance = dists.of_moments(_merged(parts, parts.new_tensor(shares))).mean()
        (worth,) = torch.autograd.grad(weight * distance, parts)
        for window, gradient in zip(windows, worth, strict=True):
            with _taking_gradient(window, pictures[0]) as seen:
                moments(window, seen, window.see(pictures[1])).backward(gradient)
        return distance.detach()

    def backward_gan(
        self, critic: Critic, pictures: Pair, real_target: float, weight: float, share: float
    ) -> tuple[Tensor, Tensor]:
        """The generator's and the critic's loss of (result, truth), augmented if they are to be.

        ``weight`` times the first one's derivative is added to ``result.grad``, ``share`` times the
        second one's to the gradients of the heads.
        """
        result, truth = pictures
        parts = _CriticParts(critic, result.shape[2:], self.side_px, self.precision)
        powers = parts.powers(result).requires_grad_()
        worth = torch.zeros_like(powers)
        gan, critic_loss = result.new_zeros(()), result.new_zeros(())
        heads = list(critic.heads.parameters())
        for window in parts.windows:
            logits = parts.logits(window, parts.features_alone(window, result), powers)
            gan_part, fake = (parts.loss(window, logits, t) for t in (real_target, 0.0))
            worth += torch.autograd.grad(weight * gan_part, powers, retain_graph=True)[0]
            (fake * share / 2).backward(inputs=heads)
            gan, critic_loss = gan + gan_part.detach(), critic_loss + fake.detach() / 2
        of_truth = parts.powers(truth)
        for window in parts.windows:
            logits = parts.logits(window, parts.features_alone(window, truth), of_truth)
            real = parts.loss(window, logits, real_target)
            (real * share / 2).backward()
            critic_loss = critic_loss + real.detach() / 2
        for window in parts.windows:
            with _taking_gradient(window, result) as seen:
                features = parts.features(seen)
                logits = parts.logits(window, features, powers.detach())
                total = weight * parts.loss(window, logits, real_target)
                (total + (worth * parts.power(window, features)).sum()).backward(inputs=[seen])
        return gan, critic_loss


class _CriticParts:
    """What each window adds to a picture's powers and to the losses of its logits."""

    def __init__(
        self,
        critic: Critic,
        size: Sequence[int],
        side_px: int,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        trunk = critic.trunk
        assert isinstance(trunk, StagedTrunk), "a transformer sees a picture at once"
        self.critic, self.trunk, self.precision = critic, trunk, precision
        self.strides_px = [trunk.strides_px[pick] for pick in critic.picks]
        self.logit_strides_px = [stride * critic.head_stride for stride in self.strides_px]
        reaches_px = [
            trunk.reaches_px[pick] + critic.head_reach * trunk.strides_px[pick]
            for pick in critic.picks
        ]
        self.windows = cut(size, side_px, max(reaches_px), max(self.logit_strides_px))

    def features(self, seen: Tensor) -> list[Tensor]:
        with self.precision():
            return self.trunk(seen)

    @torch.no_grad()
    def features_alone(self, window: Window, pictures: Tensor) -> list[Tensor]:
        """Without a graph."""
        return self.features(window.see(pictures))

    @torch.no_grad()
    def powers(self, pictures: Tensor) -> Tensor:
        """(levels, B) of whole pictures."""
        parts = (self.power(w, self.features_alone(w, pictures)) for w in self.windows)
        return torch.stack(list(parts)).sum(0)

    def power(self, window: Window, features: list[Tensor]) -> Tensor:
        """What a window adds to the powers, (levels, B)."""
        picked = [features[pick] for pick in self.critic.picks]
        strided = zip(picked, self.strides_px, strict=True)
        return torch.stack([power(window.keep(f, s)) * window.share(s) for f, s in strided])

    def logits(self, window: Window, features: list[Tensor], powers: Tensor) -> list[Tensor]:
        """The window's own logits."""
        with self.precision():
            maps = self.critic(features, powers.unbind())
        return list(map(window.keep, maps, self.logit_strides_px))

    def loss(self, window: Window, logits: list[Tensor], target: float) -> Tensor:
        """What a window adds to ``bce`` of the whole picture's logits."""
        strided = zip(logits, self.logit_strides_px, strict=True)
        return torch.stack([bce([m], target) * window.share(s) for m, s in strided]).mean()


@contextmanager
def _taking_gradient(window: Window, pictures: Tensor) -> Generator[Tensor]:
    """What a window sees, as a leaf of its own whose gradient is added to the pictures'."""
    seen = window.see(pictures).detach().requires_grad_()
    yield seen
    if pictures.grad is None:
        pictures.grad = torch.zeros_like(pictures)
    assert seen.grad is not None
    window.see(pictures.grad).add_(seen.grad)


def _merged(parts: Tensor, shares: Tensor) -> Tensor:
    """Moments (5, B, C) of the whole from those of W parts, (W, 5, B, C), and shares (W, C).

    The whole's variance is the parts' own and that of their means.
    """
    shares = shares[:, None, None]
    means, spreads = parts[:, :2], parts[:, 2:]
    mean = (shares * means).sum(0)
    x, y = (means - mean).unbind(1)
    between = torch.stack([x * x, y * y, x * y], dim=1)
    return torch.cat([mean, (shares * (spreads + between)).sum(0)])


def _aligned(length_px: int, align_px: int) -> int:
    return -(-length_px // align_px) * align_px
