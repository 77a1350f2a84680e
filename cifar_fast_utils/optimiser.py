"""The optimiser's side of a recipe: learning rate, weight decay, averaging.

Notebooks 07 (the biases' rate), 09 (averaging) and 16 (Lookahead, Muon).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .recipe import Recipe

LARGE = 100_000
"""How many numbers make several iterations at a time pay, in a wide matrix on a CPU: below, calls cost most."""


def rate_at(recipe: Recipe, epoch: float) -> float:
    """The learning rate on the mean loss, linear between the recipe's knots."""
    epochs, rates = zip(*recipe.knots, strict=True)
    return float(np.interp(epoch, epochs, rates))


def build_optimiser(
    network: nn.Module, recipe: Recipe, loss_scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> torch.optim.SGD | WithMuon:
    """Nesterov SGD in two groups: the weights, and the norms' biases, whose rate and decay the recipe scales.

    What is frozen early has groups of its own. Where the recipe says so, Muon takes the convolutions' filters; it
    iterates in `dtype`, that of the images, if that is bfloat16, and else in float32.
    The gradients that come in are those of `loss_scale` times the mean loss. Dividing the rate by that (`set_rate`) and
    multiplying the decay leaves the update as it was.
    Source: "Bag of Tricks", frozen norm scales, for the biases.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    filters = {name: parameter for name, parameter in named if recipe.muon_factor and parameter.ndim == 4}
    # share: of the rate; end: the epoch at which it is frozen; fall: what `settle` multiplies the rate by.
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
    if not filters:
        return sgd
    ends: dict[float, list[nn.Parameter]] = {}
    for name, weight in filters.items():
        ends.setdefault(frozen_at(recipe, name), []).append(weight)
    groups = [{"params": ends[end], "share": recipe.muon_factor, "end": end, "fall": 1.0} for end in sorted(ends)]
    iterate_in = dtype if dtype == torch.bfloat16 else torch.float32  # a sum of squares may not fit into float16
    return WithMuon(sgd, Muon(groups, recipe.muon_momentum, iterate_in))


def frozen_at(recipe: Recipe, name: str) -> float:
    """The epoch at which a parameter of the network is frozen: the recipe's last, unless its block is frozen sooner."""
    first, _, rest = name.partition(".")
    if first != "blocks":
        return recipe.epochs
    block = int(rest.partition(".")[0])
    return min([recipe.epochs, *(epoch for epoch, blocks in recipe.frozen if blocks > block)])


def as_matrix(filters: Tensor) -> Tensor:
    """A convolution's filters (c_out, c_in, k, k) as a matrix (c_out, c_in k²), a filter a row: a view, no copy."""
    if not filters.is_contiguous():
        filters = filters.permute(0, 2, 3, 1)  # channels-last: their order in memory
    return filters.view(len(filters), -1)


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix (rows, columns) with all singular values but the tiny ones near 1, by five iterations in `dtype`.

    Between 0.68 and 1.21: the polynomial is one that rises fast from zero, not one that ends at 1.
    Source: K. Jordan, Muon, 2024, Newton–Schulz iteration and its three coefficients.
    """
    tall = len(matrix) > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    at_a_time = x.is_cpu and x.numel() >= LARGE and x.shape[1] >= 2 * len(x)
    for times in (3, 2) if at_a_time else (1, 1, 1, 1, 1):
        x = iterated(x, times)
    return x.T if tall else x


def iterated(x: Tensor, times: int) -> Tensor:
    """A matrix (rows, columns) after so many Newton–Schulz iterations, which multiply it by a polynomial p of G = x xᵀ.

    They turn this Gram matrix G into p(G) G p(G). So where x is wide, it costs less to do several on G alone, and to
    multiply x once by the product of all p(G). Three at most: the rounding of G in bfloat16 turns its smallest
    eigenvalues into negative ones, and these grow fastest.
    Source: Zhang et al., "Gram Newton–Schulz", 2026.
    """
    first, second, third = 3.4445, -4.7750, 2.0315
    gram = x @ x.T
    p = torch.addmm(gram, gram, gram, beta=second, alpha=third)  # without its first term
    if times == 1:
        return torch.addmm(x, p, x, beta=first)
    p.diagonal().add_(first)
    product = p
    for _ in range(times - 1):
        gram = p @ gram @ p
        p = torch.addmm(gram, gram, gram, beta=second, alpha=third)
        p.diagonal().add_(first)
        product = p @ product
    return product @ x


class Muon(torch.optim.Optimizer):
    """Orthogonalised steps for convolutions' filters (c_out, c_in, k, k), each layer's seen as a matrix.

    A step's gradient, averaged over some steps with Nesterov's momentum, is replaced by the nearest matrix whose
    singular values are all about 1, so that no direction is left behind. Before it, each layer's filters are scaled to
    a norm of √c_out, that of such a matrix unless it is tall (`move` makes up for that): the rate then is the step's
    length as a share of what it changes, and decay has no work left to do.

    PyTorch's own, since 2.9, takes matrices alone and always iterates in bfloat16, which a processor without
    instructions for it emulates, so slowly that a whole step can take twice as long or more (`muon_bfloat16_cost` of
    `cifar-fast bench`).
    Source: K. Jordan, Muon, 2024, and its use in airbench94_muon.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float, dtype: torch.dtype) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.momentum, self.dtype = momentum, dtype
        self.filters: list[nn.Parameter] = [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def turn(self) -> None:
        """Scale the filters, and put the direction of their step in the gradient's place; those without one are frozen.

        Split from `move` for its many small products, which a GPU does best without Python in between (see `Replay`).
        """
        for weight in self.filters:
            if weight.grad is None:
                continue
            matrix, turned = as_matrix(weight), torch.empty_like(weight)
            gradient = as_matrix(turned.copy_(weight.grad))  # in the weights' order in memory
            if weight not in self.state:
                self.state[weight]["average"] = torch.zeros_like(gradient)
            average = self.state[weight]["average"].lerp_(gradient, 1 - self.momentum)
            gradient.copy_(orthogonalise(gradient.lerp(average, self.momentum), self.dtype))  # Nesterov's
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
            weight.grad = turned

    @torch.no_grad()
    def move(self) -> None:
        """Move the filters along what `turn` left in place of their gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    rows, columns = as_matrix(weight).shape
                    longer = max(1.0, rows / columns) ** 0.5  # a tall matrix has fewer singular values than rows
                    weight.add_(weight.grad, alpha=-group["lr"] * longer)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """`turn`, then `move`."""
        self.turn()
        self.move()


class WithMuon:
    """Muon for the filters, SGD for the rest; to a training loop, one optimiser."""

    def __init__(self, sgd: torch.optim.SGD, muon: Muon) -> None:
        self.sgd, self.muon, self.filters = sgd, muon, muon.filters
        self.param_groups = [*sgd.param_groups, *muon.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.sgd.zero_grad()
        self.muon.zero_grad()

    def step(self) -> None:
        """Let both take a step."""
        self.muon.turn()
        self.move()

    def move(self) -> None:
        """The rest of a step whose filters' gradients are directions already."""
        self.muon.move()
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
        if group["end"] == recipe.epochs:  # never frozen: its rate is the schedule's, to the last bit
            continue
        if rate == 0 or group["end"] == 0:  # over, or frozen from the start, as in a recipe cut short
            group["fall"] = 0.0
        else:
            group["fall"] = rate_at(recipe, epoch * recipe.epochs / group["end"]) / rate


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

    Source: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", 2019; hlb-CIFAR10's schedule.
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
