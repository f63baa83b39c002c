"""Stable Diffusion's autoencoder in stripes of rows, equal to the whole one but for rounding.

Cutting pictures into tiles changes what an autoencoder makes, because its GroupNorms take their
statistics over the whole picture and its middle block attends to all of it. Here one layer goes
over all stripes before the next begins: convolutions see the rows they need beyond a stripe,
statistics are added up over all stripes in float64, and queries attend to all keys some rows at a
time. Nothing is estimated.

Between layers the features lie on canvases, files where they are large: 1 KB a pixel at SD's size,
twice, which is the price of exact statistics. Memory holds a stripe, and the attention's keys and
values: 64 bytes a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from tudsr.images.canvas import Canvas

Layer = Callable[[Tensor], Tensor]


class StripedVae:
    """Encodes and decodes in stripes.

    Args:
        vae: the autoencoder; its weights are used where they are.
        rows: of a stripe, at every layer; even.
        folder: for features between layers; see `Canvas`.
    """

    def __init__(self, vae: AutoencoderKL, rows: int = 64, folder: Path | None = None) -> None:
        self.vae, self.rows, self.folder = cast("Any", vae), rows, folder
        self.device = next(vae.parameters()).device

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] to (1, 8, H/8, W/8), mean and log variance of the latent."""
        encoder = self.vae.encoder
        x = self._through(self._canvas_of(images), self._conv, encoder.conv_in)
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self._resnet(x, resnet)
            for down in block.downsamplers or ():
                x = self._through(x, self._downsampled, down.conv)
        x = self._middle(x, encoder.mid_block)
        x = self._through(x, self._normalised_conv, encoder.conv_norm_out, encoder.conv_out)
        return self._tensor_of(self._through(x, self._by_rows, self.vae.quant_conv, 0))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(1, 4, h, w), scaled back, to (1, 3, 8h, 8w), about [-1, 1]."""
        decoder = self.vae.decoder
        x = self._through(self._canvas_of(latents), self._by_rows, self.vae.post_quant_conv, 0)
        x = self._middle(self._through(x, self._conv, decoder.conv_in), decoder.mid_block)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(x, resnet)
            for up in block.upsamplers or ():
                x = self._through(x, self._upsampled, up.conv)
        x = self._through(x, self._normalised_conv, decoder.conv_norm_out, decoder.conv_out)
        return self._tensor_of(x)

    def _through(self, x: Canvas, layer: Callable[..., Canvas], *parts: Any) -> Canvas:
        """A layer's result; what went in is given back."""
        with closing(x):
            return layer(x, *parts)

    def _middle(self, x: Canvas, block: Any) -> Canvas:
        x = self._resnet(x, block.resnets[0])
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                x = self._through(x, self._attended, attention)
            x = self._resnet(x, resnet)
        return x

    def _resnet(self, x: Canvas, block: Any) -> Canvas:
        """x + conv(silu(norm(conv(silu(norm(x)))))), each norm over the whole height."""
        with closing(x):
            inner = self._normalised_conv(x, block.norm1, block.conv1)
            outer = self._through(inner, self._normalised_conv, block.norm2, block.conv2)
            shortcut = block.conv_shortcut or nn.Identity()
            for rows in self._stripes(x):
                made = self._rows(outer, rows) + shortcut(self._rows(x, rows))
                _put(outer, rows, made / block.output_scale_factor)
            return outer

    def _attended(self, x: Canvas, attention: Any) -> Canvas:
        """Self-attention over all pixels: keys and values whole, queries a stripe at a time."""
        heads, width = attention.heads, x.shape[1]
        norm = self._norm(x, attention.group_norm, activate=False)

        def tokens(rows: slice) -> Tensor:
            return norm(self._rows(x, rows)).flatten(2).transpose(1, 2)

        def split(y: Tensor) -> Tensor:
            return y.unflatten(2, (heads, -1)).transpose(1, 2)

        stripes = self._stripes(x)
        keys = torch.cat([split(attention.to_k(tokens(rows))) for rows in stripes], 2)
        values = torch.cat([split(attention.to_v(tokens(rows))) for rows in stripes], 2)

        def attend(rows: slice) -> Tensor:
            queries = split(attention.to_q(tokens(rows)))
            seen = F.scaled_dot_product_attention(queries, keys, values, scale=attention.scale)
            seen = attention.to_out[0](seen.transpose(1, 2).flatten(2))
            made = seen.transpose(1, 2).unflatten(2, (-1, width))
            return (made + self._rows(x, rows)) / attention.rescale_output_factor

        return self._collected(x.shape[0], map(attend, stripes))

    def _norm(self, x: Canvas, norm: nn.GroupNorm, activate: bool = True) -> Layer:
        """The GroupNorm with statistics over all of ``x``, with SiLU after it."""
        sums = torch.zeros(2, 1, norm.num_groups, dtype=torch.float64)
        for rows in self._stripes(x):
            grouped = self._rows(x, rows).unflatten(1, (norm.num_groups, -1)).double()
            sums[0] += grouped.sum((2, 3, 4)).cpu()
            sums[1] += grouped.square().sum((2, 3, 4)).cpu()
        mean, square = sums / (prod(x.shape) // norm.num_groups)
        deviation = (square - mean**2).clamp(min=0).add(norm.eps).sqrt()
        channels = x.shape[2] // norm.num_groups
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

    def _normalised_conv(self, x: Canvas, norm: nn.GroupNorm, conv: nn.Conv2d) -> Canvas:
        before = self._norm(x, norm)
        return self._by_rows(x, lambda part: conv(before(part)), 1)

    def _conv(self, x: Canvas, conv: nn.Conv2d) -> Canvas:
        """A 3 x 3 convolution; beyond the picture lie zeros, as it pads them."""
        return self._by_rows(x, conv, 1)

    def _by_rows(self, x: Canvas, layer: Layer, reach: int) -> Canvas:
        """A layer of ``reach`` rows up and down, over all stripes."""

        def made(rows: slice) -> Tensor:
            top, bottom = max(0, rows.start - reach), min(x.shape[0], rows.stop + reach)
            part = layer(self._rows(x, slice(top, bottom)))
            return part[:, :, rows.start - top : rows.stop - top]

        return self._collected(x.shape[0], map(made, self._stripes(x)))

    def _downsampled(self, x: Canvas, conv: nn.Conv2d) -> Canvas:
        """Stride 2 after a zero row below and a zero column at the right (diffusers' encoder)."""

        def made(rows: slice) -> Tensor:
            part = self._rows(x, slice(rows.start, min(rows.stop + 1, x.shape[0])))
            return conv(F.pad(part, (0, 1, 0, int(rows.stop == x.shape[0]))))

        return self._collected(x.shape[0] // 2, map(made, self._stripes(x)))

    def _upsampled(self, x: Canvas, conv: nn.Conv2d) -> Canvas:
        """Nearest neighbour by 2, then a 3 x 3 convolution."""

        def made(rows: slice) -> Tensor:
            top, bottom = max(0, rows.start - 1), min(x.shape[0], rows.stop + 1)
            wide = F.interpolate(self._rows(x, slice(top, bottom)), scale_factor=2.0)
            first = 2 * (rows.start - top)
            return conv(wide)[:, :, first : first + 2 * (rows.stop - rows.start)]

        return self._collected(2 * x.shape[0], map(made, self._stripes(x)))

    def _stripes(self, x: Canvas) -> list[slice]:
        height = x.shape[0]
        return [slice(top, min(top + self.rows, height)) for top in range(0, height, self.rows)]

    def _rows(self, x: Canvas, rows: slice) -> Tensor:
        """Rows of a canvas on the device, (1, C, k, W)."""
        return torch.from_numpy(x[rows]).permute(2, 0, 1)[None].to(self.device)

    def _collected(self, height: int, parts: Iterator[Tensor]) -> Canvas:
        """Stripes from top to bottom, as one canvas."""
        first = next(parts)
        out, top = Canvas(height, first.shape[3], self.folder, first.shape[1]), 0
        for part in chain([first], parts):
            _put(out, slice(top, top + part.shape[2]), part)
            top += part.shape[2]
        return out

    def _canvas_of(self, x: Tensor) -> Canvas:
        return self._collected(x.shape[2], iter([x]))

    def _tensor_of(self, x: Canvas) -> Tensor:
        with closing(x):
            return self._rows(x, slice(None))


def _put(x: Canvas, rows: slice, part: Tensor) -> None:
    x[rows] = part[0].permute(1, 2, 0).float().cpu().numpy()
