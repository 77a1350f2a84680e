"""The optimiser's side of a recipe: learning rate, weight decay, averaging."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .recipe import Recipe


def rate_at(recipe: Recipe, epoch: float) -> float:
    """The learning rate on the mean loss, linear between the recipe's knots."""
    epochs, rates = zip(*recipe.knots, strict=True)
    return float(np.interp(epoch, epochs, rates))


def build_optimiser(network: nn.Module, recipe: Recipe, loss_scale: float = 1.0) -> torch.optim.SGD:
    """Nesterov SGD in two groups: the weights, and the norms' biases, whose rate and decay the recipe scales.

    The gradients it will see are those of `loss_scale` times the mean loss. Dividing the rate by that (`set_rate`) and
    multiplying the decay leaves the update as it was. Source: "Bag of Tricks", frozen norm scales, for the biases.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [
                parameter for name, parameter in named if (name.endswith("bias") and name != "whiten.bias") == biases
            ],
            "weight_decay": recipe.weight_decay * loss_scale / factor,
            "share": factor / loss_scale,
        }
        for biases, factor in ((False, 1), (True, recipe.bias_factor))
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate on the mean loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]


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
