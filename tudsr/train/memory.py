"""What a micro-batch keeps for its backward pass, and what to lower when memory runs out.

The estimate is computed, not measured: UNet, decoder, loss trunk and a critic's own trunk run once
on fake tensors, which have shapes and a device but no memory, and what autograd saves is added up.
(Meta tensors have no device, so torch would take attention that keeps all scores, whatever the
device offers.) It knows
nothing of temporary buffers, of the allocator's fragmentation or of what else is on the device, and
counts graphs in float32 (under bf16 autocast about half).
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
from tudsr.profile import StageSettings
from tudsr.train.adversarial import AdversarialStep


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
            f"{self.losses / gib:.2f} in the losses; computed layer by layer for fp32, bf16 keeps "
            f"about half; temporary buffers come on top), weights and optimizers "
            f"{self.state / gib:.2f} GiB"
        )


def estimate(step: AdversarialStep, r_px: int) -> MemoryEstimate:
    """What training at R = ``r_px`` pixels needs; runs no kernel and takes a second or two."""
    base = step.base
    side_px = r_px // base.codec.factor
    latents = (1, int(base.unet.config["in_channels"]), side_px, side_px)
    # The UNet's input needs no gradient: the codec before it is frozen.
    generator = _saved(base.unet, [latents, (1,), tuple(base.prompt.shape)], step.device)
    vae = getattr(base.codec, "vae", None)
    if vae is not None:
        generator += _saved(_Decoder(vae), [latents], step.device, into_input=True)
    # DISTS on the pictures and on their edges, each with a gradient.
    losses = 2 * _saved(step.trunk, [(1, 3, r_px, r_px)], step.device, into_input=True)
    if step.critic_sees_for_itself:
        losses += _saved(step.critic.trunk, [(1, 3, r_px, r_px)], step.device, into_input=True)
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
    return _explaining(
        lambda reason: (
            f"{stage} ran out of memory on {step.device}: {reason}. {_remedy(stage, settings)} "
            f"By estimate, {estimate(step, r_px).told(settings.batch)}. The last checkpoint is kept"
        )
    )


@contextmanager
def _explaining(told: Callable[[str], str]) -> Generator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(told(_reason(error))) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator failed, on a GPU or (torch has no class for it) on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error) else "no more memory"


def _remedy(stage: str, settings: StageSettings) -> str:
    ways: list[str] = []
    if settings.batch > 1:
        more = settings.batch * settings.accumulate
        ways.append(
            f"lower {stage}.batch from {settings.batch} to 1 with {stage}.accumulate {more}, which "
            "trains the same"
        )
    if not settings.gradient_checkpointing:
        ways.append(f"set {stage}.gradient_checkpointing")
    ways.append("set runtime.precision to bf16")
    ways.append("use a base with a smaller R (base.r_px)")
    chunks = " Lowering n would not help: chunks go one by one." if settings.n > 1 else ""
    return "To need less: " + "; ".join(ways) + "." + chunks


class _Decoder(nn.Module):
    """An autoencoder's decoder under ``forward``, as ``functional_call`` wants it."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Any, self.vae).decode(latents, return_dict=False)[0]


def _saved(
    module: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    device: torch.device,
    into_input: bool = False,
) -> int:
    """Bytes that autograd keeps of one fp32 forward pass, its parameters and inputs left out."""
    storages: dict[int, tuple[Any, int]] = {}
    with FakeTensorMode(), positions_anew():
        inputs = [torch.empty(s, device=device).requires_grad_(into_input) for s in shapes]
        weights = {
            name: torch.empty(
                value.shape, dtype=_in_single(value.dtype), device=device
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


def _in_single(dtype: torch.dtype) -> torch.dtype:
    """Frozen weights may be in bf16, which takes autocast to multiply with anything else."""
    return torch.float32 if dtype.is_floating_point else dtype


def _storage(value: Tensor) -> tuple[int, Any]:
    storage = value.untyped_storage()
    return storage._cdata, storage  # pyright: ignore[reportPrivateUsage]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
