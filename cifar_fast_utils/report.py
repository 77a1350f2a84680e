"""Tables and findings in Markdown, from the ledger and its plans alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .device import SCALES, cores_of
from .evidence import Rung, by_setting, compare, rung, same_on_shared_seeds
from .ledger import Record, Setting, read_folder
from .lengths import lengths
from .plan import VALIDATION, Plan, read_plan
from .recipe import Recipe
from .shares import read_shares, shares_table
from .stats import Difference, holm, interval, p_at_least, p_not_below, verdict
from .tables import markdown, unless_nan
from .train import recipe_at

DATASETS = {"cifar10": "CIFAR-10"}
"""How a caption calls a dataset; any other goes by its own name, quoted as code."""


@dataclass(frozen=True)
class Row:
    """A rung of a plan in one setting, what it is compared with, and the verdict on it, empty where there is none."""

    recipe: Recipe
    rung: Rung | None
    """None: no runs yet."""
    against: str
    difference: Difference | None
    verdict: str


def rows(plan: Plan, records: Sequence[Record]) -> list[Row]:
    """The plan's rungs as the records of one setting show them; Holm's correction runs over all its verdicts."""
    recipes = [recipe_at(SCALES[plan.scale], recipe) for recipe in plan.recipes()]
    rungs = [rung(recipe, records) for recipe in recipes]
    other = {"none": rungs, "before": rungs[:1] + rungs[:-1], "first": rungs[:1] * len(rungs)}[plan.compare]
    differences = [
        compare(new, old) if new and old and new is not old else None for new, old in zip(rungs, other, strict=True)
    ]
    adjusted = iter(holm([found.p for found in differences if found]))
    table = []
    for recipe, new, old, found in zip(recipes, rungs, other, differences, strict=True):
        said = ""
        if new and old and found:
            said = verdict(found, worth=plan.worth, p=next(adjusted), unit=" points")
            same = same_on_shared_seeds(new, old)
            if same > 2 and new.records != old.records:
                said = f"no difference larger than 0 points shown (the same to the image on each of {same} seeds)"
        table.append(Row(recipe, new, old.recipe.name if old and found else "", found, said))
    return table


def where(setting: Setting) -> str:
    """On which images, at which scale, on which machine, in words."""
    name = DATASETS.get(setting.dataset, f"`{setting.dataset}`, which is not CIFAR-10")
    return f"On {name}; {setting.scale} scale; {setting.device}, {setting.precision}"


def caption(setting: Setting, rungs: Sequence[Rung]) -> str:
    """Where, how many and when, and how to read the table."""
    records = {id(record): record for rung in rungs for record in rung.records}.values()
    dates = sorted(record["started"][:10] for record in records)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    threads = ", ".join(sorted({str(rung.threads) for rung in rungs}))
    return (
        f"{where(setting)}; {len(records)} run{'s' * (len(records) > 1)}, {when}. "
        f"Accuracy in percent with its 95% interval; sd: of single runs; seconds: medians "
        f"({threads} CPU thread{'s' * (threads != '1')}"
        f"{', blank where other runs shared the device' * any(not rung.timed for rung in rungs)})."
    )


HEAD = ["rung", "epochs", "n", "accuracy", "interval", "sd", "no TTA", "train s", "train_eval s", "cold s", "PFLOP"]
ASIDE = 5
"""How many of these come before what a plan's comparison says."""


def cells(rung: Rung) -> list[str]:
    """A rung's figures, under `HEAD`."""
    mean = rung.interval
    return [
        f"`{rung.recipe.name}`",
        f"{rung.recipe.epochs:g}",
        str(mean.n),
        f"{mean.mean:.2f}",
        f"{mean.low:.2f} to {mean.high:.2f}" if mean.n > 1 else "",
        f"{mean.sd:.2f}" if mean.n > 1 else "",
        f"{interval(rung.plain_points).mean:.2f}" if rung.recipe.tta else "",
        *(unless_nan(rung.seconds(clock), ".1f") for clock in ("train", "train_eval", "cold")),
        f"{rung.flops / 1e15:.3g}",
    ]


def plan_table(plan: Plan, rows: Sequence[Row]) -> str:
    """The plan's table for one setting, of the rungs that have runs."""
    goal = goal_of(plan, rows)
    said = [goal[0]] if goal else []
    if plan.compare != "none":
        said += [f"against {plan.compare}", "verdict"]
    lines = []
    for row in rows:
        if row.rung:
            line = []
            if goal:
                line.append(unless_nan(goal[1](row.rung), ".2g"))
            if plan.compare != "none":
                line += [signed(row.difference), row.verdict.split(" (")[0]]
            figures = cells(row.rung)
            lines.append([*figures[:ASIDE], *line, *figures[ASIDE:]])
    head = [*HEAD[:ASIDE], *said, *HEAD[ASIDE:]]
    return markdown(head, lines)


