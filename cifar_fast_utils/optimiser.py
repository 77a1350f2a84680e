"""The optimiser's side of a recipe: learning rate, weight decay, averaging."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .errors import UserError
from .recipe import Recipe


def rate_at(recipe: Recipe, epoch: float) -> float:
    """The learning rate on the mean loss, linear between the recipe's knots."""
    epochs, rates = zip(*recipe.knots, strict=True)
    return float(np.interp(epoch, epochs, rates))


def build_optimiser(network: nn.Module, recipe: Recipe, loss_scale: float = 1.0) -> torch.optim.SGD | WithMuon:
    """Nesterov SGD in two groups: the weights, and the norms' biases, whose rate and decay the recipe scales.

    What is frozen early makes groups of its own. Where the recipe says so, Muon takes the convolutions' filters.
    The gradients it will see are those of `loss_scale` times the mean loss. Dividing the rate by that (`set_rate`) and
    multiplying the decay leaves the update as it was.
    Source: "Bag of Tricks", frozen norm scales, for the biases. Raises `UserError` where PyTorch has no Muon.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    filters = {name: parameter for name, parameter in named if recipe.muon_factor and parameter.ndim == 4}
    groups: list[dict[str, Any]] = [
        {
            "params": [
                parameter
                for name, parameter in named
                if (name.endswith("bias") and name != "whiten.bias") == biases
                and frozen_at(recipe, name) == end
                and name not in filters
            ],
            "weight_decay": recipe.weight_decay * loss_scale / factor,
            "share": factor / loss_scale,
            "end": end,
            "fall": 1.0,
        }
        for end in sorted({frozen_at(recipe, name) for name, _ in named})
        for biases, factor in ((False, 1), (True, recipe.bias_factor))
    ]
    sgd = torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=True)
    return WithMuon(sgd, filters, recipe) if filters else sgd


def frozen_at(recipe: Recipe, name: str) -> float:
    """The epoch from which on a parameter of the network is frozen; the recipe's last, unless its block is."""
    first, _, rest = name.partition(".")
    if first != "blocks":
        return recipe.epochs
    block = int(rest.partition(".")[0])
    return min((epoch for epoch, blocks in recipe.frozen if blocks > block), default=recipe.epochs)


def as_matrix(filters: Tensor) -> Tensor:
    """A convolution's filters (c_out, c_in, k, k) as a matrix (c_out, c_in k²), a filter a row: a view, no copy."""
    if not filters.is_contiguous():
        filters = filters.permute(0, 2, 3, 1)  # channels-last: in this order they lie in memory
    return filters.view(len(filters), -1)


class WithMuon:
    """SGD for all but the filters, which take orthogonalised steps; to a training loop, one optimiser.

    A step's gradient, averaged over some steps, is replaced by the nearest matrix whose singular values are all about
    1, so that no direction is left behind. Before it, each layer's filters are scaled to a norm of √c_out, that of
    such a matrix: the rate then is the step's length as a share of what it changes, and decay has no work left to do.

    Source: K. Jordan, Muon, 2024, and its use in airbench94_muon; PyTorch's Muon takes matrices alone.
    """

    def __init__(self, sgd: torch.optim.SGD, filters: dict[str, nn.Parameter], recipe: Recipe) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(
                f"PyTorch {torch.__version__} has no Muon, which '{recipe.name}' needs: install 2.9 or newer"
            )
        self.sgd = sgd
        self.filters = list(filters.values())
        self.matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.filters]
        ends = [frozen_at(recipe, name) for name in filters]
        groups = [
            {
                "params": [matrix for matrix, its in zip(self.matrices, ends, strict=True) if its == end],
                "share": recipe.muon_factor,
                "end": end,
                "fall": 1.0,
            }
            for end in sorted(set(ends))
        ]
        self.muon = torch.optim.Muon(groups, lr=0.0, weight_decay=0.0, momentum=recipe.muon_momentum)
        self.param_groups = [*self.sgd.param_groups, *self.muon.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.sgd.zero_grad()
        for weight in self.filters:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Scale the filters, then let both optimisers take a step."""
        for weight, matrix in zip(self.filters, self.matrices, strict=True):
            if weight.grad is None:  # frozen
                matrix.grad = None
                continue
            matrix.grad = as_matrix(torch.empty_like(weight).copy_(weight.grad))  # in the weights' order in memory
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        self.muon.step()
        self.sgd.step()


def set_rate(optimiser: torch.optim.Optimizer | WithMuon, rate: float) -> None:
    """Give each group its share of the rate on the mean loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"] * group["fall"]


def settle(optimiser: torch.optim.Optimizer | WithMuon, recipe: Recipe, epoch: float) -> None:
    """Let the rate of what is frozen early fall to the schedule's end by then, as the others' does by the last epoch.

    Source: Brock et al., "FreezeOut", 2017.
    """
    rate = rate_at(recipe, epoch)
    for group in optimiser.param_groups:
        moves = rate and group["end"]  # what is frozen from the start, as in a recipe cut short, has no schedule
        group["fall"] = rate_at(recipe, epoch * recipe.epochs / group["end"]) / rate if moves else 0.0


def build_average(network: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The exponential moving average of the whole state, running statistics included, or None without EMA.

    To be updated every `ema_every` steps; its momentum is per step. Source: "Bag of Tricks", averaging of weights.
    """
    if not recipe.ema_every:
        return None
    decay = recipe.ema_momentum**recipe.ema_every
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


class Lookahead:
    """A slow copy of the network's whole state, to which the network is pulled back every few steps.

    Source: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", 2019; the schedule is airbench's.
    """

    def __init__(self, network: nn.Module) -> None:
        self.slow = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, keep: float) -> None:
        """Move the copy towards the network by 1 − `keep`, and set the network to it."""
        for name, value in network.state_dict().items():
            self.slow[name].lerp_(value, 1 - keep)
            value.copy_(self.slow[name])


def lookahead_keep(done: float) -> float:
    """What the slow copy keeps of itself when a fraction `done` of the steps is done: more and more."""
    return float(0.95**5 * done**3)
