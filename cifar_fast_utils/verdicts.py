"""What a plan's runs come to: its rungs as one setting's records show them, their differences, their verdicts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from .device import SCALES, cores_of
from .evidence import Rung, by_setting, compare, of_device, rung, same_on_shared_seeds
from .ledger import Key, Record, Setting, key_of
from .plan import Plan
from .recipe import Recipe
from .stats import Difference, holm, p_at_least, p_not_below, verdict
from .train import recipe_at

KINDS = {
    "better": "Better, beyond what chance explains",
    "worse": "Worse, beyond what chance explains",
    "no difference": "Shown nothing here",
    "too few runs": "Cannot be told yet",
}
"""What a verdict begins with, and the heading for those that do."""


@dataclass(frozen=True)
class Row:
    """A rung of a plan in one setting, what it is compared with, and the verdict on it, empty where there is none."""

    recipe: Recipe
    rung: Rung | None
    """None: no runs yet."""
    other: Rung | None
    """What it is compared with; None if with nothing."""
    difference: Difference | None
    verdict: str
    planned: int
    """How many runs of it the plan asks for."""
    p_of_goal: float
    """Of "its mean reaches what the plan asks of each rung"; NaN where nothing is asked, or it cannot be said."""

    @property
    def against(self) -> str:
        """The name of what it is compared with; empty if that is nothing."""
        return self.other.recipe.name if self.other else ""

    @property
    def so_far(self) -> str:
        """How many of the planned runs there are, where some are missing."""
        return f"{self.rung.n} of {self.planned} runs" if self.rung and self.rung.n < self.planned else ""

    @property
    def lengths(self) -> str:
        """Both numbers of epochs, where they differ: then a verdict is not about the trick alone."""
        if self.other is None or self.recipe.epochs == self.other.recipe.epochs:
            return ""
        return f"{self.recipe.epochs:g} epoch{'s' * (self.recipe.epochs != 1)} against {self.other.recipe.epochs:g}"


def rows(
    plan: Plan, records: Sequence[Record], neighbours: Sequence[Record] | None = None, own: Collection[Key] = ()
) -> list[Row]:
    """The plan's rungs as the records of one setting show them; `neighbours` as in `evidence.rung`.

    `own`: the runs that were made for it there; where there are any, others count only for the seeds that it asks for,
    and their seconds not at all: they may be of another version.
    Holm's correction runs over all the verdicts, and over all the p of the goal.
    """
    recipes = [recipe_at(SCALES[plan.scale], recipe) for recipe in plan.recipes()]
    planned = [plan.fewer.get(name, plan.seeds) for name in plan.names]  # a smoke run's recipe has another name

    def counts(record: Record, n: int) -> bool:
        return not own or 0 <= record["seed"] - plan.first_seed < n or key_of(record) in own

    def timed(found: Rung | None) -> Rung | None:
        if found is None or not own:
            return found
        return replace(found, timed=tuple(one for one in found.timed if key_of(one) in own))

    rungs = [
        timed(rung(recipe, [one for one in records if counts(one, n)], records if neighbours is None else neighbours))
        for recipe, n in zip(recipes, planned, strict=True)
    ]
    other = {"none": rungs, "before": rungs[:1] + rungs[:-1], "first": rungs[:1] * len(rungs)}[plan.compare]
    differences = [
        compare(new, old) if new and old and new is not old else None for new, old in zip(rungs, other, strict=True)
    ]
    corrected = holm([found.p if found else math.nan for found in differences])
    tests = sum(found is not None for found in differences)
    goals = _p_of_goal(plan, rungs)
    table = []
    for recipe, new, old, found, p, n, p_of_goal in zip(
        recipes, rungs, other, differences, corrected, planned, goals, strict=True
    ):
        said = ""
        if new and old and found:
            said = verdict(found, worth=plan.worth, p=p, tests=tests, unit=" points")
            same = same_on_shared_seeds(new, old)
            if same > 2 and new.records != old.records:
                said = f"no difference larger than 0 points shown (as many right on each of {same} seeds)"
        table.append(Row(recipe, new, old if found else None, found, said, n, p_of_goal))
    return table


def plan_tables(
    plan: Plan, records: Sequence[Record], own: Mapping[Setting, Collection[Key]] | None = None
) -> list[tuple[Setting, list[Row]]]:
    """The plan's rows in each of its settings, on its dataset, scale and kind of device, the one with most runs first.

    Those in which the plan itself was carried out (`own`, as by `ledger.own_runs`) come before those whose runs, made
    for other plans, can be compared as it asks. Where there is neither, any setting that has a run of it.
    """
    own = own or {}
    tables = [
        (setting, rows(plan, theirs, of_device(records, setting.device), own.get(setting, ())))
        for setting, theirs in by_setting(records).items()
        if (setting.dataset, setting.scale) == (plan.dataset, plan.scale)
        and not (plan.gpu and cores_of(setting.device))
    ]
    tables = [(setting, table) for setting, table in tables if any(row.rung for row in table)]
    telling = [found for found in tables if found[0] in own or any(row.difference for row in found[1])]
    most = {setting: sum(row.rung.n for row in table if row.rung) for setting, table in tables}
    return sorted(telling or tables, key=lambda found: (found[0] not in own, -most[found[0]]))


def goal_of(plan: Plan) -> str:
    """What each rung's mean is tested to reach, in words; empty if nothing."""
    if plan.target is not None:
        return f"{100 * plan.target:.4g}%"
    return f"`{plan.target_rung}` − {plan.worth:g}" if plan.target_rung is not None else ""


def _p_of_goal(plan: Plan, rungs: Sequence[Rung | None]) -> list[float]:
    """For each of the plan's rungs, in order, the one-sided p of its goal, by Holm's correction over all of them."""
    if plan.target is not None:
        goal = 100 * plan.target
        found = [p_at_least(new.points, goal) if new else math.nan for new in rungs]
    else:
        old = rungs[plan.names.index(plan.target_rung)] if plan.target_rung is not None else None
        found = [
            p_not_below(new.points, old.points, plan.worth) if new and old and new is not old else math.nan
            for new in rungs
        ]
    return holm(found)


def kind_of(verdict: str) -> str:
    """Its words without numbers: a key of `KINDS`."""
    return verdict.split(" (")[0].split(" larger")[0]
