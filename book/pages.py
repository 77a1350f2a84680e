"""Write the pages of the book that are made from data: `python book/pages.py` (or `make pages`).

report.md and figures.md from the recorded runs, leaderboard.md from the article's figures and ours, status.md from the
notebooks, tried.md from the searches. In the notebooks the tables of recorded runs are written anew, nothing else.
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
from cifar_fast_utils.plots import accuracy_against, seed_histogram, subtitle
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
        + " Of CIFAR-10 itself there are no recorded runs yet, and `cifar10-jpeg` costs accuracy: so none reaches 94%."
        * all(record["dataset"] != "cifar10" for record in records),
        "## The article's ladder",
        "Seconds of one V100 on DAWNBench's clock, which counts preprocessing and training; mean accuracy in percent "
        "{cite}`page2019`.",
        markdown(["rung", "epochs", "seconds", "accuracy"], ladder),
        "## Around it",
        "Rivals in DAWNBench's CIFAR-10 training-time ranking {cite}`coleman2017`, as the article names them, and "
        "three of its own times.",
        markdown(["entry", "seconds"], DAWNBENCH),
        "## Since then",
        "Each on the clock of whoever ran it {cite}`jordan2024,jordan2024muon,hiverge2025`. The last is older: the "
        "fastest published one without a GPU {cite}`coleman2017`.",
        markdown(["recipe", "seconds to 94%", "on", "PFLOP", "accuracy"], SINCE),
        "## Measured here",
        "Recipes at their own length; the words over the columns are in the [glossary](glossary.md). Shorter "
        "trainings, and those with a trick left out, are in [the evidence](report.md). PFLOP are of the training "
        "alone; the published ones of Page's recipe, airbench94 and airbench94_muon agree with ours once the final "
        "test is added ([chapter 14](../notebooks/14_a_leaner_network.ipynb)). Two tables at full scale hold seconds "
        "of two versions of the package. On the NVIDIA H200 `final` ran on 2026-11-26, before steps were launched as "
        "CUDA graphs ([chapter 13](../notebooks/13_the_machine.ipynb)); the others ran after it. On the Xeon three of "
        "the eight runs of `airbench94` are from before 06:00 of 2026-11-28, UTC, before filters' gradients were "
        "computed in rows of images; [how fast](measured.md) has its seconds without them. Under *cold s* the warm-up "
        "step is on the clock too, but a plan's runs come after one that warms up. The tables of the Xeon in float32 "
        "and of the one in bfloat16 are of two kinds of processor: the first has no tiles, but the same name.",
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


def figures(records: list[Record]) -> Iterator[tuple[str, str, str, Figure]]:
    """The figures of figures.md: the heading over each, its name, its alternative text, the figure."""
    path = RESULTS / "ladder_half.toml"
    own = own_runs(path)
    for setting, table in plan_tables(read_plan(path), records, own):
        ladder = [row.rung for row in table if row.rung and row.rung.n >= ENOUGH]
        if setting in own and len(ladder) == len(table):
            for figure in against_costs("ladder", setting, ladder):
                yield ("The article's ladder at half its epochs", *figure)
    whole = list(whole_recipes(records))
    for setting, ranked in whole:
        for figure in against_costs("recipes", setting, [rung for rung in ranked if rung.n >= ENOUGH]):
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
        "recipe has it. Where accuracy stands against a cost, look for points to the left and above.",
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
            facts = [found[key] for key in ("date", "device", "precision", "dataset", "scale", "torch", "commit")]
            lines.append([f"[{path.stem}](../notebooks/{path.name})", seconds, *facts])
    head = ["notebook", "took", "on", "device", "precision", "dataset", "scale", "PyTorch", "commit"]
    return (
        "# Status\n\nThe outputs in the notebooks are stored: this is when and where they were made, and how long each "
        "notebook ran from top to bottom. Newer are the tables of recorded runs under *The evidence*: they are written "
        "anew from the ledger. Chapter 12's tables and all figures are as old as the other outputs.\n\n"
        + markdown(head, lines)
        + "\n"
    )


TRIED = """\
# What was tried

