"""Stage 2's losses on the whole picture that N² chunks make up, across their borders. Ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tudsr.model.losses import StagedTrunk
from tudsr.model.windowed import Pair, WindowedLosses
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.chunks import chunk, unchunk
from tudsr.train.device import autocast


def accumulate_whole(
    step: AdversarialStep,
    chunks: Sequence[Tensor],
    hr: Tensor,
    images_seen: int,
    share: float,
    first: int,
) -> dict[str, Tensor]:
    """As ``step.accumulate`` on one picture: add ``share`` of its gradients, give its losses.

    ``chunks``, row by row, are (B, 3, R, R), ``hr`` is (B, 3, N·R, N·R). The gradient is exact: the
    picture is made once without a graph, the losses give their derivative on it, window by window
    (tudsr.model.windowed), and each chunk is made a second time to take its part of that backward.
    So memory is that of one chunk or window. A vision transformer sees the picture at once: of a
    critic on one the inputs of its blocks are kept, the rest of its graph a block at a time.
    """
    n, r_px = math.isqrt(len(chunks)), chunks[0].shape[-1]
    with torch.no_grad():
        parts = [step.restored(c, step.draws(first, i)) for i, c in enumerate(chunks)]
    whole = unchunk(parts, n).requires_grad_()
    del parts
    rng = step.draws(first, len(chunks))
    windowed = WindowedLosses(r_px, partial(autocast, step.device, step.runtime))
    if windowed.one_covers(step.trunk, whole.shape[2:]):
        losses = step.backward(whole, hr, images_seen, share, rng)
    else:
        losses = _backward(step, windowed, (whole, hr), images_seen, share, rng)
    assert whole.grad is not None
    gradients = chunk(whole.grad, r_px)
    del whole
    for i, (part, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        step.restored(part, step.draws(first, i)).backward(gradient)
    return losses


def _backward(
    step: AdversarialStep,
    windowed: WindowedLosses,
    pictures: Pair,
    images_seen: int,
    share: float,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """As ``step.backward`` into a leaf, whatever has a trunk window by window."""
    total, losses = step.pixel_losses(*pictures)
    (total * share).backward()
    total, weights = total.detach(), step.settings.loss
    if images_seen >= weights.l1_only_images:
        heads_turn, edges_turn, factor = step.turns(images_seen)
        terms = {"loss_dists": (heads_turn, False), "loss_dists_edges": (edges_turn, True)}
        for name, (turn, edges) in terms.items():
            if turn:
                weight = factor * weights.ea_dists
                losses[name] = windowed.backward_dists(
                    step.dists, step.trunk, pictures, weight * share, edges
                )
                total = total + weight * losses[name]
        if heads_turn:
            weight = factor * weights.gan
            gan, of_critic = _backward_gan(step, windowed, pictures, weight * share, share, rng)
            losses |= {"loss_gan": gan, "loss_critic": of_critic}
            total = total + weight * gan
    return losses | {"loss_total": total}


def _backward_gan(
    step: AdversarialStep,
    windowed: WindowedLosses,
    pictures: Pair,
    weight: float,
    share: float,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The generator's GAN loss, ``weight`` of it into the picture, and the critic's."""
    critic = step.critic
    if isinstance(critic.trunk, StagedTrunk):
        view, truth = (critic.view(images, rng) for images in pictures)
        leaf = view.detach().requires_grad_()
        target = step.settings.loss.real_target
        losses = windowed.backward_gan(critic, (leaf, truth), target, weight, share)
        view.backward(leaf.grad)
        return losses
    critic.trunk.checkpoint_gradients()
    features = partial(_features_at_once, step, rng)
    fakes = features(pictures[0])
    gan = step.generator_bce(fakes)
    (gan * weight).backward()
    fakes = [f.detach() for f in fakes]
    return gan.detach(), step.critic_backward(fakes, features(pictures[1]), share)


def _features_at_once(step: AdversarialStep, rng: torch.Generator, images: Tensor) -> list[Tensor]:
    with autocast(step.device, step.runtime):
        return step.critic.features(images, rng)
