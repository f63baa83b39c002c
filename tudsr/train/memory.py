"""What a micro-batch keeps for its backward pass, and what to lower when memory runs out.

The estimate is computed, not measured: UNet, decoder and the generator's losses (trunks, DISTS,
critic) run once, in the precision that is set, on fake tensors, which have shapes and a device but
no memory, and what autograd saves is added up. (Meta tensors have no device, so torch would take
attention that keeps all scores, whatever the device offers.) It knows nothing of temporary buffers,
of the truth's features that wait for the critic's turn, of the allocator's fragmentation or of what
else is on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from tudsr.errors import TrainingError
from tudsr.model.dino import positions_anew
from tudsr.model.out_of_memory import is_out_of_memory
from tudsr.profile import StageSettings
from tudsr.train.adversarial import AdversarialStep, Turns
from tudsr.train.device import autocast, in_half

# In messages of the CPU's allocator, of MPS and CUDA, and of CUDA's libraries (cuBLAS, cuDNN).


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: per image of R x R what its graph keeps, and what stays throughout."""

    generator: int
    losses: int
    state: int

    def told(self, batch: int) -> str:
        """A sentence for a micro-batch of ``batch`` images."""
        gib = 2**30
        kept = batch * (self.generator + self.losses) / gib
        return (
            f"{batch} images at once keep about {kept:.2f} GiB for their backward pass "
            f"({batch} x {self.generator / gib:.2f} in UNet and decoder, "
            f"{self.losses / gib:.2f} in losses and critic; computed layer by layer, temporary "
            f"buffers come on top), weights and optimizers {self.state / gib:.2f} GiB"
        )


def estimate(step: AdversarialStep, r_px: int) -> MemoryEstimate:
    """What training at R = ``r_px`` pixels needs; runs no kernel and takes some seconds."""
    base = step.base
    side_px = r_px // base.codec.factor
    latents = (1, int(base.unet.config["in_channels"]), side_px, side_px)
    with autocast(step.device, step.runtime):
        # The UNet's input needs no gradient: the codec before it is frozen.
        generator = _saved(base.unet, [latents, (1,), tuple(base.prompt.shape)], step.device)
        vae = getattr(base.codec, "vae", None)
        if vae is not None:
            generator += _saved(_Decoder(vae), [latents], step.device, into_input=True)
    pair = [(1, 3, r_px, r_px)] * 2
    losses = max(
        _saved(_Losses(step, turns), pair, step.device, into_input=True)
        for turns in step.possible_turns
    )
    trained = [*step.parameters, *step.heads]
    frozen = {id(p): p for m in (base, step.trunk, step.critic.trunk) for p in m.parameters()}
    # Gradient, average and AdamW's two moments of each trained value.
    state = _bytes(frozen.values()) + 4 * _bytes(trained)
    return MemoryEstimate(generator, losses, state)


def explaining_setup_out_of_memory(stage: str) -> AbstractContextManager[None]:
    """As ``explaining_out_of_memory`` while base, critic and optimizers come to be.

    Nothing has been computed then: there is no step to estimate from, and no picture to lower.
    """
    return _explaining(
        lambda reason: (
            f"{stage} ran out of memory before its first picture: {reason}. To need less: lower "
            f"{stage}.lora.rank; use a smaller {stage}.critic.trunk or base.source; end what else "
            "uses the device's memory. Checkpoints there are stay as they are"
        )
    )


def explaining_out_of_memory(
    stage: str, settings: StageSettings, step: AdversarialStep, r_px: int
) -> AbstractContextManager[None]:
    """Turn an allocator's failure into a ``TrainingError`` that says what to lower."""

    def told(reason: str) -> str:
        needed = estimate(step, r_px).told(settings.batch)
        return (
            f"{stage} ran out of memory on {step.device}: {reason}. "
            f"{_remedy(stage, settings, step)} By estimate, {needed}. The last checkpoint is kept"
        )

    return _explaining(told)


@contextmanager
def _explaining(told: Callable[[str], str]) -> Generator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(told(_reason(error))) from None


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error) else "no more memory"


def _remedy(stage: str, settings: StageSettings, step: AdversarialStep) -> str:
    """What to lower of what is not low already, the cheapest first."""
    ways = [_smaller_batch(stage, settings)] if settings.batch > 1 else []
    if not settings.gradient_checkpointing:
        ways.append(f"set {stage}.gradient_checkpointing")
    if not in_half(step.device, step.runtime):
        ways.append("set runtime.precision to bf16")
    if step.critic.trunk is not step.trunk:
        ways.append(f"take a smaller {stage}.critic.trunk")
    ways.append(f"lower {stage}.lora.rank")
    ways.append("use a base with a smaller R (base.r_px)")
    chunks = " Lowering n would not help: chunks go one by one." if settings.n > 1 else ""
    return "To need less: " + "; ".join(ways) + "." + chunks


def _smaller_batch(stage: str, settings: StageSettings) -> str:
    """A batch of one, with the same pictures an update where accumulating can make up for it.

    It cannot where an update is some chunks of each picture: more of them would be other chunks.
    """
    lower = f"lower {stage}.batch from {settings.batch} to 1"
    if settings.accumulate % settings.n**2:
        return f"{lower}, with which an update sees fewer chunks"
    more = settings.batch * settings.accumulate
    return f"{lower} with {stage}.accumulate {more}, which trains the same"


class _Decoder(nn.Module):
    """An autoencoder's decoder under ``forward``, as ``functional_call`` wants it."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Any, self.vae).decode(latents, return_dict=False)[0]


class _Losses(nn.Module):
    """A generator's losses under ``forward``, with all that has weights as its children."""

    def __init__(self, step: AdversarialStep, turns: Turns) -> None:
        super().__init__()
        self.step, self.turns = step, turns
        self.trunk, self.dists = step.trunk, step.dists
        self.critic_trunk, self.heads = step.critic.trunk, step.critic.heads

    def forward(self, restored: Tensor, hr: Tensor) -> Tensor:
        step = self.step
        total, _ = step.pixel_losses(restored, hr)
        return total + step.perceptual_and_gan(restored, hr, self.turns, step.draws(0))[0]


def _saved(
    module: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    device: torch.device,
    into_input: bool = False,
) -> int:
    """Bytes that autograd keeps of one forward pass, its parameters and inputs left out.

    ``into_input``: the first input gets a gradient.
    """
    storages: dict[int, tuple[Any, int]] = {}
    with FakeTensorMode(), positions_anew():
        inputs = [torch.empty(shape, device=device) for shape in shapes]
        inputs[0].requires_grad_(into_input)
        weights = {
            name: torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device=device
            ).requires_grad_(value.requires_grad)
            for name, value in [*module.named_parameters(), *module.named_buffers()]
        }
        own = {_storage(value)[0] for value in [*weights.values(), *inputs]}

        def note(value: Tensor) -> Tensor:
            key, storage = _storage(value)
            if key not in own:
                storages[key] = (storage, storage.nbytes())
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            # A module that stands in two places is swapped once, or torch would not swap it back.
            functional_call(module, weights, tuple(inputs), tie_weights=False)
    return sum(size for _, size in storages.values())


def _storage(value: Tensor) -> tuple[int, Any]:
    storage = value.untyped_storage()
    return storage._cdata, storage  # pyright: ignore[reportPrivateUsage]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
