"""Write the pages of the book that are made from data: `python book/pages.py` (or `make pages`).

report.md and figures.md from the recorded runs, leaderboard.md from the article's figures and ours, status.md from the
notebooks, tried.md from the searches, with how_it_was_tried.md before them. In the notebooks the tables of recorded
runs are written anew, nothing else.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
import nbformat
from matplotlib.figure import Figure

from cifar_fast_utils.article import ARTICLE
from cifar_fast_utils.device import cores_of
from cifar_fast_utils.evidence import Rung, compare, rungs, settings
from cifar_fast_utils.excerpts import excerpts
from cifar_fast_utils.ledger import Record, Setting, own_runs, read_folder
from cifar_fast_utils.plan import Plan, read_plan
from cifar_fast_utils.plots import accuracy_against, seed_histogram, seed_strips, subtitle
from cifar_fast_utils.recipe import LADDER, MODERN, RECIPES, get
from cifar_fast_utils.report import HEAD, caption, cells, report, signed
from cifar_fast_utils.tables import markdown, unless_nan
from cifar_fast_utils.verdicts import plan_tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "book" / "results"
KNOWN = {*RECIPES, *MODERN}
"""The recipes that the leaderboard ranks: no stretched ones, none that lacks a trick, none of a plan alone."""
TARGET = 0.85
"""The accuracy whose time the report seeks: within reach of a quarter of the width on re-encoded images."""

DAWNBENCH = [
    ["Kakao Brain, 4 GPUs, with TTA", "37"],
    ["BaiduNet9P, 8 GPUs", "about 45"],
    ["Kakao Brain, 1 GPU, with TTA", "68"],
    *(
        [f"the article's `{name}`, 1 GPU{tta}", f"{ARTICLE[name][0]:g}"]
        for name, tta in (("baseline", ""), ("ema", ""), ("final", ", with TTA"))
    ),
]
SINCE = [
    ["Page's recipe, re-run", "14.0", "A100", "1.14", "94.09 (n = 300)"],
    ["hlb-CIFAR10 0.7", "6.2", "A100", "0.60", "n = 25"],
    ["airbench94", "3.83, compiled 3.29", "A100", "0.36", "94.01 (n = 1000)"],
    ["airbench94_muon", "compiled 2.59", "A100", "0.29", "94.01 (n = 200)"],
    ["hiverge cifar10-speedrun", "1.98", "A100", "", "94.02"],
    ["ResNet-164, DAWNBench 2017", "286,014", "16 CPU cores", "", "94.05"],
]


def leaderboard(records: list[Record]) -> str:
    """The article's ladder, the entries around it, what came since, and what was measured here."""
    ladder = [
        [f"`{name}`", f"{get(name).epochs:g}", *(f"{figure:g}" if figure else "" for figure in ARTICLE[name])]
        for name in LADDER
    ]
    parts = [
        "# Leaderboard",
        "How fast does a network reach 94% test accuracy on CIFAR-10? The first three tables give what others have "
        "published, on their own hardware and by their own clocks; those under *Measured here* give what was "
        "recorded for this book, on the images that they name."
        + " Of CIFAR-10 itself there are no recorded runs yet, and `cifar10-jpeg` costs accuracy, so none reaches 94%."
        * all(record["dataset"] != "cifar10" for record in records),
        "## The article's ladder",
        "Seconds on one V100 by DAWNBench's clock, which counts preprocessing and training; mean accuracy in percent "
        "{cite}`page2019`.",
        markdown(["rung", "epochs", "seconds", "accuracy"], ladder),
        "## Around it",
        "Rivals in DAWNBench's CIFAR-10 training-time ranking {cite}`coleman2017`, as the article names them, and "
        "three of its own times.",
        markdown(["entry", "seconds"], DAWNBENCH),
        "## Since then",
        "Each on the clock of whoever ran it {cite}`jordan2024,jordan2024muon,hiverge2025`. The last row is older: "
        "it is the fastest published one without a GPU {cite}`coleman2017`.",
        markdown(["recipe", "seconds to 94%", "on", "PFLOP", "accuracy"], SINCE),
        "## Measured here",
        "These are recipes at their own length; the [glossary](glossary.md) has the words over the columns. Shorter "
        "trainings, and those with a trick left out, are in [the evidence](report.md). PFLOP are of the training "
        "alone; the published figures for Page's recipe, airbench94 and airbench94_muon agree with ours once the final "
        "test is added ([chapter 14](../notebooks/14_a_leaner_network.ipynb)). Two tables at full scale hold seconds "
        "from two versions of the package. On the NVIDIA H200 `final` ran on 2026-11-26, before steps were launched as "
        "CUDA graphs ([chapter 13](../notebooks/13_the_machine.ipynb)); the others ran after it. On the Xeon three of "
        "the eight runs of `airbench94` are from before 06:00 of 2026-11-28, UTC, before filters' gradients were "
        "computed in rows of images; [how fast](measured.md) has its seconds without them. Under *cold s* the warm-up "
        "step is on the clock too, but a plan's runs come after a warm-up run. The tables of the Xeon in float32 "
        "and of the one in bfloat16 are from two kinds of processor: the first has no tiles, but the same name.",
    ]
    for setting, ranked in whole_recipes(records):
        parts += [caption(setting, ranked), markdown(HEAD, [cells(rung) for rung in ranked])]
    return "\n\n".join(parts) + "\n"


