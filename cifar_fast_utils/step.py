"""One training step: gradients, then the optimiser's move. On an NVIDIA GPU the gradients are a recorded CUDA graph.

Notebook 13.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lean import LeanNet
from .optimiser import WithMuon, set_rate
from .recipe import Recipe

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images and their targets → mean loss and logits; the gradients are left in the parameters."""
ONE_BY_ONE = 3
"""How many steps of a kind are launched kernel by kernel before one is recorded: in these cuDNN chooses its kernels,
and what must outlive a step, Muon's averages, is made."""


def gradients(
    network: nn.Module,
    optimiser: torch.optim.Optimizer | WithMuon,
    recipe: Recipe,
    loss_scale: float,
    images: Tensor,
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    """Leave the gradients of `loss_scale` times the mean loss in the parameters; give the mean loss and logits (b, 10).

    Where Muon takes the filters, their gradients are its directions.
    """
    logits = network(images)
    loss = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)
    optimiser.zero_grad()
    (loss * loss_scale).backward()
    if isinstance(optimiser, WithMuon):
        optimiser.muon.turn()
    return loss.detach(), logits.detach()


class Replay:
    """`step` on an NVIDIA GPU: its kernels are recorded once for each kind of step and from then on launched together.

    A GPU is through with the kernels of a small step before Python has launched them one by one. A kind is the shape,
    layout and dtype of images and targets, what is trained, and what else the caller names. What a step reads and
    changes (parameters, the norms' statistics, Muon's averages) must stay where it is in memory; the next step
    overwrites what is given back. Each kind keeps the memory of its step until the end. Source: CUDA graphs, in
    PyTorch's notes on CUDA semantics.
    """

    def __init__(self, step: Gradients, network: nn.Module) -> None:
        self.step, self.network, self.parameters = step, network, list(network.parameters())
        self.calls: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, tuple[Any, tuple[Tensor, Tensor], tuple[Tensor, Tensor], list[Any]]] = {}

    def __call__(self, kind: Hashable, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and logits of a step of that kind."""
        trained = tuple(parameter.requires_grad for parameter in self.parameters)
        key = (
            kind,
            self.network.training,
            trained,
            *((part.shape, part.stride(), part.dtype) for part in (images, target)),
        )
        self.calls[key] += 1
        if self.calls[key] <= ONE_BY_ONE:
            return self.step(images, target)
        if key not in self.recorded:
            self.recorded[key] = self._record(images, target)
        graph, inputs, outputs, grads = self.recorded[key]
        for place, part in zip(inputs, (images, target), strict=True):
            place.copy_(part)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad  # another kind's may have been there
        graph.replay()
        return outputs

    def _record(
        self, images: Tensor, target: Tensor
    ) -> tuple[Any, tuple[Tensor, Tensor], tuple[Tensor, Tensor], list[Any]]:
        """Its graph, where it reads, where it writes, and the gradients' places; nothing is computed yet."""
        inputs = torch.empty_like(images), torch.empty_like(target)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may well use the GPU
            outputs = self.step(*inputs)
        return graph, inputs, outputs, [parameter.grad for parameter in self.parameters]


def training_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer | WithMuon,
    recipe: Recipe,
    rate: float,
    loss_scale: float,
    images: Tensor,
    target: Tensor,
    replay: Replay | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser on a batch; its mean loss and its logits (b, 10), on the device.

    Images: normalised, (b, 3, side, side). Target: labels (b,) or probabilities (b, 10). The loss is multiplied by
    `loss_scale` for the gradients alone. `replay`: what records such steps of this network and this optimiser (see
    `replay_of`); the next step then overwrites what this one gives back.
    """
    set_rate(optimiser, rate)
    if replay is None:
        loss, logits = gradients(network, optimiser, recipe, loss_scale, images, target)
    else:
        loss, logits = replay(network.frozen if isinstance(network, LeanNet) else 0, images, target)
    if isinstance(optimiser, WithMuon):
        optimiser.move()
    else:
        optimiser.step()
    return loss, logits


def replay_of(
    network: nn.Module, optimiser: torch.optim.Optimizer | WithMuon, recipe: Recipe, loss_scale: float
) -> Replay | None:
    """For a network on an NVIDIA GPU, what records and replays its steps; None elsewhere.

    An AMD GPU is called `cuda` too. There a backward pass may hang while it is recorded, and nothing has been tried.
    """
    if not next(network.parameters()).is_cuda or torch.version.hip:
        return None
    return Replay(partial(gradients, network, optimiser, recipe, loss_scale), network)
