"""What both stages share: a generator's and a critic's step on one R x R micro-batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

from tudsr.model.adapters import adapter_parameters
from tudsr.model.base import Base
from tudsr.model.critic import Critic
from tudsr.model.losses import Dists, bce, lattice_error, sobel, staged_trunk
from tudsr.model.mesh import MESH_PERIODS, mesh_excess
from tudsr.model.precision import at_least_single, freeze_in_half
from tudsr.profile import RuntimeSettings, StageSettings
from tudsr.train.checkpoint import load_optimizer_tensors, optimizer_tensors
from tudsr.train.device import autocast, in_half
from tudsr.train.ranks import sum_gradients

Turns = tuple[bool, bool, float]
_ODD = 0x9E3779B1  # spreads seeds, so that two runs' coins are not each other's later ones


def add_losses(total: dict[str, Tensor], losses: Mapping[str, Tensor], share: float) -> None:
    """Add ``share`` of each loss to ``total``."""
    for name, loss in losses.items():
        total[name] = total.get(name, torch.zeros_like(loss)) + share * loss


class AdversarialStep:
    """Trains one adapter against one critic (the body of the paper's Alg. 1 and 2).

    ``accumulate`` runs forward and backward on a micro-batch, generator first with the critic
    frozen, then the critic on detached pictures; ``apply`` takes both optimizer steps.
    """

    def __init__(
        self,
        base: Base,
        adapter: str,
        settings: StageSettings,
        runtime: RuntimeSettings,
        seed: int,
        critic_seed: int | None = None,
    ) -> None:
        self.seed = seed
        critic_seed = seed if critic_seed is None else critic_seed
        self.base, self.adapter, self.settings, self.runtime = base, adapter, settings, runtime
        self.device = base.prompt.device
        half = in_half(self.device, runtime)
        # In evaluation mode spectral norm's power iteration rests: it moves once an optimizer step,
        # so that the micro-batches of a step are one function, however many and on whatever ranks.
        self.critic = Critic(settings.critic, critic_seed, self.device, half).eval()
        loss = settings.loss
        self.trunk = staged_trunk(loss.trunk, loss.trunk_path, self.device, half)
        self.dists = Dists(self.trunk.widths).to(self.device)
        if half:
            freeze_in_half(base)
        self.parameters = adapter_parameters(base.unet, adapter)
        self.heads = list(self.critic.heads.parameters())
        self.optimizer = self._adamw(self.parameters, settings.lr)
        self.critic_optimizer = self._adamw(self.heads, settings.critic.lr)
        self.ema = EMAModel(self.parameters, decay=settings.ema, foreach=True)

    @property
    def critic_sees_for_itself(self) -> bool:
        """Whether the critic takes a pass of its own, not the perceptual loss' features."""
        return self.critic.trunk is not self.trunk or self.critic.augment

    def accumulate(
        self,
        lr: Tensor,
        hr: Tensor,
        images_seen: int,
        share: float,
        first: int | None = None,
        which: int = 0,
    ) -> dict[str, Tensor]:
        """Add ``share`` of this micro-batch's gradients; (B, 3, R, R) images in [0, 1].

        ``images_seen`` is the update's, ``first`` (by default the same) the number of the
        micro-batch's first image, ``which`` the chunk's: what is drawn at random hangs on these.
        """
        rng = self.draws(images_seen if first is None else first, which)
        return self.backward(self.restored(lr, rng), hr, images_seen, share, rng)

    def draws(self, image: int, which: int = 0) -> torch.Generator:
        """What a micro-batch draws from: of the seed, its first image and the chunk.

        So micro-batches differ, and ranks draw what one process would.
        """
        mixed = np.random.SeedSequence((1, self.seed, image, which)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))

    def restored(self, lr: Tensor, rng: torch.Generator) -> Tensor:
        """What the adapted base makes of (B, 3, R, R), in the precision that is set."""
        with autocast(self.device, self.runtime):
            draws = rng if self.settings.latent == "sample" else None
            return at_least_single(self.base.restore(lr, self.settings.timestep, draws))

    def backward(
        self, restored: Tensor, hr: Tensor, images_seen: int, share: float, rng: torch.Generator
    ) -> dict[str, Tensor]:
        """The generator's losses backward into ``restored``, then the critic's; their figures."""
        total, losses, fakes, reals = self.generator_loss(restored, hr, images_seen, rng)
        (total * share).backward()
        losses["loss_total"] = total.detach()
        if fakes:
            losses["loss_critic"] = self.critic_backward(fakes, reals, share)
        return losses

    def generator_loss(
        self, restored: Tensor, hr: Tensor, images_seen: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor], list[Tensor]]:
        """L_G (paper, Eq. 9), its terms, and the critic's features of result and truth."""
        total, losses = self.pixel_losses(restored, hr)
        if images_seen < self.settings.loss.l1_only_images:
            return total, losses, [], []
        turns = self.turns(images_seen)
        term, more, fakes, reals = self.perceptual_and_gan(restored, hr, turns, rng)
        return total + term, losses | more, fakes, reals

    def pixel_losses(self, restored: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted terms that need no network, and their figures."""
        weights = self.settings.loss
        l1 = F.l1_loss(restored, hr)
        total, losses = weights.l1 * l1, {"loss_l1": l1.detach()}
        if weights.lattice:
            lattice = lattice_error(restored, hr, self.base.codec.factor)
            total, losses["loss_lattice"] = total + weights.lattice * lattice, lattice.detach()
        if weights.mesh:
            mesh = mesh_excess(restored, hr, MESH_PERIODS * self.base.codec.factor)
            total, losses["loss_mesh"] = total + weights.mesh * mesh, mesh.detach()
        return total, losses

    @property
    def possible_turns(self) -> tuple[Turns, ...]:
        """What ``turns`` may give."""
        if not self.settings.loss.alternate_edges:
            return ((True, True, 1.0),)
        return ((True, False, 2.0), (False, True, 2.0))

    def turns(self, images_seen: int) -> Turns:
        """Whether plain term and critic, and whether the edge term is on; what it counts then.

        With ``alternate_edges`` a fair coin picks the edge term, or the plain term and the critic;
        what is picked counts double, so the expectation is that of both. All micro-batches of an
        update have the same turn: ranks must agree on which losses and gradients there are.
        """
        if len(self.possible_turns) == 1:
            return self.possible_turns[0]
        coin = torch.Generator().manual_seed((images_seen + self.seed * _ODD) % 2**32)
        return self.possible_turns[bool(torch.rand((), generator=coin) < 0.5)]

    def generator_bce(self, fakes: list[Tensor]) -> Tensor:
        """The adversarial term with the heads frozen, so that no gradient is left in them."""
        self.critic.heads.requires_grad_(False)
        with autocast(self.device, self.runtime):
            loss = bce(self.critic(fakes), self.settings.loss.real_target)
        self.critic.heads.requires_grad_(True)
        return loss

    def critic_backward(self, fakes: list[Tensor], reals: list[Tensor], share: float) -> Tensor:
        """L_D = (L_real + L_fake) / 2 on detached features (paper, Eq. 7-8)."""
        with autocast(self.device, self.runtime):
            fake = bce(self.critic([f.detach() for f in fakes]), 0.0)
            real = bce(self.critic([f.detach() for f in reals]), self.settings.loss.real_target)
        loss = (fake + real) / 2
        (loss * share).backward()
        return loss.detach()

    def apply(self, rate: float) -> None:
        """One AdamW step of the adapter and, if it has gradients, of the critic.

        The gradients are those of all ranks together.
        """
        sum_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self._step(self.optimizer, self.settings.lr * rate)
        if any(p.grad is not None for p in self.heads):
            sum_gradients(self.heads)
            torch.nn.utils.clip_grad_norm_(self.heads, self.settings.clip_norm)
            self._step(self.critic_optimizer, self.settings.critic.lr * rate)
            self._iterate_spectral_norms()
        self.ema.step(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        """Adapter, its average, heads and both optimizers."""
        named = {f"lora.{i}": p for i, p in enumerate(self.parameters)}
        averaged = {f"ema.{i}": p for i, p in enumerate(self.ema.shadow_params)}
        heads = {f"heads.{k}": v for k, v in self.critic.heads.state_dict().items()}
        step = {"ema_step": torch.tensor(self.ema.optimization_step)}
        moments = optimizer_tensors("adamw", self.optimizer)
        critic = optimizer_tensors("critic", self.critic_optimizer)
        return {**named, **averaged, **heads, **step, **moments, **critic}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint."""
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"lora.{i}"])
                self.ema.shadow_params[i].copy_(tensors[f"ema.{i}"])
        heads = {k.removeprefix("heads."): v for k, v in tensors.items() if k.startswith("heads.")}
        self.critic.heads.load_state_dict(heads)
        self.ema.optimization_step = int(tensors["ema_step"])
        load_optimizer_tensors("adamw", self.optimizer, tensors)
        load_optimizer_tensors("critic", self.critic_optimizer, tensors)

    def perceptual_and_gan(
        self, restored: Tensor, hr: Tensor, turns: Turns, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Weighted EA-DISTS and GAN terms, their figures, and features for the critic's turn.

        ``turns`` as ``self.turns`` gives them.
        """
        weights = self.settings.loss
        heads_turn, edges_turn, factor = turns
        total, figures = restored.new_zeros(()), dict[str, Tensor]()
        fakes: list[Tensor] = []
        reals: list[Tensor] = []
        if heads_turn:
            features, hr_features = self._features(restored), self._features(hr)
            plain = self.dists(restored, hr, features, hr_features).mean()
            fakes, reals = self._critic_features(restored, hr, features, hr_features, rng)
            gan = self.generator_bce(fakes)
            total = total + factor * (weights.ea_dists * plain + weights.gan * gan)
            figures |= {"loss_dists": plain.detach(), "loss_gan": gan.detach()}
        if edges_turn:
            edges, hr_edges = sobel(restored), sobel(hr)
            pair = self._features(edges), self._features(hr_edges)
            edge_term = self.dists(edges, hr_edges, *pair).mean()
            total = total + factor * weights.ea_dists * edge_term
            figures["loss_dists_edges"] = edge_term.detach()
        return total, figures, fakes, reals

    def _features(self, images: Tensor) -> list[Tensor]:
        with autocast(self.device, self.runtime):
            return self.trunk(images)

    def _critic_features(
        self,
        restored: Tensor,
        hr: Tensor,
        features: list[Tensor],
        hr_features: list[Tensor],
        rng: torch.Generator,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The critic's view of both; the loss' own features where trunk and view are the same."""
        if not self.critic_sees_for_itself:
            return features, hr_features
        with autocast(self.device, self.runtime):
            return self.critic.features(restored, rng), self.critic.features(hr, rng)

    @torch.no_grad()
    def _iterate_spectral_norms(self) -> None:
        """One power iteration of each head's convolutions (Miyato et al. 2018: one a step)."""
        self.critic.heads.train()
        for module in self.critic.heads.modules():
            if is_parametrized(module):
                _ = module.weight
        self.critic.heads.eval()

    def _adamw(self, parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.AdamW:
        betas, decay = self.settings.betas, self.settings.weight_decay
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay)

    def _step(self, optimizer: torch.optim.Optimizer, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
