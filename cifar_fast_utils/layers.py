"""The layers of the network that PyTorch does not have as we need them.

Notebooks 02 (the cast of weights), 03 (where the pool stands), 05 (CELU), 06 (ghost norm), 07 (frozen scales), 13
(images in rows), 14 (GELU).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UserError
from .recipe import Recipe
from .rows import ConvInRows, abreast

CLASSES = 10


class Conv(nn.Conv2d):
    """A convolution whose weights, and bias if it has one, are cast to the dtype of what comes in.

    float32 weights under bfloat16 activations are master weights: the optimiser's small updates are not rounded away.
    (b, c_in, h, w) → (b, c_out, h, w), where the kernel is square and odd, the padding, unless given, half of it, and
    the stride 1. Where `rows.abreast` says so, a 3 × 3 one is computed from rows of images (see `rows.ConvInRows`).
    `dirac`: the first c_in filters start by passing their channel on as it is.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        padding: int | None = None,
        bias: bool = False,
        dirac: bool = False,
        stride: int = 1,
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        super().__init__(c_in, c_out, kernel, stride=stride, padding=padding, bias=bias)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if dirac:
            nn.init.dirac_(self.weight.data[:c_in])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve in x's dtype."""
        weight, bias = self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        usual = (self.kernel_size, self.stride, self.padding) == ((3, 3), (1, 1), (1, 1))
        if usual and bias is None and (number := abreast(x)) > 1:
            out: Tensor = ConvInRows.apply(x, weight, number)
            return out
        return F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding)


class GhostBatchNorm(nn.Module):
    """Batch norm with statistics over each of `groups` equal parts of the batch; one group is plain batch norm.

    The noise of small batches regularises, whatever batch the optimiser likes. The running statistics move, by the
    momentum, towards the mean over groups of the groups' means and unbiased variances. Parameters and statistics
    stay float32 whatever comes in, and a channels-last tensor stays channels-last.

    Source: "Bag of Tricks", ghost batch norm; Hoffer et al., "Train longer, generalize better", 2017.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, groups: int = 1, freeze_scale: bool = False, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.groups, self.momentum, self.eps = groups, momentum, eps
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=not freeze_scale)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (b, c, h, w). Raises `UserError` in training if b is not a multiple of the groups."""
        if not self.training or self.groups == 1:
            return self._norm(x, self.running_mean, self.running_var, self.momentum)
        if len(x) % self.groups:
            raise UserError(f"a batch of {len(x)} cannot be split into {self.groups} equal ghost groups")
        means, variances = self.running_mean.new_zeros(2, self.groups, len(self.weight))
        # With a momentum of 1 PyTorch's own kernel leaves each group's statistics in `means` and `variances`.
        at_once = x.is_cuda and self.groups * x.shape[1] < 2**16  # cuDNN may not take more channels
        out = self._at_once(x, means, variances) if at_once else self._in_turn(x, means, variances)
        self.running_mean.lerp_(means.mean(0), self.momentum)
        self.running_var.lerp_(variances.mean(0), self.momentum)
        return out

    def _in_turn(self, x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
        """Group by group: slices of a channels-last tensor, so none is copied before the end."""
        parts = zip(x.chunk(self.groups), means, variances, strict=True)
        return torch.cat([self._norm(part, mean, variance, momentum=1.0) for part, mean, variance in parts])

    def _at_once(self, x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
        """All groups by one kernel, each group's channels beside the others': two copies, but few launches on a GPU.

        Source of the idea, groups as channels: the article's published code.
        """
        beside = x.permute(0, 2, 3, 1).unflatten(0, (self.groups, -1)).movedim(0, 3).flatten(3).permute(0, 3, 1, 2)
        weight, bias = self.weight.repeat(self.groups), self.bias.repeat(self.groups)
        out = F.batch_norm(beside, means.view(-1), variances.view(-1), weight, bias, True, 1.0, self.eps)
        apart: Tensor = out.permute(0, 2, 3, 1).unflatten(3, (self.groups, -1))
        return apart.movedim(3, 0).flatten(0, 1).permute(0, 3, 1, 2)

    def _norm(self, x: Tensor, mean: Tensor, variance: Tensor, momentum: float) -> Tensor:
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, momentum, self.eps)


class ConvBlock(nn.Module):
    """Conv, norm, activation and, if `pool`, a 2×2 max-pool where the recipe wants it.

    (b, c_in, s, s) → (b, c_out, s, s), or (b, c_out, ⌊s/2⌋, ⌊s/2⌋) with the pool.
    """

    def __init__(self, recipe: Recipe, c_in: int, c_out: int, pool: bool = False, kernel: int = 3) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, kernel, dirac=recipe.dirac)
        self.norm = GhostBatchNorm(
            c_out, recipe.ghost_groups, recipe.freeze_norm_scale, recipe.norm_momentum, recipe.norm_eps
        )
        self.pool = recipe.pool if pool else None
        activations: dict[str, Callable[[Tensor], Tensor]] = {
            "relu": F.relu,
            "celu": partial(F.celu, alpha=recipe.celu_alpha),
            "gelu": F.gelu,
        }
        self.activation = activations[recipe.activation]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, pooling before the norm, before the activation or after it."""
        x = self.conv(x)
        if self.pool == "before_norm":
            x = F.max_pool2d(x, 2)
        x = self.norm(x)
        if self.pool == "before_act":
            x = F.max_pool2d(x, 2)
        x = self.activation(x)
        return F.max_pool2d(x, 2) if self.pool == "after_act" else x