def goal_of(plan: Plan, rows: Sequence[Row]) -> tuple[str, Callable[[Rung], float]] | None:
    """What each rung's mean is tested to reach, in words, and the one-sided p of that; nan for the target itself."""
    if plan.target is not None:
        goal = 100 * plan.target
        return f"p of {goal:.4g}%", lambda rung: p_at_least(rung.points, goal)
    if plan.target_rung is None:
        return None
    target = recipe_at(SCALES[plan.scale], plan.recipes()[plan.names.index(plan.target_rung)])
    for row in rows:
        if (old := row.rung) and row.recipe == target:
            return (
                f"p of `{plan.target_rung}` − {plan.worth:g}",
                lambda rung: math.nan if rung is old else p_not_below(rung.points, old.points, plan.worth),
            )
    return None


def plan_tables(plan: Plan, records: Sequence[Record]) -> list[tuple[Setting, list[Row]]]:
    """The plan's rows in each of its settings, on its dataset, scale and kind of device, that has a run of it."""
    tables = [
        (setting, rows(plan, theirs))
        for setting, theirs in by_setting(records).items()
        if (setting.dataset, setting.scale) == (plan.dataset, plan.scale)
        and not (plan.gpu and cores_of(setting.device))
    ]
    return [(setting, table) for setting, table in tables if any(row.rung for row in table)]


def told(plan: Plan, setting: Setting, rows: Sequence[Row]) -> list[str]:
    """Rows as paragraphs: where they come from, the table, what it comes to."""
    parts = [caption(setting, [row.rung for row in rows if row.rung]), plan_table(plan, rows), findings(rows)]
    return [part for part in parts if part]


def signed(found: Difference | None) -> str:
    """A difference in points with its interval."""
    if found is None:
        return ""
    bounds = f" ({found.low:+.2f} to {found.high:+.2f})" if math.isfinite(found.low) else ""
    return f"{found.mean:+.2f}{bounds}".replace("-", "−")


def findings(rows: Sequence[Row]) -> str:
    """What the verdicts come to, in words: a line for each kind, the rungs and their differences under it."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict:
            kind = row.verdict.split(" (")[0].split(" larger")[0]
            detail = row.verdict.removeprefix(kind).strip()
            joint = "" if not detail else " " if detail.startswith("(") else ", none "
            of = f"`{row.recipe.name}` against `{row.against}`: {signed(row.difference)} points"
            said.setdefault(kind, []).append(f"{of}{joint}{detail}")
    lines = []
    for kind, heading in KINDS.items():
        if kind in said:
            lines += [f"{heading}:", "", *(f"- {one}" for one in said[kind]), ""]
    return "\n".join(lines).rstrip()


PREFACE = """\
# What was found

Written by `cifar-fast report` from the recorded runs and their plans alone. A verdict comes from Welch's test, or from
a paired one where two recipes train the same network and differ in the test alone, with Holm's correction over the
table: *better* or *worse* where two recipes of equal accuracy would differ as much less than 1 time in 20; *no
difference larger than x shown* where the 95% interval leaves no room for one that matters; else *too few runs*, with
about how many on each side would find the smallest difference that matters to the plan, 4 times in 5. Where two recipes
gave equal accuracies on three seeds or more, *no difference larger than 0* is said, whatever the interval. The
intervals are not corrected, so one may leave out zero and the verdict still be *too few runs*.

Seconds stand where a recipe has runs whose GPU, or as many cores as they have threads, no other run of the table had
a part of. Runs with fewer threads than their machine has cores mostly had a neighbour on the others: compare their
FLOPs, not their seconds."""
KINDS = {
    "better": "Better, beyond what chance explains",
    "worse": "Worse, beyond what chance explains",
    "no difference": "Shown nothing here",
    "too few runs": "Cannot be told yet",
}
"""The headings under which `findings` puts the verdicts."""


def report(folder: Path, target: float = 0.94) -> str:
    """All that the ledger and the plans of a folder say, but for searches; damaged lines are named at the end.

    Raises `UserError` where a plan or a file cannot be read.
    """
    records, damaged = read_folder(folder)
    records = [record for record in records if not record["dataset"].endswith(VALIDATION)]
    parts = [PREFACE]
    for path in sorted(folder.glob("*.toml")):
        plan = read_plan(path)
        if plan.search:
            continue
        parts.append(f"## {plan.question}")
        tables = plan_tables(plan, records)
        if tables and plan.compare != "none":
            parts.append(f"The smallest difference that matters here: {plan.worth:g} points.")
        for setting, table in tables:
            parts += told(plan, setting, table)
            if absent := [f"`{row.recipe.name}`" for row in table if not row.rung]:
                parts.append(f"No runs yet of {', '.join(absent)}.")
        if not tables:
            parts.append(f"No runs of `{path.name}` yet.")
    for path in sorted(folder.glob("shares*.json")):
        parts += ["## Where the time goes", shares_table(read_shares(path))]
    for setting, theirs in by_setting(records).items():
        if found := lengths(theirs, target):
            parts += [f"## Time to {target:.1%}", f"{where(setting)}.", found]
    if damaged:
        parts += ["## Lines that are no records", "\n".join(f"- {line}" for line in damaged)]
    return "\n\n".join(parts) + "\n"
