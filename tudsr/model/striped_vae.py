"""Stable Diffusion's autoencoder in stripes of rows, equal to the whole one but for rounding.

Cutting pictures into tiles changes what an autoencoder makes, because its GroupNorms take their
statistics over the whole picture and its middle block attends to all of it. Here one layer goes
over all stripes before the next begins: convolutions see the rows they need beyond a stripe,
statistics are added up over all stripes in float64, and queries attend to all keys some rows at a
time. Nothing is estimated.

Between layers the features lie on ``store`` (the CPU), so the device holds a stripe of them; they
take 512 bytes a pixel there at SD's size in fp32, which is the price of exact statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

Layer = Callable[[Tensor], Tensor]


class StripedVae:
    """Encodes and decodes in stripes.

    Args:
        vae: the autoencoder; its weights are used where they are.
        rows: of a stripe, at every layer; even.
        store: where features lie between layers.
    """

    def __init__(
        self, vae: AutoencoderKL, rows: int = 64, store: str | torch.device = "cpu"
    ) -> None:
        self.vae, self.rows, self.store = cast("Any", vae), rows, torch.device(store)
        self.device = next(vae.parameters()).device

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] to (1, 8, H/8, W/8), mean and log variance of the latent."""
        encoder = self.vae.encoder
        x = self._conv(images.to(self.store), encoder.conv_in)
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self._resnet(x, resnet)
            for down in block.downsamplers or ():
                x = self._downsampled(x, down.conv)
        x = self._middle(x, encoder.mid_block)
        x = self._conv(x, encoder.conv_out, self._normalised(x, encoder.conv_norm_out))
        return self._by_rows(x, self.vae.quant_conv, 0)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(1, 4, h, w), scaled back, to (1, 3, 8h, 8w), about [-1, 1]."""
        decoder = self.vae.decoder
        x = self._by_rows(latents.to(self.store), self.vae.post_quant_conv, 0)
        x = self._middle(self._conv(x, decoder.conv_in), decoder.mid_block)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(x, resnet)
            for up in block.upsamplers or ():
                x = self._upsampled(x, up.conv)
        return self._conv(x, decoder.conv_out, self._normalised(x, decoder.conv_norm_out))

    def _middle(self, x: Tensor, block: Any) -> Tensor:
        x = self._resnet(x, block.resnets[0])
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                x = self._attended(x, attention)
            x = self._resnet(x, resnet)
        return x

    def _resnet(self, x: Tensor, block: Any) -> Tensor:
        """x + conv(silu(norm(conv(silu(norm(x)))))), each norm over the whole height."""
        inner = self._conv(x, block.conv1, self._normalised(x, block.norm1))
        outer = self._conv(inner, block.conv2, self._normalised(inner, block.norm2))
        shortcut = block.conv_shortcut or nn.Identity()
        for rows in self._stripes(x):
            outer[:, :, rows] += self._to_store(shortcut(self._on_device(x[:, :, rows])))
        return outer.div_(block.output_scale_factor)

    def _attended(self, x: Tensor, attention: Any) -> Tensor:
        """Self-attention over all pixels: keys and values whole, queries a stripe at a time."""
        heads, width = attention.heads, x.shape[3]
        norm = self._normalised(x, attention.group_norm, activate=False)

        def tokens(rows: slice) -> Tensor:
            return norm(self._on_device(x[:, :, rows])).flatten(2).transpose(1, 2)

        def split(y: Tensor) -> Tensor:
            return y.unflatten(2, (heads, -1)).transpose(1, 2)

        stripes = self._stripes(x)
        keys = torch.cat([split(attention.to_k(tokens(rows))) for rows in stripes], 2)
        values = torch.cat([split(attention.to_v(tokens(rows))) for rows in stripes], 2)
        out = torch.empty_like(x)
        for rows in stripes:
            queries = split(attention.to_q(tokens(rows)))
            seen = F.scaled_dot_product_attention(queries, keys, values, scale=attention.scale)
            seen = attention.to_out[0](seen.transpose(1, 2).flatten(2))
            made = self._to_store(seen.transpose(1, 2).unflatten(2, (-1, width)))
            out[:, :, rows] = (made + x[:, :, rows]) / attention.rescale_output_factor
        return out

    def _normalised(self, x: Tensor, norm: nn.GroupNorm, activate: bool = True) -> Layer:
        """The GroupNorm with statistics over all of ``x``, with SiLU after it."""
        sums = torch.zeros(2, x.shape[0], norm.num_groups, dtype=torch.float64)
        for rows in self._stripes(x):
            grouped = self._on_device(x[:, :, rows]).unflatten(1, (norm.num_groups, -1)).double()
            sums[0] += grouped.sum((2, 3, 4)).cpu()
            sums[1] += grouped.square().sum((2, 3, 4)).cpu()
        mean, square = sums / (x[0].numel() // norm.num_groups)
        deviation = (square - mean**2).clamp(min=0).add(norm.eps).sqrt()
        channels = x.shape[1] // norm.num_groups
        shift, gain = (
            s.repeat_interleave(channels, 1).to(self.device)[:, :, None, None]
            for s in (mean, 1 / deviation)
        )
        weight, bias = (cast(Tensor, p)[None, :, None, None] for p in (norm.weight, norm.bias))
        gain = gain.to(weight.dtype) * weight
        shift = bias - shift.to(weight.dtype) * gain

        def layer(part: Tensor) -> Tensor:
            normed = part * gain + shift
            return F.silu(normed) if activate else normed

        return layer

    def _conv(self, x: Tensor, conv: nn.Conv2d, before: Layer | None = None) -> Tensor:
        """A 3 x 3 convolution; beyond the picture lie zeros, as it pads them, after ``before``."""
        return self._by_rows(x, lambda part: conv(before(part) if before else part), 1)

    def _by_rows(self, x: Tensor, layer: Layer, reach: int) -> Tensor:
        """A layer of ``reach`` rows up and down, over all stripes."""
        parts: list[Tensor] = []
        for rows in self._stripes(x):
            top, bottom = max(0, rows.start - reach), min(x.shape[2], rows.stop + reach)
            made = layer(self._on_device(x[:, :, top:bottom]))
            parts.append(self._to_store(made[:, :, rows.start - top : rows.stop - top]))
        return torch.cat(parts, 2)

    def _downsampled(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """Stride 2 after a zero row below and a zero column at the right (diffusers' encoder)."""
        parts: list[Tensor] = []
        for rows in self._stripes(x):
            part = self._on_device(x[:, :, rows.start : rows.stop + 1])
            missing = int(rows.stop == x.shape[2])
            parts.append(self._to_store(conv(F.pad(part, (0, 1, 0, missing)))))
        return torch.cat(parts, 2)

    def _upsampled(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """Nearest neighbour by 2, then a 3 x 3 convolution."""
        parts: list[Tensor] = []
        for rows in self._stripes(x):
            top, bottom = max(0, rows.start - 1), min(x.shape[2], rows.stop + 1)
            wide = F.interpolate(self._on_device(x[:, :, top:bottom]), scale_factor=2.0)
            first = 2 * (rows.start - top)
            made = conv(wide)[:, :, first : first + 2 * (rows.stop - rows.start)]
            parts.append(self._to_store(made))
        return torch.cat(parts, 2)

    def _stripes(self, x: Tensor) -> list[slice]:
        height = x.shape[2]
        return [slice(top, min(top + self.rows, height)) for top in range(0, height, self.rows)]

    def _on_device(self, part: Tensor) -> Tensor:
        return part.to(self.device)

    def _to_store(self, part: Tensor) -> Tensor:
        return part.to(self.store)
