"""Time and FLOPs to a target accuracy, interpolated between recorded lengths of a recipe."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict

from .evidence import Rung
from .evidence import rungs as rungs_of
from .fields import FROM_AN_EPOCH
from .ledger import Record
from .recipe import Recipe
from .tables import markdown, unless_nan

SCALED = ("name", "epochs", "knots", "whiten_bias_epochs", *FROM_AN_EPOCH)
"""Fields that another length changes."""


def lengths(
    records: Sequence[Record], target: float, neighbours: Sequence[Record] | None = None
) -> tuple[list[Rung], str]:
    """Time to the target accuracy (fraction of 1), interpolated between the lengths that the records of a setting hold.

    A row for each recipe recorded at two or more lengths, with how many runs of each. Nothing is extrapolated. Also the
    rungs that the table is made of; none and an empty text where no recipe has two lengths. `neighbours` as
    in `evidence.rung`.
    """
    families: dict[tuple[str, str], dict[float, Rung]] = {}
    for found in rungs_of(records, neighbours):
        fields = {key: value for key, value in asdict(found.recipe).items() if key not in SCALED}
        families.setdefault((family(found.recipe), repr(fields)), {})[found.recipe.epochs] = found
    used, lines = [], []
    for (name, _), by_length in sorted(families.items()):
        rungs = [by_length[epochs] for epochs in sorted(by_length)]
        if len(rungs) > 1:
            used += rungs
            means = [rung.interval.mean for rung in rungs]
            epochs, counts = (f"{rung.recipe.epochs:g}" for rung in rungs), (str(rung.n) for rung in rungs)
            cells = [f"`{name}`", ", ".join(epochs), ", ".join(counts), f"{max(means):.2f}"]
            for quantity, digits in ((_seconds(rungs), ".1f"), ([rung.flops / 1e15 for rung in rungs], ".3g")):
                reached = at_target(means, quantity, 100 * target)
                out = "not reached" if max(means) < 100 * target else "under the shortest"
                cells.append(out if reached is None else unless_nan(reached, digits))
            lines.append(cells)
    head = ["recipe", "epochs recorded", "n", "highest mean", f"train s to {100 * target:.4g}%", "PFLOP to it"]
    return used, markdown(head, lines) if lines else ""


def _seconds(rungs: Sequence[Rung]) -> list[float]:
    """Of a training at each length; NaN for all if they ran with different numbers of threads."""
    alike = len({rung.threads for rung in rungs}) == 1
    return [rung.seconds("train") if alike else math.nan for rung in rungs]


def family(recipe: Recipe) -> str:
    """The name without its length: what recipes that differ in their length alone have in common."""
    base = recipe.name.split("@")[0]
    return re.sub(r"^(converge_\w+)_\d+$", r"\1", base)


def at_target(means: Sequence[float], quantity: Sequence[float], target: float) -> float | None:
    """Where the first rise of the means through the target lies, linear between neighbours; None if there is none.

    Where the shortest length is above the target already, nothing is known of shorter ones: None as well.
    """
    if means[0] > target:
        return None
    for (low, a), (high, b) in itertools.pairwise(zip(means, quantity, strict=True)):
        if low <= target <= high:
            return a if low == high else a + (b - a) * (target - low) / (high - low)
    return None
