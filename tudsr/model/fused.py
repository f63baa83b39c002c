"""Two operations of the losses with backward passes of their own: the same values, less work.

On a CPU these were most of a training step: the gradient of a depthwise convolution is twenty
times as slow as its forward pass, and autograd's elementwise chain behind DISTS' statistics goes
through memory ten times (docs/log.md).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(x: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Filter each channel of (B, C, H, W) with one (k, k) kernel, as a depthwise ``conv2d``."""
    return cast(Tensor, _Blur.apply(x, kernel, stride, padding))


def paired_moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Per image and channel: means of x and y, variances of x and y, covariance; (B, C) float32.

    No gradient goes to ``y``.
    """
    return cast("tuple[Tensor, Tensor, Tensor, Tensor, Tensor]", _Moments.apply(x, y))


class _Blur(torch.autograd.Function):
    """The gradient is the same filter, turned, on the gradient spread over the strided places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        ctx.kernel, ctx.stride, ctx.padding, ctx.size = kernel, stride, padding, x.shape
        return _depthwise(x, kernel, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        grad, stride, last = grads[0], ctx.stride, ctx.kernel.shape[0] - 1
        if stride > 1:
            batch, channels, height, width = ctx.size
            grow = 2 * ctx.padding - last
            spread = grad.new_zeros(batch, channels, height + grow, width + grow)
            spread = spread.contiguous(memory_format=torch.channels_last)
            spread[:, :, ::stride, ::stride] = grad
            grad = spread
        turned = ctx.kernel.flip(0, 1)
        return _depthwise(grad, turned, 1, last - ctx.padding), None, None, None


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        mean_x, mean_y = _mean(x), _mean(y)
        xc, yc = x - mean_x, y - mean_y
        ctx.save_for_backward(xc, yc)
        ctx.dtype = x.dtype
        products = (xc * xc, yc * yc, xc * yc)
        return mean_x[:, :, 0, 0], mean_y[:, :, 0, 0], *(p.mean((2, 3)) for p in products)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        xc, yc = ctx.saved_tensors
        places = xc.shape[2] * xc.shape[3]
        mean, variance, covariance = ((g / places)[:, :, None, None] for g in grads[::2])
        grad = torch.addcmul(mean, xc, 2 * variance).addcmul_(yc, covariance)
        return grad.to(ctx.dtype), None


def _mean(x: Tensor) -> Tensor:
    dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
    return x.mean((2, 3), keepdim=True, dtype=dtype)


def _depthwise(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape).contiguous()
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])
