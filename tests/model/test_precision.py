"""Frozen weights in bf16: what autocast makes of them anyway, without its copies."""

from __future__ import annotations

import torch
from torch import nn

from tudsr.model.adapters import activate, adapter_parameters, add_adapter
from tudsr.model.base import Base, random_base
from tudsr.model.precision import freeze_in_half
from tudsr.profile import LoraSettings


def adapted() -> Base:
    """A small base whose adapter is not the identity."""
    base = random_base("smoke", 0)
    add_adapter(base.unet, "stage1", LoraSettings(rank=4), 0)
    activate(base.unet, "stage1")
    torch.manual_seed(0)
    for parameter in adapter_parameters(base.unet, "stage1"):
        nn.init.normal_(parameter, std=0.1)
    return base


def graph_of(base: Base) -> tuple[torch.Tensor, int, list[torch.Tensor]]:
    """The result on one picture, the bytes that its graph keeps, and the adapter's gradients."""
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        with torch.autocast("cpu", torch.bfloat16):
            result = base.restore(image, 200)
        result.float().square().sum().backward()
    own = {p.untyped_storage().data_ptr() for p in base.parameters()}
    size = sum(n for pointer, n in kept.items() if pointer not in own)
    grads = [p.grad for p in adapter_parameters(base.unet, "stage1")]
    return result.detach(), size, [g for g in grads if g is not None]


def test_what_is_frozen_is_rounded_once_and_what_is_trained_is_not():
    base = adapted()
    freeze_in_half(base)
    trained = {p.dtype for p in base.parameters() if p.requires_grad}
    layers = [m for m in base.unet.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    frozen = {m.weight.dtype for m in layers if not m.weight.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})
    norms = [m for m in base.unet.modules() if isinstance(m, nn.GroupNorm)]
    assert norms and all(m.weight.dtype == torch.float32 for m in norms)


def test_results_and_gradients_are_those_of_autocast_and_the_graph_is_smaller():
    usual, rounded = adapted(), adapted()
    freeze_in_half(rounded)
    (wanted, more, grads), (found, less, own) = graph_of(usual), graph_of(rounded)
    weights = [m.weight for m in rounded.unet.modules() if isinstance(m, nn.Conv2d)]
    copies = sum(2 * w.numel() for w in weights if not w.requires_grad)
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
    assert less <= more - copies // 2
    for g, w in zip(own, grads, strict=True):
        assert torch.linalg.vector_norm(g - w) <= 0.02 * torch.linalg.vector_norm(w)


def test_an_adapters_input_is_not_copied_to_single_precision():
    """Under autocast peft's own cast would be undone by the next one, at an activation each."""
    base = adapted()
    seen: list[torch.dtype] = []
    for module in base.unet.modules():
        if hasattr(module, "lora_A"):
            module.lora_A["stage1"].register_forward_pre_hook(  # pyright: ignore
                lambda _, given: seen.append(given[0].dtype)
            )
    with torch.autocast("cpu", torch.bfloat16):
        base.restore(torch.rand(1, 3, 32, 32), 200)
    assert torch.bfloat16 in seen
    base.restore(torch.rand(1, 3, 32, 32), 200)
    assert seen[-1] == torch.float32
