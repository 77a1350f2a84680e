"""Time and FLOPs to a target accuracy, interpolated between recorded lengths of a recipe."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from .evidence import Rung
from .evidence import rungs as rungs_of
from .ledger import Record
from .recipe import Recipe
from .tables import markdown, unless_nan


def lengths(records: Sequence[Record], target: float) -> str:
    """Time to the target accuracy (fraction of 1), interpolated between the lengths that the records of a setting hold.

    A row for each recipe recorded at two or more lengths. Nothing is extrapolated.
    """
    families: dict[str, dict[float, Rung]] = {}
    for found in rungs_of(records):
        families.setdefault(family(found.recipe), {})[found.recipe.epochs] = found
    lines = []
    for name, by_length in sorted(families.items()):
        rungs = [by_length[epochs] for epochs in sorted(by_length)]
        if len(rungs) > 1:
            means = [rung.interval.mean for rung in rungs]
            cells = [f"`{name}`", ", ".join(f"{rung.recipe.epochs:g}" for rung in rungs), f"{max(means):.2f}"]
            seconds, flops = [rung.seconds("train") for rung in rungs], [rung.flops / 1e15 for rung in rungs]
            for quantity, digits in ((seconds, ".1f"), (flops, ".3g")):
                reached = at_target(means, quantity, 100 * target)
                out = "not reached" if max(means) < 100 * target else "under the shortest"
                cells.append(out if reached is None else unless_nan(reached, digits))
            lines.append(cells)
    if not lines:
        return ""
    return markdown(["recipe", "epochs recorded", "highest mean", f"train s to {target:.1%}", "PFLOP to it"], lines)


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
