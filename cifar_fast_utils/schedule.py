"""A recipe's schedules: what holds at an epoch, and how a training becomes longer or shorter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from .fields import FROM_AN_EPOCH, Recipe

What = TypeVar("What", int, float)


def with_epochs(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe stretched to another length, its schedules with it; named `NAME@EPOCHS`. Raises `UserError` if ≤ 0.

    What begins at an epoch is moved to the nearest whole one. So a short training may end before its last stage
    begins: `small_fast_60@2` never comes to the size that it is tested at (notebook 17). And it may choose the hardest
    images from the first step on, when no loss is known yet.
    """
    factor = epochs / recipe.epochs  # first, so that half an epoch comes out exact
    name = f"{recipe.name}@{repr(float(epochs)).removesuffix('.0')}"  # all digits: `get` makes the same recipe from it
    stretched = replace(recipe, name=name, epochs=epochs)  # refuses what is not a length
    steps: dict[str, Any] = {name: _stretched(getattr(recipe, name), factor) for name in FROM_AN_EPOCH}
    return replace(
        stretched,
        knots=tuple((epoch * factor, rate) for epoch, rate in recipe.knots),
        whiten_bias_epochs=recipe.whiten_bias_epochs * factor,
        **steps,
    )


def at(pairs: tuple[tuple[float, What], ...], epoch: float) -> What:
    """What holds at an epoch, of pairs of (epoch, what holds from then on)."""
    return [what for start, what in pairs if start <= epoch][-1]


def untrained(recipe: Recipe, epoch: float, step: int) -> int:
    """How many of the first blocks a step does not train: the frozen ones and, at every other step, those that rest."""
    return max(at(recipe.frozen, epoch), at(recipe.resting, epoch) if step % 2 else 0)


def _stretched(pairs: tuple[tuple[float, What], ...], factor: float) -> tuple[tuple[float, What], ...]:
    """What holds from an epoch on, with the epochs stretched to whole numbers; of two that meet the later one stays."""
    return tuple({float(round(epoch * factor)): what for epoch, what in pairs}.items())
