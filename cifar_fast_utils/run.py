"""What a training run is and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

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
    """Per pass over the images, or over the hardest of them: epoch, rate, train_loss, train_accuracy, test_accuracy,
    seconds on the train clock so far."""
    seconds: dict[str, float] = field(default_factory=dict)
    """The clocks: train, train_eval, cold."""
    accuracy: float | None = None
    tta_accuracy: float | None = None
    cross_entropy: float | None = None
    """Of the answers that were tested, with TTA where the recipe has it (see `cross_entropy_of`)."""
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

    def __enter__(self) -> Clock:
        synchronise(self.device)
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        synchronise(self.device)
        self.seconds += time.perf_counter() - self.start


def in_threads(number: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number} thread{'s' * (number > 1)}"


TABLE_HEAD = "  epoch     rate  train loss  train acc  test acc  seconds"


def table_row(row: dict[str, Any]) -> str:
    """One epoch of a run's history, under `TABLE_HEAD`."""
    test = "" if row["test_accuracy"] is None else f"{row['test_accuracy']:9.2%}"
    return (
        f"{row['epoch']:7.5g}  {row['rate']:7.4f}  {row['train_loss']:10.4f}  {row['train_accuracy']:9.2%} "
        f"{test:>9}  {row['seconds']:7.1f}"
    )


def summary(run: Run) -> str:
    """What a run reached, on what, and how fast."""
    seconds = run.seconds
    views = 2 * (1 + 2 * bool(run.recipe.tta_shift) + bool(run.recipe.tta_side))
    lines = {
        "test accuracy": f"{run.accuracy:.2%} on {run.dataset}",
        "with TTA": None if run.tta_accuracy is None else f"{run.tta_accuracy:.2%} on {run.dataset}, {views} views",
        "seconds": f"{seconds['train']:.1f} training, {seconds['train_eval']:.1f} with the final test, "
        f"{seconds['cold']:.1f} with the warm-up",
        "computed": f"{run.flops / 1e15:.4g} PFLOP in training, {run.flops / 1e9 / seconds['train']:,.0f} GFLOP/s",
        "machine": f"{run.device}, {in_threads(run.threads)}, {run.precision}",
    }
    return "\n" + "\n".join(f"  {key:22} {value}" for key, value in lines.items() if value is not None)
