"""One training run: a recipe, a dataset, a seed."""

from __future__ import annotations

import functools
import itertools
import sys
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
from .last_seen import LastSeen
from .lean import IMAGES as LEAN_IMAGES
from .lean import LeanNet, both_signs
from .network import build_network, run_flops
from .network import count_flops as count_flops
from .optimiser import Lookahead, build_average, build_optimiser, lookahead_keep, rate_at, settle
from .recipe import Recipe, at, untrained, with_epochs
from .run import Clock, Run, Stopped
from .step import replay_of
from .step import training_step as training_step
from .whitening import IMAGES, patch_covariance, whitening_filters


def whitening_layer(recipe: Recipe, images: Tensor) -> Tensor | None:
    """The whitening filters of uint8 training images (n, 32, 32, 3), or None if the recipe does not whiten."""
    if not recipe.whiten:
        return None
    if recipe.network == "lean":
        return both_signs(augment.normalise(images[:LEAN_IMAGES]).permute(0, 3, 1, 2))
    return whitening_filters(patch_covariance(augment.normalise(images[:IMAGES]).permute(0, 3, 1, 2)))


def progress_bar(images: int, shown: bool) -> tqdm[NoReturn]:
    """A bar over all the images to be trained on; where it cannot overwrite itself, a line every ten seconds."""
    every = 0.2 if sys.stderr.isatty() or "ipykernel" in sys.modules else 10.0
    return tqdm(total=images, unit="image", unit_scale=True, disable=not shown, leave=False, mininterval=every)


