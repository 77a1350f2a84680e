"""The recipes: the article's ladder, written as *the row before, with this change*; any recipe by its name.

No row has code of its own anywhere: a trick is a field that one module reads.

Source: D. Page, "How to Train Your ResNet 8: Bag of Tricks", Myrtle, 2019.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import fields, replace
from typing import Any

from .errors import UserError
from .fields import Knots as Knots
from .fields import Recipe as Recipe
from .fields import from_dict as from_dict
from .modern import MODERN as MODERN
from .modern import MODERN_WITHOUT as MODERN_WITHOUT
from .schedule import at as at
from .schedule import untrained as untrained
from .schedule import with_epochs as with_epochs


def get(name: str) -> Recipe:
    """The recipe of that name, or of `NAME@EPOCHS` or `NAME@half`: another's schedule, stretched to another length.

    Raises `UserError`, with the nearest names, if there is none.
    """
    known = {**RECIPES, **WITHOUT, **MODERN, **MODERN_WITHOUT}
    if name in known:
        return known[name]
    base, _, length = name.rpartition("@")
    if base in known:
        with contextlib.suppress(ValueError):
            epochs = known[base].epochs / 2 if length == "half" else float(length)
            return replace(with_epochs(known[base], epochs), name=name)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`cifar-fast recipes` lists them"
    raise UserError(f"no recipe is called '{name}': {hint}")


def diff(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, but for the name: {field: (old value, new value)}."""
    pairs = {field.name: (getattr(old, field.name), getattr(new, field.name)) for field in fields(Recipe)}
    return {key: pair for key, pair in pairs.items() if key != "name" and pair[0] != pair[1]}


def is_another(recipe: Recipe) -> bool:
    """Whether the package knows a recipe of that name, and it is not this one."""
    try:
        return get(recipe.name) != recipe
    except UserError:
        return False


def triangle(epochs: float, peak: float, warmup: float) -> Knots:
    """Up from 0 to the peak rate during the warm-up, then down to 0."""
    return ((0, 0.0), (warmup, peak), (epochs, 0.0))


def _short(epochs: float, peak: float = 0.4) -> dict[str, Any]:
    """From label smoothing on, a row's length also sets its warm-up: a fifth of it."""
    return {"epochs": epochs, "knots": triangle(epochs, peak, epochs / 5)}


def _floored(epochs: float, peak: float, floor: float) -> dict[str, Any]:
    """The schedule of the averaged rungs: the rate stays at its floor for the last two epochs."""
    return {"epochs": epochs, "knots": ((0, 0.0), (epochs / 5, peak), (epochs - 2, floor), (epochs, floor))}


# The ladder: each row is the row before it, with this change.
_rows: list[Recipe] = []


def _row(name: str, before: Recipe, **change: Any) -> Recipe:
    recipe = replace(before, name=name, **change)
    _rows.append(recipe)
    return recipe


baseline = Recipe(name="baseline", epochs=24, knots=triangle(24, 0.4, warmup=5), augment_on="host")
_rows.append(baseline)
gpu_data = _row("gpu_data", baseline, augment_on="device")
_row("mixed_precision", gpu_data, master_weights=True)  # an aside: the ladder goes on without it
before_act = _row("pool_before_act", gpu_data, pool="before_act")
before_norm_24 = _row("pool_before_norm_24", before_act, pool="before_norm")
before_norm = _row("pool_before_norm", before_norm_24, epochs=25, knots=triangle(25, 0.4, warmup=5))
smoothing_25 = _row("label_smoothing_25", before_norm, label_smoothing=0.2, **_short(25))
smoothing = _row("label_smoothing", smoothing_25, **_short(23))
celu_23 = _row("celu_23", smoothing, activation="celu", celu_alpha=0.075)
celu = _row("celu", celu_23, **_short(20))
ghost_20 = _row("ghost_norm_20", celu, ghost_groups=16)
ghost = _row("ghost_norm", ghost_20, **_short(18, peak=0.6))
# Scales frozen at 1/4 are scales frozen at 1 with 4 times the α, and norm biases with 4 × 4 times the rate.
frozen_x16 = _row(
    "frozen_scales_18_x16", ghost, freeze_norm_scale=True, celu_alpha=0.3, logit_scale=1 / 16, bias_factor=16
)
frozen_x64 = _row("frozen_scales_18_x64", frozen_x16, bias_factor=64)
frozen = _row("frozen_scales", frozen_x64, **_short(17, peak=0.6))
whitening_17 = _row("whitening_17", frozen, whiten=True)
whitening_15 = _row("whitening_15", whitening_17, **_short(15, peak=0.6))
whitening = _row("whitening", whitening_15, cutout=5, **_short(14, peak=1.0))
ema_14 = _row("ema_14", whitening, ema_every=5, ema_momentum=0.99, **_floored(14, peak=1.0, floor=0.1))
ema = _row("ema", ema_14, **_floored(13, peak=1.0, floor=0.1))
tta = _row("tta", ema, tta=True)
final = _row("final", tta, cutout=0, **_floored(10, peak=1.0, floor=0.1))

for _epochs in (24, 40, 60, 80, 100):  # training to convergence, with TTA and without
    _row(f"converge_baseline_{_epochs}", gpu_data, epochs=_epochs, knots=triangle(_epochs, 0.4, 5), cutout=12, tta=True)
    _row(f"converge_final_{_epochs}", final, cutout=12, **_floored(_epochs, peak=0.4, floor=0.04))

RECIPES = {recipe.name: recipe for recipe in _rows}
"""Every step of the article's ladder, the aside and the convergence runs, by name."""

LADDER = [
    "baseline",
    "gpu_data",
    "pool_before_act",
    "pool_before_norm",
    "label_smoothing",
    "celu",
    "ghost_norm",
    "frozen_scales",
    "whitening",
    "ema",
    "tta",
    "final",
]
"""The rungs: the rows that count on the leaderboard, in order."""

# What came with a trick goes with it: the schedule's floor with the averaging, the larger α and the smaller logits with
# the frozen scales.
_tricks: dict[str, dict[str, Any]] = {
    "gpu_data": {"augment_on": "host"},
    "pool_before_norm": {"pool": "after_act"},
    "label_smoothing": {"label_smoothing": 0.0},
    "celu": {"activation": "relu", "celu_alpha": 0.0},
    "ghost_norm": {"ghost_groups": 1},
    "frozen_scales": {"freeze_norm_scale": False, "celu_alpha": 0.075, "logit_scale": 1 / 8, "bias_factor": 1},
    "bias_factor": {"bias_factor": 1},
    "whitening": {"whiten": False},
    "high_rate": {"knots": ((0, 0.0), (2, 0.6), (8, 0.1), (10, 0.1))},
    "ema": {"ema_every": 0, "ema_momentum": 0.0, "knots": triangle(10, 1.0, warmup=2)},
    "tta": {"tta": False},
    "cutout_0": {"cutout": 5},
}
WITHOUT = {
    f"final_without_{trick}": replace(final, name=f"final_without_{trick}", **change)
    for trick, change in _tricks.items()
}
"""Leave-one-out: `final` at its own length, without each of its tricks in turn, by name."""
