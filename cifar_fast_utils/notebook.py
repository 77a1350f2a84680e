"""What the notebooks call: where am I, on what; train rungs side by side; show what was recorded.

A lesson trains for a few minutes: the article's own lengths on a GPU, a part of them on a CPU, and at the smoke scale
hardly at all, which is how the tests run it. `CIFAR_FAST_SCALE` sets the scale from outside.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from IPython.display import Markdown, display
from tqdm import tqdm

from .bench import a_step
from .beside import beside
from .data import Dataset, load
from .device import (
    DEVICE_VARIABLE,
    Scale,
    choose_device,
    choose_precision,
    choose_scale,
    device_name,
    keep_freed_memory,
    unused_gpu,
)
from .errors import memory_named
from .excerpts import excerpts
from .experiment import Job
from .files import stamp
from .ledger import Record, Setting, readable
from .ledger import results_folder as results_folder
from .network import run_flops
from .recipe import Recipe, get, with_epochs
from .record import current_commit, to_record
from .report import where
from .run import Clock, Run
from .tables import markdown
from .train import count_flops, recipe_at, train

SCALE_VARIABLE = "CIFAR_FAST_SCALE"
CPU_EPOCHS = 2.0
"""A lesson's length on a CPU."""
MIME = "application/vnd.cifar-fast+json"
"""Under which the provenance of a page travels with its outputs."""
AFTER_A_RESET = (
    "Where a later cell finds a name not defined, the runtime was reset, or a cell before it\n"
    "was stopped: run all cells again, from here on."
)
LESS = f"shut down what else is running, other notebooks too, or set {SCALE_VARIABLE}=small or {DEVICE_VARIABLE}=cpu"
TOO_LONG = 10
"""Nobody should start a training of more minutes without being told."""