def check_finite(losses: Tensor, recipe: Recipe, steps_per_epoch: int, precision: str) -> None:
    """Raise `UserError` if a step's loss is NaN or infinite; `losses` are those of the steps so far."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0]) + 1
        rate = rate_at(recipe, step / steps_per_epoch)
        raise UserError(
            f"the loss became {losses[step - 1].item()} at step {step} (epoch {step / steps_per_epoch:.2f}, "
            f"rate {rate:.3g}): {advice(precision)}"
        )


def advice(precision: str) -> str:
    """What to try where a training has left the numbers."""
    return f"try {'--precision float32, ' * (precision != 'float32')}a larger batch or a recipe with a lower peak rate"


def recipe_at(scale: Scale, recipe: Recipe) -> Recipe:
    """What a run at this scale trains by: at the smoke scale a shorter recipe."""
    return with_epochs(recipe, scale.epochs) if scale.epochs and scale.epochs != recipe.epochs else recipe


def data_at(scale: Scale, dataset: Dataset) -> Dataset:
    """What a run at this scale trains on: at the smoke scale the first of the images."""
    if scale.train_images and scale.test_images:
        return dataset.subset(scale.train_images, scale.test_images)
    return dataset


def test_view(images: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """uint8 test images (n, 32, 32, 3) as the network sees them, (n, 3, side, side): shrunk, normalised, not padded."""
    return augment.prepare(augment.shrink(images, side), dtype).permute(0, 3, 1, 2)


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

    `test_each_epoch` also tests after every epoch, off all clocks; `on_epoch` gets each row of the history.
    Raises `UserError` for what the data or the machine cannot do and for a loss that is no longer a number, `Stopped`
    on Ctrl-C between the first step and the last.
    """
    keep_freed_memory()
    on = choose_device(device)
    precision = choose_precision(precision, on)
    dtype = PRECISIONS[precision]
    size = scale if isinstance(scale, Scale) else choose_scale(scale, on)
    recipe, data = recipe_at(size, recipe), data_at(size, dataset)
    n, batch_size = len(data.train_labels), recipe.batch_size
    steps_per_epoch = augment.steps_in_epoch(recipe, n)
    steps = max(1, round(recipe.epochs * steps_per_epoch))
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
        flops=run_flops(recipe, size.width, steps_per_epoch),
    )
    # The summed loss, for float16 alone: 512 times the gradients, so that the small ones are not rounded to zero.
    loss_scale = float(batch_size) if precision == "float16" else 1.0
    warm_up, clock, evaluation = Clock(on), Clock(on), Clock(on)
    with warm_up:
        _one_step(recipe, size.width, precision, on)
    with clock:
        torch.manual_seed(seed)
        images, labels, test_images, test_labels = (
            part.to(on) for part in (data.train_images, data.train_labels, data.test_images, data.test_labels)
        )
        network = build_network(recipe, size.width, precision, whitening_layer(recipe, images)).to(on)
        numbers = torch.arange(n, device=on)
        epochs_at = functools.cache(lambda side: epochs_of(recipe, images, numbers, seed, dtype, side))
        smaller = test_view(test_images, recipe.tta_side, dtype) if recipe.tta_side else None
        test_images = test_view(test_images, recipe.test_side, dtype)
        optimiser = build_optimiser(network, recipe, loss_scale, dtype)
        replay = replay_of(network, optimiser, recipe, loss_scale)
        average = build_average(network, recipe)
        lookahead = Lookahead(network) if recipe.lookahead_every else None
        last_seen = LastSeen(labels) if recipe.looks_back else None
        test = partial(answers, images=test_images, shift=recipe.tta_shift, smaller=smaller)
        losses, correct = torch.zeros(2, steps, device=on)
    step = 0
    changes = [round(epoch * steps_per_epoch) for epoch, _ in (*recipe.sides, *recipe.hardest, *recipe.frozen)]
    with progress_bar(steps * batch_size, progress) as bar:
        try:
            while step < steps:
                first = step
                with clock:
                    epoch = step / steps_per_epoch
                    if isinstance(network, LeanNet):
                        network.train_bias(step < recipe.whiten_bias_epochs * steps_per_epoch)
                    until = min(change for change in (*changes, steps) if change > step)
                    chosen = last_seen.hardest(recipe, epoch) if last_seen else None
                    for batch, index in itertools.islice(epochs_at(at(recipe.sides, epoch))(chosen), until - step):
                        rate = rate_at(recipe, (step + 1) / steps_per_epoch)
                        settle(optimiser, recipe, (step + 1) / steps_per_epoch)
                        if isinstance(network, LeanNet):
                            network.freeze(untrained(recipe, step / steps_per_epoch, step))
                        target = batch_labels = labels[index]
                        if last_seen is not None:
                            target = last_seen.target(recipe, step / steps_per_epoch, index, batch_labels)
                        losses[step], logits = training_step(
                            network, optimiser, recipe, rate, loss_scale, batch, target, replay
                        )
                        correct[step] = (logits.argmax(1) == batch_labels).sum()
                        step += 1
                        if last_seen is not None:
                            last_seen.saw(index, logits, batch_labels)
                        if average is not None and step % recipe.ema_every == 0:
                            average.update_parameters(network)
                        if lookahead is not None and step % recipe.lookahead_every == 0:
                            lookahead.update(network, lookahead_keep(step / steps))
                        bar.set_description(f"epoch {step / steps_per_epoch:.1f}/{recipe.epochs:g}", refresh=False)
                        if bar.update(batch_size):  # redrawn, so it has been a while: the time to look at the device
                            check_finite(losses[:step], recipe, steps_per_epoch, precision)
                            bar.set_postfix(loss=f"{losses[step - 1]:.3f}", rate=f"{rate:.3f}", refresh=False)
                    if lookahead is not None and step == steps:
                        lookahead.update(network, keep=1.0)
                check_finite(losses[:step], recipe, steps_per_epoch, precision)
                run.network = network if average is None or average.n_averaged == 0 else average.module
                row: dict[str, float | None] = {
                    "epoch": step / steps_per_epoch,
                    "rate": rate,
                    "train_loss": losses[first:step].mean().item(),
                    "train_accuracy": correct[first:step].mean().item() / batch_size,
                    "test_accuracy": None,
                    "seconds": clock.seconds,
                }
                if step == steps:
                    with evaluation:
                        logits, views = test(run.network, tta=recipe.tta)
                        run.accuracy = accuracy_of(logits, test_labels)
                        run.tta_accuracy = None if views is None else accuracy_of(views, test_labels)
                    if not logits.isfinite().all():  # the last step's gradients, which no loss shows
                        raise UserError(f"the network's answers are no numbers: {advice(precision)}")
                    run.cross_entropy = cross_entropy_of(logits if views is None else views, test_labels)
                    row["test_accuracy"] = run.accuracy
                elif test_each_epoch:
                    row["test_accuracy"] = accuracy_of(test(run.network)[0], test_labels)
                run.history.append(row)
                on_epoch(row)
        except KeyboardInterrupt:
            raise Stopped(run, step, steps) from None
    optimiser.zero_grad()  # they would live as long as the network does
    train_eval = clock.seconds + evaluation.seconds
    run.seconds = {"train": clock.seconds, "train_eval": train_eval, "cold": warm_up.seconds + train_eval}
    return run


def _one_step(recipe: Recipe, width: int, precision: str, device: torch.device) -> None:
    """Forward and backward on zeros, thrown away: a GPU chooses its kernels, a CPU fills its pool of memory."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    network = build_network(recipe, width, precision).to(device)
    # A GPU chooses for each side anew; a processor's pool has room for the smaller ones once it had it for the largest.
    sides = {side for _, side in recipe.sides} if device.type == "cuda" else {augment.SIZE}
    for side in sides:
        x = torch.zeros(recipe.batch_size, 3, side, side, device=device, dtype=PRECISIONS[precision])
        network(x.contiguous(memory_format=torch.channels_last)).sum().backward()
