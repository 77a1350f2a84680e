"""What a training run is and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import nn

from .device import synchronise
from .recipe import Recipe


@dataclass
class Run:
    """A training run and what came of it. Accuracies are fractions of 1, on the test images."""

    recipe: Recipe
    """As it was trained: at the smoke scale shorter than asked for."""
    scale: str
    dataset: str
    dataset_digest: str
    seed: int
    precision: str
    device: str
    threads: int
    started: str
    flops: int
    """Counted floating-point operations of all training steps, forward and backward."""
    history: list[dict[str, float | None]] = field(default_factory=list)
    """Per epoch: epoch, rate, train_loss, train_accuracy, test_accuracy, seconds on the train clock so far."""
    seconds: dict[str, float] = field(default_factory=dict)
    """The clocks: train, train_eval, cold."""
    accuracy: float | None = None
    tta_accuracy: float | None = None
    network: nn.Module | None = None
    """The network that was tested: the averaged one where the recipe averages."""


class Stopped(Exception):  # noqa: N818 (no error: the user's wish)
    """Ctrl-C during training; `run` holds what was reached."""

    def __init__(self, run: Run, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.run = run


class Clock:
    """Sums the seconds spent inside its `with` blocks, on a device that may work asynchronously."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> None:
        synchronise(self.device)
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        synchronise(self.device)
        self.seconds += time.perf_counter() - self.start