@dataclass(frozen=True)
class Lesson:
    """A notebook at work: its data, its device, its scale, and how fast that goes."""

    dataset: Dataset
    scale: Scale
    device: torch.device
    precision: str
    flops_per_second: float
    """Of a training step of `final`, measured once."""

    def recipe(self, name: str, article: bool = False) -> Recipe:
        """The recipe at a lesson's length, or, if asked for, at the article's; `NAME@EPOCHS` is taken at its word."""
        recipe = get(name)
        short = self.device.type == "cpu" and self.scale.epochs is None and not article and "@" not in name
        return recipe_at(self.scale, with_epochs(recipe, CPU_EPOCHS) if short else recipe)

    def minutes(self, recipes: Sequence[Recipe]) -> float:
        """What training these takes here, by their counted FLOPs; a DataLoader's work comes on top of it."""
        n = len(self.dataset.train_labels[: self.scale.train_images])
        flops = sum(run_flops(r, self.scale.width, n // r.batch_size) for r in recipes)
        return flops / self.flops_per_second / 60

    def race(self, *names: str, seed: int = 0, article: bool = False) -> dict[str, Run]:
        """Train these recipes one after the other, with a bar each, and show what came of it.

        `article=True` asks for the article's lengths. Where it will take long, it says so first, and what would be
        shorter. Raises what `train` does; if it is broken off, what was done so far is shown.
        """
        recipes = {name: self.recipe(name, article) for name in names}
        expected = self.minutes(list(recipes.values()))
        if expected > TOO_LONG:
            print(
                f"This takes about {expected:.0f} minutes here. To see it work in a minute, interrupt it, and start "
                f"the notebook with {SCALE_VARIABLE}=smoke, or `start(…, scale='smoke')`."
            )
        _warm_up(self, next(iter(recipes.values())))
        runs: dict[str, Run] = {}
        how: dict[str, Any] = {"scale": self.scale, "device": self.device.type, "precision": self.precision}
        try:
            for name, recipe in recipes.items():
                with memory_named(LESS):
                    runs[name] = train(recipe, self.dataset, **how, seed=seed, test_each_epoch=False)
        finally:  # stopped on the way, it shows what is done
            if runs:
                display(Markdown(race_table(runs)))
        return runs

    def beside(self, run: Run) -> None:
        """Your run against the book: show it beside the recorded runs that it can be compared with."""
        display(Markdown(beside(to_record(run, None), recorded())))


@lru_cache(maxsize=1)  # of one lesson: each holds its images
def _warm_up(lesson: Lesson, recipe: Recipe) -> None:
    """So that the first run's clock leaves out the start-up; a race that begins with the same recipe needs no other."""
    with tqdm(total=1, desc="a warm-up, thrown away", leave=False):
        Job(lesson.dataset, lesson.scale, lesson.device.type, lesson.precision).warm_up(recipe)


def start(*names: str, scale: str | None = None) -> Lesson:
    """Find the device, the data and the scale, and say so in a line, with the minutes that the lesson's runs take.

    `names` are the recipes that the notebook trains.
    """
    keep_freed_memory()
    with tqdm(total=3, desc="device, images, a few steps to see how fast", leave=False) as bar:
        device = choose_device()
        chosen = choose_scale(scale or os.environ.get(SCALE_VARIABLE) or "auto", device)
        precision = choose_precision("auto", device)
        bar.update()
        dataset = load("auto")
        bar.update()
        with memory_named(LESS):
            lesson = Lesson(dataset, chosen, device, precision, measured_speed(chosen, device, precision))
    minutes = lesson.minutes([lesson.recipe(name) for name in names])
    facts = {
        "dataset": dataset.name, "scale": chosen.name, "device": device_name(device), "precision": precision,
        "torch": torch.__version__, "commit": current_commit(), "date": date.today().isoformat(),
    }  # fmt: skip
    lines = [
        str(facts["device"]),
        f"{precision}; PyTorch {torch.__version__}",
        f"{dataset.name} at the {chosen.name} scale; {facts['date']}"
        + (f"; about {max(minutes, 0.1):.2g} minutes of training" if names else ""),
        AFTER_A_RESET,
    ]
    if "google.colab" in sys.modules and not torch.cuda.is_available() and not os.environ.get(DEVICE_VARIABLE):
        lines.append("No GPU: Runtime → Change runtime type → T4 GPU, then run all cells again.")
    elif hint := unused_gpu():
        lines += textwrap.wrap(f"The GPU is not used: {hint}.", 90)
    display({"text/plain": "\n".join(lines), MIME: facts}, raw=True)
    return lesson


def measured_speed(scale: Scale, device: torch.device, precision: str) -> float:
    """FLOPs per second of a training step of `final`: the best of three, after one that warms up.

    On an NVIDIA GPU a training replays its steps (`step.Replay`), which this does not: there the minutes of `final`
    come out too long. The lean network's come out too short: its steps are smaller, and Muon's work is not counted.
    """
    recipe = get("final")
    step = a_step(recipe, precision, scale.width, device)
    times = []
    for _ in range(4):
        with Clock(device) as clock:
            step()
        times.append(clock.seconds)
    return count_flops(recipe, scale.width) / min(times[1:])


def race_table(runs: dict[str, Run]) -> str:
    """The runs' accuracies, seconds and FLOPs, as Markdown."""
    head = ["rung", "epochs", "seed", "accuracy", "with TTA", "train s", "PFLOP"]
    lines = [
        [
            f"`{run.recipe.name}`",
            f"{run.recipe.epochs:g}",
            str(run.seed),
            f"{100 * (run.accuracy or 0):.2f}",
            "" if run.tta_accuracy is None else f"{100 * run.tta_accuracy:.2f}",
            f"{run.seconds['train']:.1f}",
            f"{run.flops / 1e15:.3g}",
        ]
        for run in runs.values()
    ]
    first = next(iter(runs.values()))
    setting = Setting(first.dataset, first.dataset_digest, first.scale, first.device, first.precision)
    return f"{where(setting)}; accuracy in percent, one run each.\n\n{markdown(head, lines)}"


@lru_cache(maxsize=1)
def _read(folder: Path, version: str) -> list[Record]:
    return readable(folder)


def recorded() -> list[Record]:
    """All the recorded runs of the book. They are read anew only if a file has changed: that takes a second or two."""
    folder = results_folder()
    return _read(folder, stamp(folder, sorted(folder.glob("*.jsonl"))))


def evidence(*rungs: str, plan: str | None = None) -> None:
    """Show what the recorded runs say of these rungs, as by `excerpts`."""
    for part in excerpts(recorded(), results_folder(), rungs, plan):
        display(Markdown(part))


def provenance(outputs: Sequence[Any]) -> dict[str, Any] | None:
    """What `start` left in a cell's stored outputs."""
    return next((o["data"][MIME] for o in outputs if MIME in o.get("data", {})), None)