def whole_recipes(records: list[Record]) -> Iterator[tuple[Setting, list[Rung]]]:
    """For each setting the recipes that ran there at their own length, the most accurate first."""
    for setting, theirs, neighbours in settings(records):
        whole = [rung for rung in rungs(theirs, neighbours) if rung.recipe.name in KNOWN]
        if whole:
            yield setting, sorted(whole, key=lambda rung: -rung.interval.mean)


MANY = 4
"""How many recipes make a figure that shows more than a table."""
ENOUGH = 3
"""How many runs of a recipe make a point."""
PLANS = {
    "ladder_half": "The article's ladder at half its epochs",
    "leave_one_out": "The recipe `final` without each of its tricks",
}
"""Whose runs are drawn, where all its recipes have enough, and under which heading."""
SEEDS = 20
"""How many make a histogram."""


def file_name(*words: str) -> str:
    """Words as a name that is fit for a file."""
    return "_".join(re.findall("[a-z0-9]+", " ".join(words).lower()))


def against_costs(name: str, setting: Setting, shown: Sequence[Rung]) -> Iterator[tuple[str, str, Figure]]:
    """Accuracy against FLOPs and, on a processor, seconds: each figure's name, its alternative text, the figure.

    No seconds of a GPU: its runs are of versions of the package of which one is much the faster.
    """
    timed = [rung for rung in shown if rung.timed and cores_of(setting.device)]
    costs: list[tuple[str, str, Callable[[Rung], float], Sequence[Rung]]] = [
        ("flops", "PFLOP of training", lambda rung: rung.flops / 1e15, shown),
        ("seconds", "median seconds of training", lambda rung: rung.seconds("train"), timed),
    ]
    for kind, label, cost, those in costs:
        if len(those) >= MANY:
            points = "; ".join(
                f"{rung.recipe.name} {rung.interval.mean:.2f} at {cost(rung):.3g} (n = {rung.n})" for rung in those
            )
            said = " ".join(subtitle(setting, those).split())
            figure = accuracy_against(those, cost, label, setting)
            where = file_name(name, *setting, kind)
            yield where, f"{said}. Accuracy in percent against {label}: {points}.", figure


def strips(name: str, setting: Setting, shown: Sequence[Rung]) -> Iterator[tuple[str, str, Figure]]:
    """The accuracy of every seed of these: the figure's name, its alternative text, the figure."""
    if len(shown) >= MANY:
        spans = "; ".join(
            f"{rung.recipe.name} {min(rung.points):.2f} to {max(rung.points):.2f}, mean {rung.interval.mean:.2f} "
            f"(n = {rung.n})"
            for rung in shown
        )
        alt = f"{' '.join(subtitle(setting, shown).split())}. A row for each recipe, a point for each seed: {spans}."
        yield file_name(name, *setting, "strips"), alt, seed_strips(shown, setting)


