"""The bookkeeping of recorded steps, with a stand-in for the GPU: what is recorded when, and what a replay reads."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from cifar_fast_utils import step


class Graph:
    """Does, when replayed, what was noted while it was recorded."""

    noting: ClassVar[list["Graph"]] = []

    def __init__(self) -> None:
        self.work: Any = lambda: None
        Graph.noting = [self]

    def replay(self) -> None:
        self.work()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: nullcontext())
    return nn.Linear(3, 2)


def replay_of(network: nn.Module) -> step.Replay:
    """The sum of the images and the labels; the gradient of every trained parameter is the images' sum."""

    def compute(images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = images.sum(), target.clone()
        for parameter in network.parameters():
            parameter.grad = loss.to(parameter.dtype).expand_as(parameter).clone() if parameter.requires_grad else None
        grads = [parameter.grad for parameter in network.parameters()]

        def again() -> None:
            loss.copy_(images.sum())
            logits.copy_(target)
            for grad in grads:
                if grad is not None:
                    grad.fill_(images.sum())

        for graph in Graph.noting:
            graph.work = again
        Graph.noting = []
        return loss, logits

    return step.Replay(compute, network)


def test_every_step_sees_its_own_batch(network: nn.Module) -> None:
    replay = replay_of(network)
    for number in range(7):
        images, target = torch.full((2, 3), float(number)), torch.tensor([number, number + 1])
        loss, logits = replay(0, images, target)
        assert loss == 6 * number
        assert logits.tolist() == [number, number + 1]
        assert all(p.grad is not None and bool((p.grad == 6 * number).all()) for p in network.parameters())
        assert len(replay.recorded) == (number >= step.ONE_BY_ONE)


def test_kinds_are_recorded_apart_and_leave_their_own_gradients(network: nn.Module) -> None:
    replay = replay_of(network)
    *_, bias = network.parameters()
    labels = torch.tensor([0, 1])
    for number in range(12):
        bias.requires_grad_(number % 2 == 0)
        replay(0, torch.full((2, 3), float(number)), labels)
        assert (bias.grad is None) == (number % 2 == 1)
        if bias.grad is not None:
            assert bool((bias.grad == 6 * number).all())
    assert len(replay.recorded) == 2
    bias.requires_grad_(True)
    others = [
        (1, torch.zeros(2, 3), labels),
        (0, torch.zeros(2, 4), labels),
        (0, torch.zeros(3, 2).T, labels),
        (0, torch.zeros(2, 3, dtype=torch.float64), labels),
        (0, torch.zeros(2, 3), torch.zeros(2, 10)),
    ]
    for count, (kind, images, target) in enumerate(others, start=3):
        for _ in range(step.ONE_BY_ONE + 2):
            replay(kind, images, target)
        assert len(replay.recorded) == count


def test_on_a_processor_nothing_is_recorded() -> None:
    network = nn.Linear(3, 2)
    assert step.replay_of(network, torch.optim.SGD(network.parameters()), None, 1.0) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("hip", "records"), [(None, True), ("6.4", False)])
def test_steps_are_recorded_on_nvidias_gpus_alone(
    hip: str | None, records: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    there: Any = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(is_cuda=True)]))
    nothing: Any = None
    assert (step.replay_of(there, nothing, nothing, 1.0) is not None) == records
