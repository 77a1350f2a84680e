"""Tables and findings in Markdown, from the ledger and its plans alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .evidence import Rung, by_setting, how_many, rungs, settings
from .ledger import Key, Record, Setting, key_of, own_runs, read_folder
from .lengths import lengths
from .plan import Plan, read_plan
from .preface import READING, STRAIGHT, TITLE
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
    """The plan's question, and a table of what came of each rung in each setting; empty if nothing did."""

    def answer(row: Row) -> str:
        said = []
        if not math.isnan(row.p_of_goal):
            reached = row.p_of_goal < LEVEL
            said.append(f"{'' if reached else 'not shown to be '}at least {goal_of(plan)}{f' (p < {LEVEL})' * reached}")
        if row.difference:
            said.append(f"{row.verdict}: {row.difference.mean:+.2f}".replace("-", "−"))
        return "; ".join([*said, *[row.so_far] * bool(said and row.so_far)])

    lines = []
    for rows in zip(*(table for _, table in tables), strict=True):
        lengths = next((f" ({row.lengths})" for row in rows if row.lengths), "")
        lines.append([f"`{rows[0].recipe.name}`{lengths}", *map(answer, rows)])
    if not any(cell for line in lines for cell in line[1:]):
        return ""
    against = {"before": "Each against the row before it, in points, at",
               "first": f"Each against `{plan.names[0]}`, in points, at"}  # fmt: skip
    head = f"{against.get(plan.compare, 'At')} the {plan.scale} scale, on {dataset_of(plan.dataset)}:"
    columns = ["", *(f"{setting.device}, {setting.precision}" for setting, _ in tables)]
    return f"**{plan.question}** {head}\n\n{markdown(columns, lines)}"


BROAD = 5
"""A plan of at least this many recipes has its results before the others'."""


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

    Where there is no plan, a table for each setting.

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
    if any(reaching for _, reaching, _ in times):
        parts += [f"## Time to {100 * target:.4g}%", STRAIGHT]
        for setting, reaching, lines in times:
            if reaching:
                parts += [caption(setting, reaching, head=()), lines]
    if planned:
        parts += ["## Planned, without runs yet", "\n".join(planned)]
    if not plans:  # of a class, say: one table for each setting
        for setting, theirs, neighbours in found:
            made = rungs(theirs, neighbours)
            shown |= {(setting, key_of(record)) for rung in made for record in rung.records}
            parts += [caption(setting, made), markdown(HEAD, [cells(rung) for rung in made])]
    others = by_setting(one for setting, theirs, _ in found for one in theirs if (setting, key_of(one)) not in shown)
    if others:
        parts += ["## Recorded, and counted in no plan's table", "\n".join(map(aside, others, others.values()))]
    if damaged:
        broken = (f"- {line.path.name}, line {line.line}: {line.why}" for line in damaged)
        parts += ["## Lines that are not records", "\n".join(broken)]
    if short := [one for one in short if one]:
        short = ["## In short", *short]
    return "\n\n".join([TITLE, *short, READING, *parts]) + "\n"