The search behind the recipes of Part II, with all that did not help; [chapter
17](../notebooks/17_where_flops_count.ipynb) tells what did. Generated from the searches' plans and their own ledger;
of the runs in it none was left out, or run again until it looked better. Tries that were planned and never made have
no row, and a plan whose runs are still to be made has no table; what was tried beside the plans is told below.

How to read the tables: a pair in the column *change* is an epoch and what holds from there on, so `hardest [[0, 1.0],
[2, 0.6]]` takes all images at first and the hardest 60 percent from the third epoch. `widths` are in units of the
scale's width; the other fields are explained where the chapters use them, `resting` (of a number of blocks, trained at
every other step alone) only here. *Against base* is blank where the base is no row of the same table. The sections
stand in the order of their plans' file names, not of time.

A search looks at many recipes and keeps what comes out best, so its best is partly luck, and its figures are no
evidence. They were therefore made on other images and other seeds than the evidence: on the last 5,000 training
images, set aside, with networks trained on the others. The test images were not looked at. (So a pass is a tenth
shorter there than in the evidence. One recipe that had been chosen to fill a minute took 64 s on all images, and was
cut again, by validation images and seconds alone; its ten runs stand in the evidence as `small_fast_60_lookahead`.)
Between two runs of a recipe at full width accuracies differ by a quarter of a point as a rule, cross-entropies by
0.005, so a difference below that tells little; what was kept was tested again in [the evidence](report.md). Seconds
are given where no other run shared the GPU or the cores; the machines were often busy all the same, so they are not
for comparing.

Most searches were made on two cores, most of those with one seed a try; *n* says how many. Two of these were stopped
early: that for three minutes without bfloat16 after one seed, to leave time for the evidence, and the one that asks
whether `fast` needs its pass at 24 pixels after three of four (in each of them the loss was higher without that pass).
Four were made on a GPU, six to twelve trainings at a time: one change at a time ("What moves the best start …"), what
had helped, together ("What helped alone …"), for fewer epochs ("How few epochs …"), and for eight minutes. The first
and the last were to have four seeds a try and were stopped by the clock after one or two, the second a single run
short of its end.

The searches on the GPU cast doubt on those on two cores in two places. First: the two runs of airbench94 that the
searches on two cores had to come up to, 90.76 and 90.88 percent, are above all eight runs of airbench94 on the GPU
(90.06 to 90.74). Second: on two cores Lookahead came out slightly worse, in one run at half of the width. In the
second list on the GPU it came out best, together with a rate that ends above zero (`looking_ahead_too`). The interval
of that difference takes in zero, so it may be chance. The first list has a doubt of its own: the two runs of its
start, `early`, came out low in accuracy. 39 of the 40 changes stand at or above it, and the mean of all their runs is
0.26 points higher. So its column *against base* leans upward by about as much.

In the first search without bfloat16 ("What is a minute without bfloat16 best spent on?") the shortened schedule moved
the start of choosing to the first step, when no loss was known yet: all seven tries began with a pass over 70 percent
of the images, no matter which, and the table does not show it. What it led to chooses from the second epoch on. And
words in two plans are wrong. Norms over 64 images (`ghost`) do not make "the article's noise", which is that of 32; by
the law of chapter 06 they make 0.7 of it. And `minute_shortened_more` has not about as many FLOPs as
`minute_frozen_early`, but 13 percent more, for cutting its epochs moved the step to 24 pixels as well; `minute_cut`
corrects that.

Some things were tried beside the plans, on the same images set aside; but for those of `fast_anew` the figures are in
no ledger:

- Several shares and sides of one more pair of views in the test were tried on the answers of two trained networks; of
  these a share of a fifth was chosen. On the networks at full width that were tried after that choice, the pair
  changed the accuracy by −0.22 to +0.34 points.
- The norms' statistics measured anew over 1,000 to 8,000 training images as they are, on one network of `fast` (seed
  1101): with six views 90.42 to 90.52 percent in place of 90.62, a cross-entropy of 0.291 to 0.294 in place of 0.280.
