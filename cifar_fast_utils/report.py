"""Tables and findings in Markdown, from the ledger and its plans alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .evidence import Rung, by_setting, how_many, settings
from .ledger import Key, Record, Setting, key_of, own_runs, read_folder
from .lengths import lengths
from .plan import Plan, read_plan
from .shares import read_shares, shares_table
from .stats import LEVEL, Difference, interval
from .tables import markdown, unless_nan
from .verdicts import KINDS, Row, goal_of, kind_of, plan_tables

DATASETS = {"cifar10": "CIFAR-10"}
"""How a caption calls a dataset; any other goes by its own name, quoted as code."""


def dataset_of(name: str) -> str:
    """What a dataset is called in a sentence."""
    return DATASETS.get(name, f"`{name}`, which is not CIFAR-10")


def where(setting: Setting) -> str:
    """On which images, at which scale, on which machine, in words."""
    return f"On {dataset_of(setting.dataset)}; {setting.scale} scale; {setting.device}, {setting.precision}"


CLOCKS = ["train s", "train_eval s", "cold s"]
HEAD = ["rung", "epochs", "n", "accuracy", "interval", "sd", "no TTA", *CLOCKS, "PFLOP"]
ASIDE = 5
"""How many of these come before what a plan's comparison says."""


def caption(setting: Setting, rungs: Sequence[Rung], head: Sequence[str] = HEAD) -> str:
    """Where, how many and when, and how to read the table with these columns."""
    threads = sorted({rung.threads for rung in rungs})
    on = ", ".join(
        f"{n} CPU thread{'s' * (n > 1)}"
        + f" for {', '.join(f'`{rung.recipe.name}`' for rung in rungs if rung.threads == n)}" * (len(threads) > 1)
        for n in threads
    )
    blank = ", blank where recorded runs on this kind of device overlapped or were made for another plan"
    seconds = (
        f"; seconds: medians ({on}{blank * any(not rung.timed for rung in rungs)}"
        f"{', the test of runs with TTA left out' * any(r.timed and math.isnan(r.seconds('cold')) for r in rungs)})"
    )
    return (
        f"{where(setting)}; {how_many(rungs)}. "
        f"Accuracy in percent, with TTA where the recipe has it{'; its 95% interval' * ('interval' in head)}"
        f"{'; differences with their 95% interval' * ('against base' in head)}"
        f"{'; sd: of single runs' * ('sd' in head)}{seconds * bool(set(head) & set(CLOCKS) or not head)}."
    )


def cells(rung: Rung, planned: int = 0) -> list[str]:
    """A rung's figures, under `HEAD`; with how many runs were planned, if these are fewer."""
    mean = rung.interval
    return [
        f"`{rung.recipe.name}`",
        f"{rung.recipe.epochs:g}",
        f"{mean.n} of {planned}" if mean.n < planned else str(mean.n),
        f"{mean.mean:.2f}",
        f"{mean.low:.2f} to {mean.high:.2f}" if mean.n > 1 else "",
        f"{mean.sd:.2f}" if mean.n > 1 else "",
        f"{interval(rung.plain_points).mean:.2f}" if rung.recipe.tta else "",
        *(unless_nan(rung.seconds(clock), ".1f") for clock in ("train", "train_eval", "cold")),
        f"{rung.flops / 1e15:.3g}",
    ]


def plan_table(plan: Plan, rows: Sequence[Row], own: bool = True) -> str:
    """The plan's table for one setting, of the rungs with runs; without seconds unless `own`: they may mix versions."""
    goal = not all(math.isnan(row.p_of_goal) for row in rows)
    said = [f"p of {goal_of(plan)}"] if goal else []
    if plan.compare != "none":
        said += [f"against {plan.compare}", "verdict"]
    lines = []
    for row in rows:
        if row.rung:
            line = []
            if goal:
                line.append(unless_nan(row.p_of_goal, ".2g"))
            if plan.compare != "none":
                line += [signed(row.difference), row.verdict.split(" (")[0]]
            figures = cells(row.rung, row.planned if own else 0)
            lines.append([*figures[:ASIDE], *line, *figures[ASIDE:]])
    head = [*HEAD[:ASIDE], *said, *HEAD[ASIDE:]]
    kept = [i for i, name in enumerate(head) if own or name not in CLOCKS]
    return markdown([head[i] for i in kept], [[line[i] for i in kept] for line in lines])