def figures(records: list[Record]) -> Iterator[tuple[str, str, str, Figure]]:
    """The figures of figures.md: the heading over each, its name, its alternative text, the figure."""
    for plan, heading in PLANS.items():
        path = RESULTS / f"{plan}.toml"
        own = own_runs(path)
        for setting, table in plan_tables(read_plan(path), records, own):
            shown = [row.rung for row in table if row.rung and row.rung.n >= ENOUGH]
            if setting in own and len(shown) == len(table):
                costs = against_costs("ladder", setting, shown) if plan == "ladder_half" else ()
                for figure in (*costs, *strips(plan, setting, shown)):
                    yield (heading, *figure)
    whole = list(whole_recipes(records))
    for setting, ranked in whole:
        often = [rung for rung in ranked if rung.n >= ENOUGH]
        for figure in (*against_costs("recipes", setting, often), *strips("recipes", setting, often)):
            yield ("Recipes at their own length", *figure)
    for setting, ranked in whole:
        for rung in ranked:
            if rung.n >= SEEDS:
                mean, said = rung.interval, " ".join(subtitle(setting, [rung]).split())
                span = f"{min(rung.points):.2f} to {max(rung.points):.2f} percent"
                alt = (f"{rung.recipe.name}: {said}. Histogram of accuracies from {span}, mean {mean.mean:.2f}, "
                       f"its 95% interval {mean.low:.2f} to {mean.high:.2f}.")  # fmt: skip
                name = file_name("seeds", *setting, rung.recipe.name)
                yield "How the seeds of a recipe spread", name, alt, seed_histogram(rung, setting)


def in_figures(shown: Sequence[tuple[str, str, str, Figure]]) -> str:
    """The page that shows them."""
    parts = [
        "# What was found, in figures",
        "Drawn from the recorded runs alone, where there are enough of them. The tables are in "
        "[what was found](report.md) and in the [leaderboard](leaderboard.md). Each title says on which images "
        "(`cifar10-jpeg` is not CIFAR-10), at which scale and on which machine. Accuracies are with TTA where the "
        "recipe has it. Where accuracy is drawn against a cost, look for points to the left and above.",
    ]
    for number, (heading, name, alt, _) in enumerate(shown):
        if not number or shown[number - 1][0] != heading:
            parts.append(f"## {heading}")
        parts.append(f"![{alt}](figures/{name}.svg)")
    return "\n\n".join(parts) + "\n"


