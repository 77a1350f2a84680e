"""One training run: a recipe, a dataset, a seed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from . import augment
from .data import Dataset
from .device import (
    PRECISIONS,
    Scale,
    choose_device,
    choose_precision,
    choose_scale,
    device_name,
    keep_freed_memory,
)
from .epochs import epochs_of as epochs_of
from .errors import UserError
from .evaluate import accuracy_of, answers, cross_entropy_of
from .layers import CLASSES
from .loop import Training, advice
from .network import build_network, run_flops
from .network import count_flops as count_flops
from .network import whitening_layer as whitening_layer
from .recipe import Recipe, with_epochs
from .run import Clock, Run, Stopped
from .step import training_step as training_step


def progress_bar(images: int, shown: bool) -> tqdm[NoReturn]:
    """A bar over all the images to be trained on; in a file or a pipe it is drawn every ten seconds only."""
    every = 0.2 if sys.stderr.isatty() or "ipykernel" in sys.modules else 10.0
    return tqdm(total=images, unit="image", unit_scale=True, disable=not shown, leave=False, mininterval=every)


def recipe_at(scale: Scale, recipe: Recipe) -> Recipe:
    """What a run at this scale trains by: at the smoke scale a shorter recipe, where it is not short already."""
    return with_epochs(recipe, scale.epochs) if scale.epochs and scale.epochs < recipe.epochs else recipe


def data_at(scale: Scale, dataset: Dataset) -> Dataset:
    """What a run at this scale trains on: at the smoke scale only the first images."""
    if scale.train_images or scale.test_images:
        n_train, n_test = scale.train_images or len(dataset.train_labels), scale.test_images or len(dataset.test_labels)
        return dataset.subset(n_train, n_test)
    return dataset


def as_seen(images: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """uint8 images (n, 32, 32, 3) as the network sees them in a test, (n, 3, side, side): shrunk, normalised."""
    return augment.prepare(augment.shrink(images, side), dtype).permute(0, 3, 1, 2)


def answering(recipe: Recipe, images: Tensor, dtype: torch.dtype) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """`answers` to uint8 images (n, 32, 32, 3), seen as the recipe tests: a function of a network and of `tta`."""
    views = [as_seen(images, side, dtype) for side in (recipe.test_side, recipe.tta_side) if side]
    return partial(answers, images=views[0], shift=recipe.tta_shift, smaller=views[1] if len(views) > 1 else None)


def train(
    recipe: Recipe,
    dataset: Dataset,
    *,
    scale: str | Scale = "auto",
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    test_each_epoch: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Run:
    """Train a network by the recipe and test it.

    `test_each_epoch` also tests after every pass, off all clocks; `on_epoch` gets each row of the history.
    Raises `UserError` for what the data or the machine cannot do and for a loss that is no longer a number, `Stopped`
    on Ctrl-C between the first step and the last.
    """
    keep_freed_memory()
    on = choose_device(device)
    precision = choose_precision(precision, on)
    size = scale if isinstance(scale, Scale) else choose_scale(scale, on)
    recipe, data = recipe_at(size, recipe), data_at(size, dataset)
    if len(data.classes) > CLASSES:
        raise UserError(f"{data.name} has {len(data.classes)} classes, but the networks tell only {CLASSES} apart")
    run = Run(
        recipe=recipe,
        scale=size.name,
        dataset=data.name,
        dataset_digest=data.digest,
        seed=seed,
        precision=precision,
        device=device_name(on),
        threads=torch.get_num_threads(),
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        flops=run_flops(recipe, size.width, augment.steps_in_epoch(recipe, len(data.train_labels))),
    )
    warm_up, clock, evaluation = Clock(on), Clock(on), Clock(on)
    with warm_up:
        _warm_up(recipe, size.width, precision, on)
    with clock:
        training = Training(recipe, data, size.width, precision, seed, on)
        test, test_labels = answering(recipe, data.test_images.to(on), PRECISIONS[precision]), data.test_labels.to(on)
    with progress_bar(training.steps * recipe.batch_size, progress) as bar:
        try:
            while training.step < training.steps:
                first = training.step
                with clock:
                    training.one_pass(bar)
                training.check_finite()
                run.network = training.tested
                row: dict[str, float | None] = {
                    "epoch": training.step / training.steps_per_epoch,
                    "rate": training.rate,
                    "train_loss": training.losses[first : training.step].mean().item(),
                    "train_accuracy": training.correct[first : training.step].mean().item() / recipe.batch_size,
                    "test_accuracy": None,
                    "seconds": clock.seconds,
                }
                if training.step == training.steps:
                    with evaluation:
                        logits, with_tta = test(run.network, tta=recipe.tta)
                        run.accuracy = accuracy_of(logits, test_labels)
                        run.tta_accuracy = None if with_tta is None else accuracy_of(with_tta, test_labels)
                    tested = logits if with_tta is None else with_tta  # of which the plain ones are a part
                    if not tested.isfinite().all():  # the last step's gradients, which no loss shows
                        raise UserError(f"the network's answers are not finite numbers: {advice(precision)}")
                    run.cross_entropy = cross_entropy_of(tested, test_labels)
                    row["test_accuracy"] = run.accuracy
                elif test_each_epoch:
                    row["test_accuracy"] = accuracy_of(test(run.network)[0], test_labels)
                run.history.append(row)
                on_epoch(row)
        except KeyboardInterrupt as stop:
            stopped = Stopped(run, training.step, training.steps)
            training.optimiser.zero_grad()
            traceback.clear_frames(stop.__traceback__)  # a notebook keeps the last exception, and what they hold
            del training, test
            raise stopped from None
    training.optimiser.zero_grad()  # they would live as long as the network does
    train_eval = clock.seconds + evaluation.seconds
    run.seconds = {"train": clock.seconds, "train_eval": train_eval, "cold": warm_up.seconds + train_eval}
    return run


def _warm_up(recipe: Recipe, width: int, precision: str, device: torch.device) -> None:
    """Forward and backward on zeros, thrown away: a GPU chooses its kernels, a CPU fills its pool of memory."""
    network = build_network(recipe, width, precision).to(device)
    # A GPU chooses for each side anew; a processor's pool has room for smaller ones once it has held whole images.
    sides = {side for _, side in recipe.sides}
    for side in sides if device.type == "cuda" else {augment.SIZE}:
        x = torch.zeros(recipe.batch_size, 3, side, side, device=device, dtype=PRECISIONS[precision])
        network(x.contiguous(memory_format=torch.channels_last)).sum().backward()
