"""Where the time of a training run goes: data, forward, backward, optimiser, evaluation; for each rung."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from .augment import steps_in_epoch
from .data import Dataset
from .device import PRECISIONS, Scale, keep_freed_memory
from .epochs import epochs_of
from .errors import UserError
from .evaluate import evaluate
from .network import build_network, count_flops, whitening_layer
from .optimiser import build_average, build_optimiser, set_rate
from .recipe import LADDER, Recipe, get
from .record import here
from .run import Clock, in_threads
from .tables import markdown
from .train import as_seen, data_at, recipe_at

PHASES = ("data", "forward", "backward", "optimiser", "evaluation")
RATE = 1e-3
"""Small: the networks are not trained here, only timed."""


def shares_of(
    recipe: Recipe, dataset: Dataset, width: int, device: torch.device, precision: str, steps: int
) -> dict[str, float]:
    """Seconds that each phase takes of a whole run of a rung, and `flops_per_image`, forward and backward.

    `forward` includes the loss, `optimiser` the averaging, `data` the preprocessing, the whitening and the batches: an
    epoch of them made without training, or, from a DataLoader, the mean wait. (It works ahead in processes of its own:
    most waits are nothing, some are long. What these processes take of shared cores shows in the other phases.) The
    others are medians over `steps` steps, times the steps of the run, and one final test. A GPU's kernels are launched
    one by one here; in a training they are not (see `step.Replay`). Raises `UserError` for a recipe of Part II,
    which is no rung of the ladder.
    """
    if recipe.network == "lean":
        raise UserError(f"the shares are measured for the ladder's rungs, not for '{recipe.name}'")

    def timed(work: Callable[[], Any]) -> tuple[float, Any]:
        with Clock(device) as clock:
            result = work()
        return clock.seconds, result

    def loss_of(batch: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(network(batch), target, label_smoothing=recipe.label_smoothing)

    dtype = PRECISIONS[precision]
    images, labels = dataset.train_images.to(device), dataset.train_labels.to(device)
    steps_per_epoch = steps_in_epoch(recipe, len(labels))
    preparing, next_epoch = timed(lambda: epochs_of(recipe, images, labels, 0, dtype))
    whitening, filters = timed(lambda: whitening_layer(recipe, images))
    network = build_network(recipe, width, precision, filters).to(device)
    optimiser, average = build_optimiser(network, recipe, dtype=dtype), build_average(network, recipe)
    set_rate(optimiser, RATE)
    seconds: dict[str, list[float]] = {phase: [] for phase in PHASES[:-1]}  # the evaluation comes once, at the end
    epoch = itertools.chain.from_iterable(next_epoch() for _ in itertools.count())
    for _ in range(steps + 1):
        wait, (batch, target) = timed(lambda: next(epoch))
        forward, loss = timed(partial(loss_of, batch, target))
        backward, _ = timed(loss.backward)
        step, _ = timed(optimiser.step)
        optimiser.zero_grad()
        if average is not None:
            step += timed(lambda: average.update_parameters(network))[0] / recipe.ema_every
        for phase, spent in zip(seconds, (wait, forward, backward, step), strict=True):
            seconds[phase].append(spent)
    per_step = {phase: statistics.median(spent[1:]) for phase, spent in seconds.items()}
    if recipe.augment_on == "host":
        per_step["data"] = statistics.mean(seconds["data"][1:])
    else:
        per_step["data"] = timed(lambda: [None for _ in next_epoch()])[0] / steps_per_epoch
    run = {phase: spent * recipe.epochs * steps_per_epoch for phase, spent in per_step.items()}
    run["data"] += preparing + whitening
    test = as_seen(dataset.test_images.to(device), recipe.test_side, dtype)
    tested = network if average is None else average.module
    run["evaluation"], _ = timed(lambda: evaluate(tested, test, dataset.test_labels.to(device), recipe.tta))
    return {**run, "flops_per_image": count_flops(recipe, width) / recipe.batch_size}


def measure(
    dataset: Dataset, scale: Scale, device: torch.device, precision: str, steps: int, progress: bool = True
) -> dict[str, Any]:
    """`shares_of` each rung of the ladder, one after the other on this machine, with all that identifies it."""
    keep_freed_memory()
    about = {"dataset": dataset.name, "scale": scale.name, **here(device, precision), "steps": steps}
    rungs, data = {}, data_at(scale, dataset)
    for name in tqdm(LADDER, desc="rungs", disable=not progress, leave=False):
        rungs[name] = shares_of(recipe_at(scale, get(name)), data, scale.width, device, precision, steps)
    return {**about, "rungs": rungs}


def read_shares(path: Path) -> dict[str, Any]:
    """What `cifar-fast shares --json` wrote. Raises `UserError` where the file is missing or holds something else."""
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shares_table(figures)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise UserError(f"{path} does not hold what `cifar-fast shares --json` writes") from None
    return figures


def shares_table(figures: dict[str, Any]) -> str:
    """Where the time of each rung went, as `shares.measure` found it: percent of the run, seconds, FLOPs per image."""
    head = ["rung", *(f"{phase} %" for phase in PHASES), "run s", "MFLOP per image"]
    lines = []
    for name, found in figures["rungs"].items():
        run = math.fsum(found[phase] for phase in PHASES)
        shares = [f"{100 * found[phase] / run:.1f}" for phase in PHASES]
        lines.append([f"`{name}`", *shares, f"{run:.0f}", f"{found['flops_per_image'] / 1e6:.1f}"])
    where = f"{figures['dataset']}; {figures['scale']} scale; {figures['device']}, {figures['precision']}"
    steps = f"{figures['steps']} step{'s' * (figures['steps'] > 1)}"
    how = f"{in_threads(figures['threads'])}, medians of {steps}, {figures['started'][:10]}."
    return f"{where}; {how}\n\n{markdown(head, lines)}"
