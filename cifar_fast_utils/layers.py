"""The layers of the network that PyTorch does not have as we need them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UserError


class Conv(nn.Conv2d):
    """A convolution without bias, whose weights are cast to the dtype of what comes in.

    float32 weights under bfloat16 activations are master weights: the optimiser's small updates are not rounded away.
    (b, c_in, h, w) → (b, c_out, h, w): the kernel is square and odd, the padding half of it.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve in x's dtype."""
        return F.conv2d(x, self.weight.to(x.dtype), padding=self.padding)


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
        # PyTorch's own kernel, group by group: with a momentum of 1 it leaves each group's statistics in `means` and
        # `variances`. The groups are slices of a channels-last tensor, so none is copied before the last line.
        means, variances = self.running_mean.new_zeros(2, self.groups, len(self.weight))
        parts = zip(x.chunk(self.groups), means, variances, strict=True)
        out = torch.cat([self._norm(part, mean, variance, momentum=1.0) for part, mean, variance in parts])
        self.running_mean.lerp_(means.mean(0), self.momentum)
        self.running_var.lerp_(variances.mean(0), self.momentum)
        return out

    def _norm(self, x: Tensor, mean: Tensor, variance: Tensor, momentum: float) -> Tensor:
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, momentum, self.eps)
