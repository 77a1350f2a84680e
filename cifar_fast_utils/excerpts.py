"""What the recorded runs say of a few rungs: the plans' tables, cut to them, for the chapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .ledger import Record, own_runs
from .plan import read_plan
from .report import told
from .verdicts import plan_tables


def excerpts(
    records: Sequence[Record], folder: Path, rungs: Sequence[str] = (), plan: str | None = None
) -> Iterator[str]:
    """The tables of the folder's plans that compare these rungs, with verdicts, as Markdown.

    Each is a plan's table in one setting, cut to these rungs and what they are compared with. `plan="lengths"` asks for
    the tables of that plan alone, `plan="ladder*"` for those of all plans so called; without rungs they are whole. Once
    a setting with more runs has been shown, one with single runs is only named, as they show no difference. Where there
    is nothing to show, a line says so.
    """
    shown, apart, bases = False, False, {name.split("@")[0] for name in rungs}
    for path in sorted(folder.glob(f"{plan or '*'}.toml")):
        found = read_plan(path)
        if found.search or (plan is None and found.compare == "none"):
            continue
        if bases and bases.isdisjoint(name.split("@")[0] for name in found.names):
            continue  # before its ledgers are read
        tabled, single, own = False, [], own_runs(path)
        for setting, table in plan_tables(found, records, own):
            recorded = [k for k, row in enumerate(table) if row.rung]
            wanted = [k for k in recorded if not bases or table[k].recipe.name.split("@")[0] in bases]
            others = {j for j in recorded if any(table[j].rung is table[k].other for k in wanted)} - {*wanted}
            if wanted and own and setting not in own and not any(table[k].difference for k in wanted):
                apart = True
                continue  # borrowed runs, and none of them compared
            if wanted and tabled and all(rung.n < 2 for k in wanted if (rung := table[k].rung)):
                single.append(f"{setting.device}, {setting.precision}")
            elif wanted:
                shown = tabled = True
                # What they are compared with stands there for its figures: its own verdict is of another comparison.
                bare = {k: replace(table[k], other=None, difference=None, verdict="") for k in others}
                kept = [bare.get(k, table[k]) for k in sorted({*wanted, *others})]
                tests = sum(row.difference is not None for row in table)
                said = f"**{found.question}**"
                if tests:
                    corrected = f"; *better* and *worse* are corrected for {tests} comparisons" * (tests > 1)
                    said += f" ({found.worth:g} points matter{corrected}.)"
                yield "\n\n".join([said, *told(found, setting, kept, setting in own)])
        if single:
            yield f"Single runs only, which tell no difference: on {'; on '.join(single)}."
    if not shown:
        of = [", ".join(f"`{name}`" for name in rungs), f"the plan `{plan}`" if plan else ""]
        compared = " that can be compared" * apart
        yield f"No recorded runs of {' in '.join(filter(None, of))}{compared} yet."
