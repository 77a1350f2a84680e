"""Convolutions of small images, laid side by side: for processors with matrix tiles (AMX).

Such a processor multiplies tiles: blocks of up to 16 rows of 64 bytes. For the filters' gradient oneDNN, which PyTorch
calls, fills a row of a tile with 32 bfloat16 numbers of one row of an image (its
`jit_avx512_core_amx_bwd_weights_kernel_t`). For the output, going by its timing, the rows of a tile are pixels of one
row of an image. An image 7 pixels wide fills a quarter of the former, and less than half of the latter; four
side by side, a column of zeros between, fill both. The zeros are the border that the convolution pads with anyway, so
the sums are the same, in another order.

Notebook 13.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from .device import instruction_sets

TILE = 32
"""How many bfloat16 numbers a row of an AMX tile holds: 64 bytes."""
NARROW = 7
"""The widest images whose output and own gradient are computed in rows too: two of them fit into a tile's 16 rows."""


@functools.cache
def has_tiles() -> bool:
    """Whether the processor multiplies matrices of bfloat16 by tiles."""
    return "amx_bf16" in instruction_sets()


def abreast(x: Tensor) -> int:
    """How many of the images x, (b, c, h, w), to lay beside one another: a divisor of b; 1 where it does not pay."""
    if not (x.is_cpu and x.dtype == torch.bfloat16 and has_tiles()):
        return 1
    most = TILE // (x.shape[3] + 1)
    return next((number for number in range(most, 1, -1) if len(x) % number == 0), 1)


def in_rows(x: Tensor, number: int) -> Tensor:
    """Images (b, c, h, w) → (b / number, c, h, number × (w + 1)), a column of zeros right of each; channels-last."""
    b, c, h, w = x.shape
    rows = x.new_empty(b // number, h, number, w + 1, c)
    rows[:, :, :, :w] = x.permute(0, 2, 3, 1).unflatten(0, (-1, number)).transpose(1, 2)
    rows[:, :, :, w] = 0
    return rows.flatten(2, 3).permute(0, 3, 1, 2)


def apart(rows: Tensor, number: int) -> Tensor:
    """The way back, (b / number, c, h, number × (w + 1)) → (b, c, h, w), without the columns between."""
    images: Tensor = rows.permute(0, 2, 3, 1).unflatten(2, (number, -1))[:, :, :, :-1]
    return images.transpose(1, 2).flatten(0, 1).permute(0, 3, 1, 2)


class ConvInRows(torch.autograd.Function):
    """`F.conv2d` with 3 × 3 filters, stride 1, a border of 1 and no bias.

    The filters' gradient is computed from rows of images; where the images are narrow, so are the output and theirs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, number: int) -> Tensor:
        """(b, c_in, h, w), (c_out, c_in, 3, 3) → (b, c_out, h, w); `number`: the images in a row, a divisor of b."""
        ctx.number, ctx.shape, ctx.narrow = number, x.shape, x.shape[3] <= NARROW
        if not ctx.narrow:
            ctx.save_for_backward(x, weight)
            return F.conv2d(x, weight, padding=1)
        rows = in_rows(x, number)
        ctx.save_for_backward(rows, weight)
        return apart(F.conv2d(rows, weight, padding=1), number)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients of x and of the filters, each where it is wanted."""
        x, weight = ctx.saved_tensors
        grads = in_rows(grad, ctx.number)
        of_x = of_weight = None
        if ctx.needs_input_grad[0] and ctx.narrow:  # a convolution with the filters turned by half a turn
            of_x = apart(F.conv2d(grads, weight.flip(2, 3).transpose(0, 1), padding=1), ctx.number)
        elif ctx.needs_input_grad[0]:
            of_x = conv2d_input(ctx.shape, weight, grad, padding=1)
        if ctx.needs_input_grad[1]:
            rows = x if ctx.narrow else in_rows(x, ctx.number)
            of_weight = conv2d_weight(rows, weight.shape, grads, padding=1)
        return of_x, of_weight, None