- A pair of views at 24 or 28 pixels, on the same network: the same accuracy, a cross-entropy of 0.283.
- 29 pixels in place of 32 in training and test, where the pools drop nothing; one run, on a Xeon in bfloat16, where
  three runs of `fast` (`fast_anew` below) have 0.287 to 0.289: 0.290 (90.60 percent). With 17 and 21 pixels in place
  of 16 and 24 as well: 0.294 (90.44). Such a network is made for its size: tested at one pixel more it has 0.8 to 0.9
  points less, at 32 pixels 2.0 and 2.6.
- Newton–Schulz iterations with other coefficients, by which nearly all singular values end closer to 1 (Amsel et al.,
  "The Polar Express", 2025); one run there: 0.292 (90.64).

Where accuracies lay too close, the cross-entropy of the same answers was looked at as well. It changes with every
answer, while accuracy changes only where an answer turns right or wrong. All logits were first divided by one number,
the temperature, chosen so that the cross-entropy is smallest. The later runs have it in the ledger (loss). For some
that were recorded before it had a place there, it was computed from the trained networks, on the images set aside from
`cifar10-jpeg`, with the six views, at full width, n = 1 for each seed:

| try | seed | loss |
| --- | ---: | ---: |
| `reference`, airbench94 | 1001 | 0.289 |
| `ghost_all_seven` | 1001 | 0.291 |
| `seven`, the same recipe | 1002 | 0.292 |
| `six_at_32` | 1002 | 0.291 |
| `seven_moved_less` | 1002 | 0.295 |
| `seven_more_images` | 1002 | 0.300 |
| `seven_passes` | 1001 | 0.297 |
| `ghost_full_early` | 1001 | 0.299 |
| `all_trained` | 1001 | 0.300 |
| `together`, of the searches on two cores | 1001 | 0.303 |
| `ghost_all` | 1001 | 0.303 |
| `ghost` | 1001 | 0.307 |
| `settled` | 1001 | 0.316 |
| `no_muon` | 1001 | 0.323 |

`ghost_all_seven` and `seven` are one recipe and differ by 0.001 in it; the runs of one recipe on the GPU differ by
more.

Some ideas were tried once each beside the plans, most before their code was written for good, on the same images set
aside. None of these runs is in the ledger; the last two ideas went into plans. The loss of the six views, at half of
the width, n = 1, with the same seed in both columns:

| idea | loss | without it |
| --- | ---: | ---: |
| each filter scaled to norm 1, in place of each layer's filters together | 0.352 | 0.348 |
| three Newton–Schulz iterations in place of five | 0.351 | 0.348 |
| a third convolution in the last block | 0.358 | 0.348 |
| an exponential average of the weights, the rate ending at a tenth | 0.339 | 0.340 |
| the same, slower, the rate ending at a fifth | 0.361 | 0.340 |
| Lookahead on top of orthogonalised steps | 0.346 | 0.340 |
| two last blocks side by side, their answers averaged, for a quarter more FLOPs | 0.337 | 0.340 |
| four of them at half of the width | 0.358 | 0.340 |
| twice the rate for the linear layer and the biases | 0.353 | 0.354 |
| no last pass over all images | 0.346 | 0.354 |
| nothing frozen, for a sixth more FLOPs | 0.340 | 0.348 |

And at the full width, where comparable recipes came to 0.300: 0.306 with crops of 28 pixels for three epochs in place
of shrunk images, and 0.305 with four changes at once that all make learning by heart harder (three quarters of the
images, translation by three pixels, jitter, groups of 32). What helped more than any of these was a second training of
the same recipe: the averaged answers of two trainings came to 0.276 to 0.282 where each had 0.297 to 0.303, those of
five to 0.264. So a good part of what one network gets wrong is the chance of its training, not what such a network can
express.

One idea changes no answer, and bought no time. The maps of the lean network have odd sides, so each block's pool drops
a row and a column, which its convolution need not compute: 11 % fewer FLOPs in a step of `fast` at 32 pixels, 15 % at
24, 23 % at 16, for the same function. The steps took 1.03, 0.98 and 1.07 times as long (at full width in bfloat16,
medians of 8, in turns, once, on two cores of an AMD EPYC of family 25; not in the ledger either): PyTorch can pad one
side alone only by a copy, and computes the gradient of all that was padded."""


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