def told(plan: Plan, setting: Setting, rows: Sequence[Row], own: bool = True) -> list[str]:
    """Rows as paragraphs: where they come from, the table, what it comes to; `own`: they were made for this plan."""
    head = HEAD if own else [name for name in HEAD if name not in CLOCKS]
    said = caption(setting, [row.rung for row in rows if row.rung], head) + " Made for other plans." * (not own)
    return [part for part in (said, plan_table(plan, rows, own), findings(rows)) if part]


def signed(found: Difference | None) -> str:
    """A difference in points with its interval."""
    if found is None:
        return ""
    bounds = f" ({found.low:+.2f} to {found.high:+.2f})" if math.isfinite(found.low) else ""
    return f"{found.mean:+.2f}{bounds}".replace("-", "−")


def findings(rows: Sequence[Row]) -> str:
    """What the table has no room for, by kind of verdict: how many runs it takes, where two agree on every seed."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if "(" in row.verdict:
            kind = kind_of(row.verdict)
            detail = row.verdict[row.verdict.index("(") :]
            of = f"`{row.recipe.name}` against `{row.against}`: {signed(row.difference)} points"
            detail += f"; {row.lengths}" if row.lengths else ""
            said.setdefault(kind, []).append(f"{of} {detail}")
    lines = []
    for kind, heading in KINDS.items():
        if kind in said:
            lines += [f"{heading}:", "", *(f"- {one}" for one in said[kind]), ""]
    return "\n".join(lines).rstrip()


def in_short(plan: Plan, tables: Sequence[tuple[Setting, Sequence[Row]]]) -> str:
    """The plan's question, and for each setting which rungs got which verdict; empty if none got one."""
    lines = []
    for setting, table in tables:
        said: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for row in table:
            if row.verdict:
                details = "; ".join(one for one in (row.lengths, row.so_far) if one)
                said[kind_of(row.verdict)].append(f"`{row.recipe.name}`" + f" ({details})" * bool(details))
        if goal := goal_of(plan):
            named = [(row, f"`{row.recipe.name}`" + f" ({row.so_far})" * bool(row.so_far)) for row in table]
            reached = [name for row, name in named if row.p_of_goal < LEVEL]
            open_yet = [name for row, name in named if row.p_of_goal >= LEVEL]
            said = {f"at least {goal} (p < {LEVEL})": reached, f"not shown to be at least {goal}": open_yet, **said}
        if any(said.values()):
            answers = "; ".join(f"*{kind}*: {', '.join(names)}" for kind, names in said.items() if names)
            lines.append(f"- {setting.device}, {setting.precision}: {answers}")
    against = {"before": "Each against the row before it, at", "first": f"Each against `{plan.names[0]}`, at"}
    lead = against.get(plan.compare, "At")
    head = f"**{plan.question}** {lead} the {plan.scale} scale, on {dataset_of(plan.dataset)}:"
    return "\n".join([head, "", *lines]) if lines else ""


PREFACE = """\
# What was found

Written by `cifar-fast report` from the recorded runs and their plans alone. A verdict comes from Welch's test, or from
a paired test where two recipes train the same network and differ in the test alone. *Better* and *worse* allow for the
number of comparisons in a table, by Holm's method: if all recipes of a table were equally accurate, such a verdict
would stand in fewer than 1 of 20 tables. *No difference larger than x shown*: the 95% interval reaches at most x from
zero, and x is no more than what matters to the plan; of many such verdicts 1 in 20 may be wrong. Where two recipes have
the same accuracy on every seed that both have, three or more, x is 0, whatever the interval. *Too few runs*: none of
these; about n runs on each side would find the smallest difference that matters 4 times in 5, if single runs spread as
they have so far. (With four or fewer on a side that is a guess, and n may be off threefold.) The intervals are for the
mean over seeds, on these test images, and are not corrected: one may leave out zero where the verdict is *too few
runs*.

A column headed *p of …* holds one-sided p-values, by Holm's method as well, for the question whether a recipe's mean is
at least a target, or at least another recipe's mean less what matters. So a recipe may stand both under *at least …*
and under *too few runs*: it is shown to be no worse than that, but not whether the two differ at all.

Seconds are given only from runs that no other recorded run on the same kind of machine disturbed: as far as the records
show, they had the GPU, or a core for each of their threads, to themselves. (Of other work the records know nothing.)
Runs with fewer threads than their machine has cores mostly had a neighbour on the others: compare their FLOPs, not
their seconds. Under *cold s* the warm-up step is on the clock too; but a plan makes a warm-up run before its first, so
these are not the first of their process. Where a recipe's accuracy is read from runs that were tested with TTA as well,
only *train s* is its own. The package may have become faster between two tables, so compare seconds only within a
table, where they are those of the runs made for its plan alone.

A table counts the runs that were made for its plan and, of other plans' runs, those with seeds that the plan asks for.
On other machines a table may consist of runs *made for other plans*. It answers the question only as far as those runs
happen to, and is left out of *In short*; it has no seconds, because they may be of several versions. *5 of 8* under
*n*: eight runs were planned, and three have not been made yet. Its verdict is a look before the end: whoever looks
often, and stops at a pleasing result, is wrong more often. Plans of five recipes or more come first."""

