"""The training loop: what a network in training is made of, and its steps, pass by pass.

Notebook A1 has it on one page.
"""

from __future__ import annotations

import functools
import itertools
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import augment
from .data import Dataset
from .device import PRECISIONS
from .epochs import epochs_of
from .errors import UserError
from .last_seen import LastSeen
from .lean import LeanNet
from .network import build_network, whitening_layer
from .optimiser import Lookahead, build_average, build_optimiser, lookahead_keep, rate_at, settle
from .recipe import Recipe, at, untrained
from .step import replay_of, training_step


def advice(precision: str) -> str:
    """What to try where a training's losses or answers are no longer finite."""
    more_digits = "--precision float32 (in a notebook CIFAR_FAST_PRECISION=float32), " * (precision != "float32")
    return f"try {more_digits}a larger batch or a recipe with a lower peak rate"


class Training:
    """A network in training: all that its steps read and change. Raises `UserError` for less than a batch of images."""

    def __init__(
        self, recipe: Recipe, data: Dataset, width: int, precision: str, seed: int, device: torch.device
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.precision = recipe, precision
        dtype = PRECISIONS[precision]
        images, self.labels = data.train_images.to(device), data.train_labels.to(device)
        n = len(self.labels)
        self.steps_per_epoch = augment.steps_in_epoch(recipe, n)
        self.steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        self.step = 0
        """How many are done."""
        self.network = build_network(recipe, width, precision, whitening_layer(recipe, images)).to(device)
        numbers = torch.arange(n, device=device)
        self.epochs_at = functools.cache(lambda side: epochs_of(recipe, images, numbers, seed, dtype, side))
        # For float16 alone the loss is summed, not averaged, so that the small gradients are not rounded to zero.
        self.loss_scale = float(recipe.batch_size) if precision == "float16" else 1.0
        self.optimiser = build_optimiser(self.network, recipe, self.loss_scale, dtype)
        self.replay = replay_of(self.network, self.optimiser, recipe, self.loss_scale)
        self.average = build_average(self.network, recipe)
        self.lookahead = Lookahead(self.network) if recipe.lookahead_every else None
        self.last_seen = LastSeen(self.labels) if recipe.looks_back else None
        self.losses, self.correct = torch.zeros(2, self.steps, device=device)
        epochs = [epoch for epoch, _ in (*recipe.sides, *recipe.hardest, *recipe.frozen)]
        self.changes = [round(epoch * self.steps_per_epoch) for epoch in epochs]

    @property
    def rate(self) -> float:
        """Of the last step."""
        return rate_at(self.recipe, self.step / self.steps_per_epoch)

    @property
    def tested(self) -> nn.Module:
        """The averaged network where there is one, else the network."""
        return self.network if self.average is None or self.average.n_averaged == 0 else self.average.module

    def one_pass(self, bar: tqdm[NoReturn]) -> None:
        """Train on all images once, or on the hardest of them, or until the schedule changes or the training ends.

        Raises `UserError` if it finds on the way a loss that is not a number.
        """
        recipe, epoch = self.recipe, self.step / self.steps_per_epoch
        if isinstance(self.network, LeanNet):
            self.network.train_bias(self.step < recipe.whiten_bias_epochs * self.steps_per_epoch)
        until = min(change for change in (*self.changes, self.steps) if change > self.step)
        chosen = self.last_seen.hardest(recipe, epoch) if self.last_seen else None
        batches = self.epochs_at(at(recipe.sides, epoch))(chosen)
        for images, index in itertools.islice(batches, until - self.step):
            self.one_step(images, index)
            epoch = self.step / self.steps_per_epoch
            bar.set_description(f"epoch {epoch:.1f}/{recipe.epochs:g}", refresh=False)
            if bar.update(recipe.batch_size):  # redrawn, so it has been a while: the time to look at the device
                self.check_finite()
                last = self.losses[self.step - 1]
                bar.set_postfix(loss=f"{last:.3f}", rate=f"{self.rate:.3f}", refresh=False)
        if self.lookahead is not None and self.step == self.steps >= recipe.lookahead_every:  # else it has seen nothing
            self.lookahead.update(self.network, keep=1.0)

    def one_step(self, images: Tensor, index: Tensor) -> None:
        """Train on a batch: images (b, 3, side, side) as the network sees them, and their numbers (b,)."""
        recipe, before = self.recipe, self.step / self.steps_per_epoch
        after = (self.step + 1) / self.steps_per_epoch
        settle(self.optimiser, recipe, after)
        if isinstance(self.network, LeanNet):
            self.network.freeze(untrained(recipe, before, self.step))
        target = labels = self.labels[index]
        if self.last_seen is not None:
            target = self.last_seen.target(recipe, before, index, labels)
        self.losses[self.step], logits = training_step(
            self.network, self.optimiser, recipe, rate_at(recipe, after), self.loss_scale, images, target, self.replay
        )
        self.correct[self.step] = (logits.argmax(1) == labels).sum()
        self.step += 1
        if self.last_seen is not None:
            self.last_seen.saw(index, logits, labels)
        if self.average is not None and self.step % recipe.ema_every == 0:
            self.average.update_parameters(self.network)
        if self.lookahead is not None and self.step % recipe.lookahead_every == 0:
            self.lookahead.update(self.network, lookahead_keep(self.step / self.steps))

    def check_finite(self) -> None:
        """Raise `UserError` if a step's loss was NaN or infinite."""
        losses = self.losses[: self.step]
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0]) + 1
            epoch = step / self.steps_per_epoch
            raise UserError(
                f"the loss became {losses[step - 1].item()} at step {step} (epoch {epoch:.2f}, "
                f"rate {rate_at(self.recipe, epoch):.3g}): {advice(self.precision)}"
            )