def as_svg(figure: Figure, alt: str) -> bytes:
    """The figure with its text as text, and nothing in it that changes from one time to the next."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Description": alt})
    return file.getvalue()


def draw(folder: Path, shown: Sequence[tuple[str, str, str, Figure]]) -> None:
    """Write the figures whose data has changed, as their description says, and remove those that are no more.

    The others stay, for another version of matplotlib would write them in other bytes.
    """
    folder.mkdir(exist_ok=True)
    wanted = {folder / f"{name}.svg": (figure, alt) for _, name, alt, figure in shown}
    for path, (figure, alt) in wanted.items():
        if not path.exists() or f">{escape(alt)}<" not in path.read_text(encoding="utf-8"):
            path.write_bytes(as_svg(figure, alt))
    for path in set(folder.glob("*.svg")) - set(wanted):
        path.unlink()


def status() -> str:
    """When, where and how long each notebook ran for its stored outputs."""
    lines = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found = nbformat.read(path, as_version=4).metadata.get("cifar_fast")
        if found:
            seconds = f"{found['seconds'] // 60} min {found['seconds'] % 60:02d} s"
            facts = [found[key] or "" for key in ("date", "device", "precision", "dataset", "scale", "torch", "commit")]
            lines.append([f"[{path.stem}](../notebooks/{path.name})", seconds, *facts])
    head = ["notebook", "took", "on", "device", "precision", "dataset", "scale", "PyTorch", "commit"]
    return (
        "# Status\n\nThe outputs in the notebooks are stored: this is when and where they were made, and how long each "
        "notebook ran from top to bottom. The tables of recorded runs under *The evidence* are newer: they are written "
        "anew from the ledger. Chapter 12's tables and all figures are as old as the other outputs.\n\n"
        + markdown(head, lines)
        + "\n"
    )


TRIED = (ROOT / "book" / "how_it_was_tried.md").read_text(encoding="utf-8").rstrip()
"""What stands before the searches, written by hand."""


def search(plan: Plan, records: list[Record], own: Collection[Setting]) -> list[str]:
    """A search in each setting in which it was carried out: every try, its change, why, its accuracy, its base's."""
    parts = [f"## {plan.question}"]
    for setting, table in plan_tables(plan, records, dict.fromkeys(own, ())):  # with other searches' runs of a recipe
        if setting not in own:
            continue
        made = {name: row.rung for name, row in zip(plan.names, table, strict=True)}
        lines = []
        for one in plan.tries:
            base = made.get(one.base)
            if found := made.get(one.name):
                change = ", ".join(f"{field} {value}" for field, value in one.change.items())
                against = signed(compare(found, base)) if base else ""
                figures = cells(found)
                losses = [loss for record in found.records if (loss := record.get("cross_entropy")) is not None]
                shown = [
                    *figures[2:4],
                    against,
                    f"{statistics.mean(losses):.4f}" if len(losses) == found.n else "",
                    figures[6],
                    f"{found.flops / 1e12:.1f}",
                    unless_nan(found.seconds("train"), ".0f"),
                ]
                lines.append([f"`{one.name}`", f"`{one.base}`", change, one.why, *shown])
        head = ["try", "base", "change", "why", "n", "accuracy", "against base", "loss", "no TTA", "TFLOP", "train s"]
        parts += [caption(setting, [row.rung for row in table if row.rung], head), markdown(head, lines)]
        if len(lines) < len(plan.tries):
            parts.append(f"Of the {len(plan.tries)} tries that were planned, {len(lines)} were made.")
    return parts if len(parts) > 1 else [*parts, "No runs yet."]


def tried(records: list[Record]) -> str:
    """All searches."""
    plans = [(read_plan(path), path) for path in sorted(RESULTS.glob("*.toml"))]
    parts = (part for plan, path in plans if plan.search for part in search(plan, records, own_runs(path)))
    return "\n\n".join([TRIED, *parts]) + "\n"


def evidence_calls(source: str) -> list[tuple[list[str], str | None]]:
    """The rungs and the plan of each call in a cell that does nothing but call `notebook.evidence`; else empty."""
    calls = []
    if source.startswith("notebook.evidence("):
        for statement in ast.parse(source).body:
            if not (isinstance(statement, ast.Expr) and isinstance(call := statement.value, ast.Call)):
                return []
            if ast.unparse(call.func) != "notebook.evidence":
                return []
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            calls.append(([ast.literal_eval(rung) for rung in call.args], named.get("plan")))
    return calls


def with_evidence(path: Path, records: list[Record]) -> str:
    """A notebook with the tables of recorded runs as these make them, all else as it is."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.outputs and (calls := evidence_calls(cell.source)):
            plain = "<IPython.core.display.Markdown object>"
            cell.outputs = [
                nbformat.v4.new_output("display_data", {"text/markdown": part, "text/plain": plain})
                for rungs, plan in calls
                for part in excerpts(records, RESULTS, rungs, plan)
            ]
    return f"{nbformat.writes(notebook)}\n"


def chapters(records: list[Record]) -> dict[Path, str]:
    """Each notebook and its text, with today's tables of recorded runs."""
    return {path: with_evidence(path, records) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def pages(records: list[Record]) -> dict[str, str]:
    """Each generated page's file name and content."""
    return {
        "report.md": report(RESULTS, TARGET),
        "leaderboard.md": leaderboard(records),
        "status.md": status(),
        "tried.md": tried(records),
        "figures.md": in_figures(list(figures(records))),
    }


if __name__ == "__main__":
    RECORDS, _ = read_folder(RESULTS)
    for name, text in pages(RECORDS).items():
        (ROOT / "book" / name).write_text(text, encoding="utf-8")
    for path, text in chapters(RECORDS).items():
        path.write_text(text, encoding="utf-8")
    draw(ROOT / "book" / "figures", list(figures(RECORDS)))