BROAD = 5
"""A plan of at least this many recipes has its results before the others'."""

STRAIGHT = """\
Read off a straight line between the recorded lengths on either side of the target. Accuracy rises ever more slowly, so
where these lie far apart the line is too low and the time too long, and rows should not be compared. Where *n* is 1, it
ends on a single run. No seconds are given where the two lengths ran with different numbers of threads."""


def aside(setting: Setting, records: Sequence[Record]) -> str:
    """Runs that no plan asks for, or that repeat a seed, as an item of a list."""
    names = Counter(record["recipe"]["name"] for record in records)
    what = ", ".join(f"`{name}` × {n}" for name, n in names.items())
    return f"- {dataset_of(setting.dataset)}, {setting.scale} scale, {setting.device}, {setting.precision}: {what}"


def by_numbers(path: Path) -> list[str | int]:
    """A key that sorts names that differ in a number by its size."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def report(folder: Path, target: float = 0.94) -> str:
    """All that the ledger and the plans of a folder say, but for searches; damaged lines are named at the end.

    Raises `UserError` where a plan or a file cannot be read.
    """
    records, damaged = read_folder(folder)
    short, parts, planned, shown = [], [], [], set[tuple[Setting, Key]]()
    plans = [(path, read_plan(path)) for path in sorted(folder.glob("*.toml"), key=by_numbers)]
    for path, plan in sorted(plans, key=lambda one: len(one[1].names) < BROAD):
        if plan.search:
            continue
        own = own_runs(path)
        tables = plan_tables(plan, records, own)
        if not tables:
            planned.append(f"- {plan.question} (`{path.name}`)")
            continue
        short.append(in_short(plan, [found for found in tables if found[0] in own]))
        parts.append(f"## {plan.question}")
        if plan.compare != "none":
            parts.append(f"The smallest difference that matters here: {plan.worth:g} points.")
        for setting, table in tables:
            shown |= {(setting, key_of(record)) for row in table if row.rung for record in row.rung.records}
            parts += told(plan, setting, table, setting in own)
            if absent := [f"`{row.recipe.name}`" for row in table if not row.rung]:
                parts.append(f"No runs yet of {', '.join(absent)}.")
    if shares := sorted(folder.glob("shares*.json")):
        parts += ["## Where the time goes", *(shares_table(read_shares(path)) for path in shares)]
    found = list(settings(records))
    times = [(setting, *lengths(theirs, target, neighbours)) for setting, theirs, neighbours in found]
    if any(rungs for _, rungs, _ in times):
        parts += [f"## Time to {100 * target:.4g}%", STRAIGHT]
        for setting, rungs, lines in times:
            if rungs:
                parts += [caption(setting, rungs, head=()), lines]
    if planned:
        parts += ["## Planned, without runs yet", "\n".join(planned)]
    others = by_setting(one for setting, theirs, _ in found for one in theirs if (setting, key_of(one)) not in shown)
    if others:
        parts += ["## Recorded, and counted in no plan's table", "\n".join(map(aside, others, others.values()))]
    if damaged:
        broken = (f"- {line.path.name}, line {line.line}: {line.why}" for line in damaged)
        parts += ["## Lines that are not records", "\n".join(broken)]
    if short := [one for one in short if one]:
        short = ["## In short", *short]
    return "\n\n".join([PREFACE, *short, *parts]) + "\n"
