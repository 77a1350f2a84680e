"""The rules that notebooks and pages keep."""

import dis
import functools
import itertools
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from xml.etree import ElementTree

import address
import execute
import nbformat
import numpy as np
import pages
import pytest
import torch
from matplotlib.figure import Figure
from records import COUNT, record
from texts import chapter, page
from torch.utils.flop_counter import FlopCounterMode

from cifar_fast_utils.article import ARTICLE
from cifar_fast_utils.device import cores_of
from cifar_fast_utils.download import HUB, HUB_FILES
from cifar_fast_utils.evidence import by_setting, rung
from cifar_fast_utils.ledger import Record, read, read_folder, setting_of
from cifar_fast_utils.optimiser import orthogonalise
from cifar_fast_utils.plan import Plan, Try, read_plan
from cifar_fast_utils.recipe import get
from cifar_fast_utils.report import signed
from cifar_fast_utils.sources import MEAN, STD
from cifar_fast_utils.stats import difference
from cifar_fast_utils.verdicts import Row, kind_of, plan_tables, rows

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LISTED = re.findall(r"^ +- file: notebooks/(\w+)$", (ROOT / "_toc.yml").read_text(encoding="utf-8"), re.MULTILINE)
PROVENANCE = {"dataset", "scale", "device", "precision", "torch", "commit", "date", "code", "seconds"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def notebook(path: Path) -> nbformat.NotebookNode:
    return read_once(path)


@functools.cache
def read_once(path: Path) -> nbformat.NotebookNode:
    """For tests that change nothing in it."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-any-return]


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)


def test_colab_opens_it_on_a_gpu(notebook: nbformat.NotebookNode) -> None:
    assert notebook.metadata["accelerator"] == "GPU"
    assert notebook.metadata["colab"] == {"gpuType": "T4"}


def test_what_gives_a_solution_away_is_tagged(notebook: nbformat.NotebookNode) -> None:
    """So that a teacher can take it out."""
    for cell in notebook.cells:
        hidden = "hide-cell" in cell.metadata.get("tags", []) or re.match(r"<details>|# Solution", cell.source)
        assert bool(hidden) == ("solution" in cell.metadata.get("tags", [])), cell.source[:80]


def test_it_opens_in_colab_and_begins_with_the_one_setup_cell(path: Path, notebook: nbformat.NotebookNode) -> None:
    link = f"https://colab.research.google.com/github/{address.slug()}/blob/main/notebooks/{path.name}"
    assert f"[Open this page in Colab]({link})" in notebook.cells[0].source
    setup = code_cells(notebook)[0].source
    assert f'%pip install -q "git+https://github.com/{address.slug()}"' in setup
    assert "lesson = notebook.start(" in setup
    assert all("pip install" not in cell.source for cell in code_cells(notebook)[1:])


def test_its_code_is_narrow_enough_for_a_page(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook)[1:]:
        assert max(map(len, cell.source.splitlines())) <= 88, cell.source


def taken_and_bound(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell takes from other cells, and those that it binds."""
    taken: set[str] = set()
    bound: set[str] = set()

    def look(code: CodeType, in_the_cell: bool) -> None:
        for instruction in dis.get_instructions(code):
            if instruction.opname == "STORE_NAME" and in_the_cell:
                bound.add(instruction.argval)
            elif instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL") and instruction.argval not in bound:
                taken.add(instruction.argval)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                look(constant, in_the_cell=False)

    look(compile(source, "cell", "exec"), in_the_cell=True)
    return taken, bound


def test_a_cell_may_be_run_again_after_the_later_ones(notebook: nbformat.NotebookNode) -> None:
    before = {"lesson", "notebook"}  # the first cell's; its %pip is no Python
    cells = [(cell, *taken_and_bound(cell.source)) for cell in code_cells(notebook)[1:]]
    for place, (cell, taken, bound) in enumerate(cells):
        later = set().union(*(names for _, _, names in cells[place:]))  # `x = f(x)` too, which changes what it takes
        assert not taken & before & later, cell.source
        before |= bound


def test_it_teaches(path: Path, notebook: nbformat.NotebookNode) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "**You will learn**" in text or "**You will find here**" in text
    assert "{cite}`page2019`" in text
    if not path.stem.startswith("A"):
        for kind in ("Predict", "Code", "Measure"):
            assert re.search(rf"\*\*\d+\. {kind}\b", text), f"no exercise to {kind.lower()}"
        assert "<details>" in text
        assert "## The evidence" in text
        checked = [cell for cell in code_cells(notebook) if "nbval-check-output" in cell.metadata.get("tags", [])]
        assert len(checked) >= 2
    keys = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8")))
    assert set(re.findall(r"\{cite[^}]*\}`(\w+)`", text)) <= keys
    assert "```{" not in text, "a directive shows raw in Colab"


def test_it_says_how_long_it_takes(notebook: nbformat.NotebookNode) -> None:
    where = notebook.metadata["cifar_fast"]
    measured = math.ceil(where["seconds"] / 60)
    assert measured <= (6 if where["precision"] == "bfloat16" else 8)
    said = f"about {COUNT[measured]} minute{'s' * (measured > 1)} on two CPU cores"
    assert said in notebook.cells[0].source.replace("\n", " ")


def test_it_links_words_to_the_glossary(notebook: nbformat.NotebookNode) -> None:
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    terms = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", glossary, re.MULTILINE)}
    assert len(terms) > 20
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    page = f"https://github.com/{address.slug()}/blob/main/book/glossary.md"
    found = re.findall(rf"\]\({re.escape(page)}#([^)]*)\)", text)
    assert len(found) >= 2
    assert set(found) <= terms
    assert "glossary" not in text.replace(page, "")


def test_every_figure_has_a_written_alt_text(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        if "plt.show()" in cell.source or any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 30, cell.source


def test_its_outputs_are_whole_and_of_this_version(notebook: nbformat.NotebookNode) -> None:
    where = notebook.metadata.get("cifar_fast", {})
    assert set(where) == PROVENANCE
    assert where["code"] == execute.digest(notebook), "the outputs are another version's: run book/execute.py"
    assert where["scale"] == "small"
    assert where["dataset"] != "synthetic"
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    for cell in code_cells(notebook):
        assert all(output.output_type != "error" for output in cell.outputs), cell.source


def test_every_notebook_of_the_book_is_there() -> None:
    assert len(LISTED) >= 14
    assert sorted(LISTED) == [path.stem for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def recorded() -> list[Record]:
    return read_folder(ROOT / "book" / "results")[0]


def test_the_generated_pages_are_up_to_date(recorded: list[Record]) -> None:
    for name, text in pages.pages(recorded).items():
        assert (ROOT / "book" / name).read_text(encoding="utf-8") == text, f"{name}: run `make pages`"


def test_the_chapters_tables_are_those_of_the_recorded_runs(recorded: list[Record]) -> None:
    for path, text in pages.chapters(recorded).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make pages`"


def test_only_cells_that_show_evidence_are_written_anew(tmp_path: Path) -> None:
    sources = ['notebook.evidence("celu")\nnotebook.evidence(plan="none")', "print(1)", 'x = notebook.evidence("celu")']
    outputs = [nbformat.v4.new_output("stream", name="stdout", text="old\n")]
    cells = [nbformat.v4.new_code_cell(source, outputs=outputs) for source in sources]
    cells.append(nbformat.v4.new_code_cell(sources[0]))  # never run
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    made = nbformat.reads(pages.with_evidence(tmp_path / "page.ipynb", []), as_version=4)
    said = ["No recorded runs of `celu` yet.", "No recorded runs of the plan `none` yet."]
    assert [output.data["text/markdown"] for output in made.cells[0].outputs] == said
    assert [cell.outputs for cell in made.cells[1:]] == [outputs, outputs, []]


def test_the_chapter_on_lookahead_tells_how_an_average_did_in_its_place() -> None:
    results = ROOT / "book" / "results"
    records = read([results / "tried_averages.jsonl"])[0]
    ((_, (ahead, short, long)),) = plan_tables(read_plan(results / "tried_averages.toml"), records)
    said = chapter("16")
    assert ahead.rung
    assert short.rung
    assert short.difference
    assert long.difference
    assert ahead.rung.n == short.rung.n == 8
    assert f"comes to {short.rung.interval.mean:.2f} percent, Lookahead to {ahead.rung.interval.mean:.2f}:" in said
    near, far = (signed(row.difference).replace("(", "").replace(")", "") for row in (short, long))
    points, interval = near.split(" ", 1)
    assert f"{points} points, {interval}, so which is better cannot be told" in said
    assert short.verdict.startswith("too few runs")
    assert f"is {-long.difference.mean:.0f} points lower ({far.split(' ', 1)[1]})" in said


def test_what_compiling_costs_is_the_measured_cost() -> None:
    found = json.loads((ROOT / "benchmarks" / "xeon_amx_compiled.json").read_text(encoding="utf-8"))["milliseconds"]
    assert {(one["recipe"], one["scale"]) for one in found} == set(
        itertools.product(("airbench94", "final"), ("full", "small"))
    )
    ratios = [one["ratio"] for one in found]
    longest = max(one["first_s"] for one in found)
    said = chapter("13")
    assert f"{min(ratios):.2f} to {max(ratios):.2f} times as long compiled as eager" in said
    assert f"compiling took up to {longest:.0f} seconds" in said
    (wide,) = [one for one in found if (one["recipe"], one["scale"]) == ("final", "full")]
    assert f"`final` at full width would take {wide['compiled'] / wide['eager']:.2f}.)" in said


def test_the_operations_that_muon_saves_are_counted() -> None:
    shapes = [(64, 216), (64, 576), (256, 576), *[(256, 2304)] * 3]  # of the lean network's filters at full width
    one_by_one = [5 * (4 * r**2 * q + 2 * r**3) / 1e9 for r, q in shapes]
    on_a_cpu = []
    for shape in shapes:
        with FlopCounterMode(display=False) as counter:
            orthogonalise(torch.randn(shape), torch.float32)
        on_a_cpu.append(counter.get_total_flops() / 1e9)
    said = chapter("16")
    for k, size in ((-1, "256 × 2304"), (2, "256 × 576")):
        assert re.search(f"for {size} {on_a_cpu[k]:.2f}( GFLOP)? in place of {one_by_one[k]:.2f}", said)
    assert f"make {sum(one_by_one):.1f} GFLOP a step, these {sum(on_a_cpu):.1f}." in said


def test_the_figures_are_those_of_the_recorded_runs() -> None:
    text = (ROOT / "book" / "figures.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[(.+)\]\(figures/(\w+\.svg)\)", text)
    assert {path.name for path in (ROOT / "book" / "figures").glob("*.svg")} == {name for _, name in shown}
    for alt, name in shown:  # the file says what it was drawn from: its bytes differ with matplotlib's version
        found = ElementTree.parse(ROOT / "book" / "figures" / name).find(".//{*}description")
        assert found is not None
        assert found.text == alt


def test_a_figure_has_a_point_for_each_recipe_that_ran_often_enough() -> None:
    names = {"celu": 3, "final": 20, "tta": 4, "frozen_scales": 3, "whitening": 2}
    made = [
        record(name, seed, 0.8 + seed / 1000, device="a machine, 2 cores")
        for name, n in names.items()
        for seed in range(n)
    ]
    found = {name: (heading, alt, figure) for heading, name, alt, figure in pages.figures(made)}
    where = "noise_0123_small_a_machine_2_cores_float32"
    recipes = f"recipes_{where}"
    assert list(found) == [f"{recipes}_flops", f"{recipes}_seconds", f"{recipes}_strips", f"seeds_{where}_final"]
    heading, alt, figure = found[f"{recipes}_flops"]
    assert heading == "Recipes at their own length"
    assert alt.startswith("noise, small scale, 30 runs, 2026-01-01 a machine, 2 cores, float32. Accuracy in percent")
    assert re.findall(r"(\w+) 8\d\.\d\d at", alt) == ["final", "tta", "celu", "frozen_scales"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3", "4"]
    _, alt_of_strips, strips = found[f"{recipes}_strips"]
    assert "final 80.50 to 82.40, mean 81.45 (n = 20); tta 80.50 to 80.80, mean 80.65 (n = 4)" in alt_of_strips
    (axes,) = strips.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "final (n = 20)", "tta (n = 4)", "celu (n = 3)", "frozen_scales (n = 3)",
    ]  # fmt: skip
    drawn = [(np.ravel(line.get_xdata()), np.ravel(line.get_ydata())) for line in axes.lines]
    points = [x for x, y in drawn if len(x) > 2 and len({*y}) == 1]
    assert [len(line) for line in points] == [20, 4, 3, 3]
    assert max(points[0]) == pytest.approx(82.4)
    *_, (_, spread, _) = found.values()
    assert spread.startswith("final: noise, small scale, 20 runs")
    assert "Histogram of accuracies from 80.50 to 82.40 percent, mean 81.45" in spread
    once, again = (next(figure for *_, figure in pages.figures(made)) for _ in range(2))
    assert pages.as_svg(once, alt) == pages.as_svg(again, alt)
    gpu = [{**one, "device": "a GPU"} for one in made]
    on_gpu = [
        "recipes_noise_0123_small_a_gpu_float32_flops",
        "recipes_noise_0123_small_a_gpu_float32_strips",
        "seeds_noise_0123_small_a_gpu_float32_final",
    ]
    assert [name for _, name, *_ in pages.figures(gpu)] == on_gpu
    others = [{**one, "dataset_digest": "4567"} for one in gpu]
    assert len({name for _, name, *_ in pages.figures([*gpu, *others])}) == 6


def test_only_figures_whose_data_has_changed_are_drawn_anew(tmp_path: Path) -> None:
    figure = Figure()
    pages.draw(tmp_path, [("", name, f"{name} < 1 & more", figure) for name in ("one", "two")])
    for path in tmp_path.iterdir():
        path.write_text(path.read_text(encoding="utf-8") + "<!-- old -->", encoding="utf-8")
    pages.draw(tmp_path, [("", "one", "one < 1 & more", figure), ("", "two", "other", figure)])
    kept = {path.stem: "<!-- old -->" in path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert kept == {"one": True, "two": False}
    pages.draw(tmp_path, [("", "one", "one < 1 & more", figure)])
    assert [path.name for path in tmp_path.iterdir()] == ["one.svg"]


def test_the_leaderboard_ranks_whole_recipes_of_the_evidence_by_their_mean() -> None:
    means = (("celu", 0.86), ("final", 0.865), ("final@half", 0.9))
    made = [record(name, seed, mean) for name, mean in means for seed in range(2)]
    made.append(record("muon", 0, 0.95, dataset="noise-validation"))
    measured = pages.leaderboard(made).split("## Measured here")[1]
    assert re.findall(r"^\| `(\S+)` ", measured, re.MULTILINE) == ["final", "celu"]


def test_the_leaderboard_says_what_it_lacks_as_long_as_it_does() -> None:
    lacking = "Of CIFAR-10 itself there are no recorded runs yet"
    assert lacking in pages.leaderboard([record()])
    assert lacking not in pages.leaderboard([record(), record(dataset="cifar10")])


def test_outside_a_checkout_the_status_is_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {"seconds": 61, "date": "2026-01-01", "device": "a machine", "precision": "float32", "dataset": "noise",
           "scale": "small", "torch": "2.15", "commit": None}  # fmt: skip
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(metadata={"cifar_fast": ran}), tmp_path / "notebooks" / "00_a.ipynb")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (line,) = [line for line in pages.status().splitlines() if "00_a.ipynb" in line]
    assert [cell.strip() for cell in line.strip("|").split("|")][1::7] == ["1 min 01 s", ""]


def test_a_search_tells_of_each_try_how_far_it_came_from_its_base() -> None:
    changes = (("one", "celu", "cutout", 3), ("two", "one", "pad", 2), ("never", "one", "pad", 1))
    tries = [Try(name=name, base=base, change={field: to}, why="?") for name, base, field, to in changes]
    plan = Plan(question="Which?", dataset="noise-validation", scale="small", seeds=2, tries=tries)
    assert pages.search(plan, [], []) == ["## Which?", "No runs yet."]
    one, two, _ = plan.recipes()
    made = [record(one, s, 0.8 + 0.002 * s, dataset=plan.dataset, cross_entropy=0.5 + s) for s in range(2)]
    made += [record(two, 0, 0.83, dataset=plan.dataset, cross_entropy=0.4), record(two, 1, 0.832, dataset=plan.dataset)]
    lines = pages.search(plan, made, [setting_of(made[0])])[2].splitlines()[2:]
    first, second = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert first == ["`one`", "`celu`", "cutout 3", "?", "2", "80.10", "", "1.0000", "", "0.0", "10"]
    assert second[5] == "83.10"
    assert second[6].startswith("+3.00 (")
    assert second[7] == ""  # a loss of one run of two is none


def test_only_bars_are_left_out_of_what_went_to_stderr() -> None:
    bar = "\r 50%|#####     |\r          \r"
    assert execute.without_bars(f"{bar}x.py:1: UserWarning: wrong\n  warnings.warn(\n{bar}") == (
        "x.py:1: UserWarning: wrong\n  warnings.warn(\n"
    )
    assert execute.without_bars("\r100%|##########|\na word\n") == "a word\n"


def test_all_that_was_tried_is_told() -> None:
    text = (ROOT / "book" / "tried.md").read_text(encoding="utf-8")
    plans = {path: read_plan(path) for path in sorted((ROOT / "book" / "results").glob("*.toml"))}
    searches = {path: plan for path, plan in plans.items() if plan.search}
    assert searches
    for path, plan in searches.items():
        ledger = path.with_suffix(".jsonl")
        records, damaged = read([ledger] if ledger.exists() else [])  # a plan is written before its runs
        assert not damaged
        made = {record["recipe"]["name"] for record in records}
        part = text.split(f"## {plan.question}\n")[1].split("\n## ")[0]
        assert made <= {one.name for one in plan.tries}, "a try was taken out of its plan"
        for one in plan.tries:
            row = re.search(rf"^\| `{re.escape(one.name)}` ", part, re.MULTILINE)
            assert one.name not in made or row, one.name
        tables = re.split(r"^On `", part, flags=re.MULTILINE)[1:]  # one for each kind of machine
        for table in tables:
            shown = sum(bool(re.search(rf"^\| `{re.escape(one.name)}` ", table, re.MULTILINE)) for one in plan.tries)
            lacking = f"Of the {len(plan.tries)} tries that were planned, {shown} were made."
            assert (lacking in table) == (shown < len(plan.tries)), plan.question
    assert not [
        line for line in (ROOT / "book" / "report.md").read_text(encoding="utf-8").splitlines() if "validation" in line
    ]


def test_what_is_told_of_the_ledger_is_in_it() -> None:
    text = page("book/tried")
    results = ROOT / "book" / "results"
    minute = [run["seconds"]["train"] for run in read([results / "small_fast_60_lookahead.jsonl"])[0]]
    assert len(minute) == 10
    assert f"took {statistics.median(minute):.0f} s on all images" in text
    searches = read(path for path in OURS if path.stem.startswith("tried_"))[0]
    found: dict[bool, list[float]] = {True: [], False: []}
    for run in searches:
        if run["recipe"]["name"] == "reference":
            found[cores_of(run["device"]) is None].append(100 * run["tta_accuracy"])
    cpu, gpu = sorted(found[False]), sorted(found[True])
    assert f"two cores had to come up to, {cpu[0]:.2f} and {cpu[1]:.2f} percent" in text
    assert (len(cpu), len(gpu)) == (2, 8)
    assert f"all eight runs of airbench94 on the GPU ({gpu[0]:.2f} to {gpu[-1]:.2f})" in text


OURS = [
    ledger
    for plan in sorted((ROOT / "book" / "results").glob("*.toml"))
    if (ledger := plan.with_suffix(".jsonl")).exists()
]
"""The ledgers that the text speaks of; a reader's is called PLAN_READER.jsonl."""
PAIRS = ("whitening", "label_smoothing", "celu")


def test_what_is_told_of_leave_one_out_is_in_the_report() -> None:
    plan = read_plan(ROOT / "book" / "results" / "leave_one_out.toml")
    records = [run for run in read([ROOT / "book" / "results" / "leave_one_out.jsonl"])[0] if run["scale"] == "small"]
    table = rows(plan, [run for run in records if run["device"] == "NVIDIA H200"])[1:]
    verdicts = {row.recipe.name.removeprefix("final_without_"): row.verdict.split(" (")[0] for row in table}
    worse = {name for name, verdict in verdicts.items() if verdict == "worse"}
    assert worse == {
        "tta", "label_smoothing", "celu", "bias_factor", "whitening", "cutout_0", "high_rate",
    }  # fmt: skip
    assert verdicts["ema"].startswith("no difference larger than")
    assert {name for name, verdict in verdicts.items() if verdict == "too few runs"} == {
        "gpu_data", "ghost_norm", "frozen_scales", "pool_before_norm",
    }  # fmt: skip
    assert len(table) == 12
    plan = read_plan(ROOT / "book" / "results" / "ladder_half.toml")
    records = read([ROOT / "book" / "results" / "ladder_half.jsonl"])[0]
    ladder = rows(plan, [run for run in records if run["device"] == "NVIDIA H200"])
    said = {row.recipe.name.removesuffix("@half"): row.verdict.split(" (")[0] for row in ladder}
    assert {name for name, verdict in said.items() if verdict == "better"} == {"tta"}
    assert {name for name, verdict in said.items() if verdict == "worse"} == {
        "label_smoothing", "frozen_scales", "ema", "final",
    }  # fmt: skip
    cores = rows(plan, [run for run in records if run["device"] == "AMD EPYC (family 25, model 17), 2 cores"])
    there = {row.recipe.name.removesuffix("@half"): row for row in cores}
    verdict_there = {name: kind_of(row.verdict) for name, row in there.items() if row.verdict}
    assert {name: verdict for name, verdict in verdict_there.items() if verdict != kind_of(said[name])} == {
        "celu": "worse", "pool_before_act": "no difference",
    }  # fmt: skip
    assert {row.rung.n for row in cores if row.rung} == {3, 8}
    loss = signed(there["celu"].difference)
    assert f"eight runs each, the rung is *worse*: {loss}." in chapter("05")
    assert f"CELU is *worse* too, by {loss.split(' (')[0][1:]} points, and the pool before" in chapter("12")
    spread = {row.recipe.name.removeprefix("final_without_"): row.rung.interval.sd for row in table if row.rung}
    assert max(spread.values()) < 0.26
    cost = [-row.difference.mean for row in table if row.difference and row.recipe.name.endswith(PAIRS)]
    assert [round(points, 1) for points in sorted(cost)] == [0.4, 0.5, 0.5]
    told = page("book/how_to_use")
    assert "The book's own runs spread by some 0.2 points" in told
    assert "the 0.4 to 0.5 that whitening, label smoothing or CELU are worth there" in told
    assert "For ghost norm and the frozen scales eight runs each were too few to tell" in told
    assert f"for the average they showed {verdicts['ema'].removesuffix(' shown')}." in told
    lost = [-row.difference.mean for row in table if row.verdict == "worse" and row.difference]
    (at_most,) = re.findall("larger than (.*) points", verdicts["ema"])
    assert float(at_most) < 0.2
    intro = page("book/intro")
    assert f"of {COUNT[len(table)]} choices of the final recipe undone, {COUNT[len(lost)]} cost" in intro
    assert f"cost {min(lost):.1f} to {max(lost):.1f} points, one shows nothing as large as 0.2" in intro
    assert "and for four the runs are too few" in intro


def points(ledger: str) -> dict[str, list[float]]:
    """The accuracies with TTA of each recipe of a search, in points."""
    found: dict[str, list[float]] = {}
    for run in read([ROOT / "book" / "results" / f"{ledger}.jsonl"])[0]:
        found.setdefault(run["recipe"]["name"], []).append(100 * run["tta_accuracy"])
    return found


def test_what_is_told_of_freezing_and_schedules_is_what_was_recorded() -> None:
    told, tries = chapter("17"), points("tried_settled") | points("tried_settled_again")
    start = tries["minute_as_it_is"]
    means = {name: f"{statistics.mean(values):.2f}" for name, values in tries.items()}
    assert {len(values) for values in tries.values()} == {6}
    flops = {
        run["recipe"]["name"]: run["flops"] for run in read([ROOT / "book" / "results" / "tried_settled.jsonl"])[0]
    }
    later, sooner = (f"{flops[f'minute_{kind}'] / flops['minute_as_it_is']:.2f}" for kind in ("frozen", "frozen_early"))
    one, other = (
        signed(difference(tries[frozen], tries[cut])).lstrip("+")
        for frozen, cut in (("minute_frozen", "minute_shortened"), ("minute_frozen_early", "minute_cut"))
    )
    for said in (
        f"comes to {means['minute_as_it_is']} percent on the images set aside.",
        f"it comes to {means['minute_frozen']}, for {later} of the FLOPs;",
        f"the second for one, to {means['minute_frozen_early']}, for {sooner}.",
        f"with nothing frozen, it comes to {means['minute_shortened']} and {means['minute_cut']}.",
        f"ahead by {one.replace('(', 'points (')} and by {other}: that may be chance",
        f"ending at zero, {signed(difference(tries['minute_to_zero'], start))};",
        f"an epoch of warm-up, {signed(difference(tries['minute_warmed_up'], start))};",
        f"{signed(difference(tries['minute_by_sides'], start)).rstrip(')')}; seven such comparisons were made)",
    ):
        assert said in told, said


def test_what_is_told_of_the_trials_by_hand_is_what_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks" / "xeon_amx_by_hand.json").read_text(encoding="utf-8"))
    assert (found["dataset"], found["scale"], found["recipe"]) == (
        "cifar10-jpeg-validation", "small", "small_fast_60_ahead",
    )  # fmt: skip
    by_way: dict[str, list[float]] = {}
    for run in found["runs"]:
        by_way.setdefault(run["way"], []).append(100 * run["tta_accuracy"])
    assert {len(values) for values in by_way.values()} == {6}
    flops = {run["way"]: run["flops"] for run in found["runs"]}
    fewer, one_sign = (
        signed(difference(by_way[way], by_way["as_it_is"])).replace(" (", " points (")
        for way in ("fewer_channels", "one_sign")
    )
    share = flops["fewer_channels"] / flops["as_it_is"]
    assert f"That takes {share:.2f} of the FLOPs, and the difference is {fewer}." in chapter("17")
    shorter = signed(difference(by_way["fewer_channels"], points("tried_settled")["minute_shortened_more"]))
    assert f"(`minute_shortened_more` on the page of tries) it is {shorter}." in chapter("17")
    assert f"the difference is {one_sign}. For the others" in chapter("14")


def test_what_is_told_of_the_tied_rate_is_what_was_recorded() -> None:
    told, tries = chapter("16"), points("tried_tied")
    means = {name: f"{statistics.mean(values):.2f}" for name, values in tries.items()}
    assert {len(values) for values in tries.values()} == {6}
    momentum = signed(difference(tries["momentum_tied"], tries["tied"]))
    batch = signed(difference(tries["batch_tied"], tries["batch_alone"]))
    for said in (
        f"come to {means['tied']} percent. With momentum 0.95 and the rate as it was, to {means['momentum_alone']};",
        f"with the rate of the rule, to {means['momentum_tied']}, {momentum} against the start:",
        f"gives {means['batch_alone']}, that of the rule {means['batch_tied']}, a difference of {batch}:",
    ):
        assert said in told, said


def test_what_the_chapters_say_came_out_is_what_was_recorded() -> None:
    results = ROOT / "book" / "results"
    records, _ = read(OURS)
    bending, lean, seeing, stepping, spending, ladders = map(chapter, ("05", "14", "15", "16", "17", "18"))
    tables = plan_tables(read_plan(results / "fast_lane.toml"), records)
    (table,) = (rows for setting, rows in tables if setting.device.startswith("AMD EPYC (family 25, model 17)"))
    without = {row.recipe.name.split("@")[0].removeprefix("airbench94_without_"): row for row in table}
    for trick in ("alternating_flip", "translation", "shifted_tta"):
        assert f" {signed(without[trick].difference)}" in seeing
    tables = plan_tables(read_plan(results / "lesson_fast_lane.toml"), records)
    (table,) = (rows for setting, rows in tables if setting.device.startswith("AMD EPYC (family 25, model 17, AVX2)"))
    _, coins, muon, fitted = table
    assert f"in float32: {signed(coins.difference)}." in seeing
    assert f"the recipe `muon` was ahead by {signed(muon.difference)} points." in stepping
    slow, fast = (f"{row.rung.interval.mean:.2f}" for row in (muon, fitted) if row.rung)
    assert f"On an EPYC in float32 it has {fast} percent and `muon@2` {slow}, n = 8." in spending
    assert {row.rung.n for row in table if row.rung} == {8}
    ((_, whole_minute), *_) = plan_tables(read_plan(results / "small_fast_60_ahead.toml"), records)
    pair = [row.rung for row in (without["muon"], whole_minute[-1]) if row.rung]
    slow, fast = (f"`{one.recipe.name}` {one.interval.mean:.2f}" for one in pair)
    assert f"{slow} percent (n = 8) and {fast} (n = 10), nearly three points apart," in spending
    assert f"for {pair[1].flops / pair[0].flops - 1:.0%} more FLOPs.".replace("%", " percent") in spending
    assert [one.n for one in pair] == [8, 10]
    assert "took {:.1f} and {:.1f} (medians)".format(*(one.seconds("train") for one in pair)) in spending
    tables = plan_tables(read_plan(results / "small_fast_apart.toml"), records)
    (apart,) = (rows for setting, rows in tables if setting.device.startswith("AMD EPYC (family 25, model 17, AVX2)"))
    lost = {row.recipe.name.removeprefix("minute_without_"): row for row in apart[1:]}
    cost = {name: f"({signed(row.difference).split(' ')[0]}" for name, row in lost.items()}
    assert (
        f"whole images in training and test {cost['shrinking']} points), with SGD at airbench94's rates in Muon's "
        f"place {cost['muon']}), and with all images in place of the hardest {cost['choosing']}). ReLU in place of "
        f"GELU {cost['gelu']}), 24 pixels from the start {cost['growing']}) and a whitening without its bias "
        f"{cost['whitening_bias']}) cost something too."
    ) in spending
    bias, relu_cost = (cost[name].removeprefix("(−") for name in ("whitening_bias", "gelu"))
    assert f"In the minute of chapter 17 leaving it out costs {bias} points" in lean
    assert f"In that minute ReLU in its place costs {relu_cost} points." in lean
    verdicts = {name: kind_of(row.verdict) for name, row in lost.items()}
    assert {name for name, kind in verdicts.items() if kind == "worse"} == {
        "shrinking", "muon", "choosing", "gelu", "growing", "whitening_bias",
    }  # fmt: skip
    assert {name for name, kind in verdicts.items() if kind == "no difference"} == {
        "label_smoothing", "dirac", "alternating_flip",
    }  # fmt: skip
    whole, sgd, every = (-row.difference.mean for name in ("shrinking", "muon", "choosing") for row in [lost[name]]
                         if row.difference)  # fmt: skip
    measured = page("book/measured")
    assert f"loses {whole:.1f} points with whole images in place of small ones, {sgd:.1f} with SGD" in measured
    assert f"and {every:.1f} with all images in place of the hardest" in measured
    assert {row.rung.n for row in lost.values() if row.rung} == {8}
    tables = plan_tables(read_plan(results / "lesson.toml"), records)
    ((_, lesson),) = (found for found in tables if found[0].device.startswith("AMD EPYC (family 26"))
    short = {row.recipe.name: row.rung for row in lesson if row.rung}
    celu, relu = short["celu@2"], short["label_smoothing@2"]
    assert (celu.n, relu.n) == (4, 4)
    with_celu, with_relu = (
        f"{mean.mean:.2f}{percent} with {name}, {interval}{mean.low:.2f} to {mean.high:.2f}"
        for mean, percent, name, interval in (
            (celu.interval, " percent", "CELU", "interval "),
            (relu.interval, "", "ReLU", ""),
        )
    )
    said = f"the means are {with_celu}, and {with_relu}: whichever was ahead"
    assert said in bending
    ghosts, usual = (f"{mean.mean:.2f}% ({mean.low:.2f} to {mean.high:.2f})"
                     for mean in (short["ghost_norm@2"].interval, celu.interval))  # fmt: skip
    assert f"bfloat16) have {ghosts} with groups and {usual} without." in chapter("06")
    tables = plan_tables(read_plan(results / "ladder_half.toml"), records)
    (ladder,) = (rows for setting, rows in tables if setting.device.startswith("AMD EPYC (family 25, model 17)"))
    long = rung(get("small_fast_180_ahead"), read([results / "small_fast_180_ahead.jsonl"])[0])
    halves = [row.rung for row in ladder if row.rung]
    assert long
    assert long.interval.mean > max(one.interval.mean for one in halves)
    assert long.seconds("train") < min(one.seconds("train") for one in halves)
    assert long.flops < 1.05 * min(one.flops for one in halves)
    single = {row.recipe.name: row.rung.interval.mean for row in ladder if row.rung}
    before_norm = next(row.rung for row in ladder if row.rung and row.recipe.name == "pool_before_norm@half")
    highest = f"{single['pool_before_norm@half']:.2f}, n = {before_norm.n}, the highest of the rungs"
    assert (
        f"On single images it has {statistics.mean(long.plain_points):.2f} percent, about what `baseline@half` has "
        f"({single['baseline@half']:.2f}) and less than `pool_before_norm@half` ({highest})"
    ) in ladders
    plain = {
        name: f"{statistics.mean(found.plain_points):.2f}"
        for minutes in ("60", "180")
        for name in (f"small_fast_{minutes}", f"small_fast_{minutes}_hardest", f"small_fast_{minutes}_ahead")
        for found in [rung(get(name), by_setting(records)[setting_of(long.records[0])])]
        if found
    }
    minute, three = [text for name, text in plain.items() if "_60" in name], [plain[n] for n in plain if "_180" in n]
    assert f"on single images too, {minute[0]}, {minute[1]} and {minute[2]} percent" in spending
    assert f"no gain shows on single images: {three[0]}, {three[1]} and {three[2]}," in spending
    points = {
        (name, file): [
            100 * run["tta_accuracy"]
            for run in read([results / f"{file}.jsonl"])[0]
            if (run["recipe"]["name"], run["dataset"]) == (name, "cifar10-jpeg")
        ]
        for name, file in (("airbench94", "fast"), ("airbench94", "fast_on_a_gpu"), ("final", "final_full"))
    }
    means = {key: f"{statistics.fmean(values):.2f}%" for key, values in points.items()}
    cpu, gpu, final = points
    assert f"On an EPYC's two cores airbench94 has {means[cpu]}, n = {len(points[cpu])}." in lean
    assert f"airbench94 comes to {means[gpu]} (n = {len(points[gpu])})" in lean
    assert f"`final` to {means[final]} (n = {len(points[final])}) on an NVIDIA H200" in lean
    found = difference(points[final], points[gpu])
    ahead = f"{found.mean:.2f} points ahead ({found.low:.2f} to {found.high:.2f}, p = {found.p:.3f})"
    assert ahead in lean


def test_the_seconds_of_half_a_ladder_are_the_recorded_ones() -> None:
    found: dict[str, dict[str, dict[int, float]]] = {"EPYC": {}, "Xeon": {}}
    epochs = {}
    for run in read([ROOT / "book" / "results" / "ladder_half.jsonl"])[0]:
        if run["threads"] == 2:
            name, machine = run["recipe"]["name"].removesuffix("@half"), "EPYC" if "EPYC" in run["device"] else "Xeon"
            found[machine].setdefault(name, {})[run["seed"]] = run["seconds"]["train"]
            epochs[name] = run["epochs"]
    whole = {
        (machine, name): statistics.median(runs.values())
        for machine, rungs in found.items()
        for name, runs in rungs.items()
    }
    an_epoch = {key: seconds / epochs[key[1]] for key, seconds in whole.items()}
    epyc, xeon = ({name: f"{whole[machine, name]:.0f}" for name in found[machine]} for machine in found)
    loader = "twelve epochs take {baseline} s with the loader and {gpu_data} s in groups; on the Xeon {} and {} "
    assert loader.format(xeon["baseline"], xeon["gpu_data"], **epyc) in chapter("01")
    shares = [
        [seconds / found[machine]["baseline"][seed] for seed, seconds in found[machine]["gpu_data"].items()]
        for machine in found
    ]
    ranges = [f"{min(of):.2f} to {max(of):.2f}" for of in shares]
    assert f"groups take {ranges[0]} of the time on the EPYC and {ranges[1]} on the Xeon." in chapter("01")
    pools = ("gpu_data", "pool_before_act", "pool_before_norm")
    first, second = (
        [
            found[machine][before][seed] / epochs[before] - found[machine][after][seed] / epochs[after]
            for machine in found
            for seed in range(3)
        ]
        for before, after in itertools.pairwise(pools)
    )
    moved = chapter("03")
    assert "an epoch takes {:.1f} s with the pool after the activation, {:.1f} s before it and {:.1f} s before".format(
        *(an_epoch["EPYC", name] for name in pools)
    ) in moved  # fmt: skip
    assert "on the Xeon {:.1f}, {:.1f} and {:.1f}.".format(*(an_epoch["Xeon", name] for name in pools)) in moved
    assert f"the first move saves something, {min(first):.1f} to {max(first):.1f} s" in moved
    assert f"and the second as well, {min(second):.1f} to {max(second):.1f} s: in five of the six more" in moved
    assert sum(later > earlier for earlier, later in zip(first, second, strict=True)) == 5
    assert f"{epyc['celu']} s for ten epochs against {epyc['label_smoothing']} for eleven and a half" in chapter("05")
    assert f"{xeon['celu']} against {xeon['label_smoothing']} on the Xeon (medians)" in chapter("05")
    ghosts = f"nine epochs with groups take {epyc['ghost_norm']} s, ten without them {epyc['celu']}. The Xeon's three"
    assert ghosts in chapter("06")
    with_groups, without = (f"{an_epoch['EPYC', name]:.0f} s" for name in ("ghost_norm", "celu"))
    assert f"on this machine an epoch takes {with_groups} with it and {without} without." in chapter("12")
    more = COUNT[round(an_epoch["EPYC", "ghost_norm"] - an_epoch["EPYC", "celu"])]
    assert f"by the EPYC's medians in the evidence below it is {more} of {an_epoch['EPYC', 'celu']:.0f}." in chapter(
        "06"
    )
    with_groups_there, without_there = (
        sorted(seconds / epochs[name] for seconds in found["Xeon"][name].values()) for name in ("ghost_norm", "celu")
    )
    assert with_groups_there[0] < without_there[0] < with_groups_there[1]
    assert "one of the Xeon's three runs with it was faster than all without" in chapter("12")
    times = whole["EPYC", "baseline"] / whole["EPYC", "final"]
    assert f"trains {times:.1f} times as fast as the first, {epyc['final']} s against {epyc['baseline']}." in chapter(
        "12"
    )
    assert f"(142 against {epyc['final']}: medians" in chapter("18")


def test_the_differences_of_half_a_ladder_are_the_recorded_ones() -> None:
    results = ROOT / "book" / "results"
    found: dict[str, list[float]] = {}
    for setting, table in plan_tables(read_plan(results / "ladder_half.toml"), read(OURS)[0]):
        if "family 26" not in setting.device:  # one run of each, with one thread
            for row in table:
                if row.difference:
                    found.setdefault(row.recipe.name.removesuffix("@half"), []).append(row.difference.mean)
    assert {len(differences) for differences in found.values()} == {3}

    def span(name: str, digits: int = 1) -> str:
        sizes = [abs(difference) for difference in found[name]]
        return f"{min(sizes):.{digits}f} to {max(sizes):.{digits}f}"

    assert f"it loses more, {span('final')} points where TTA has gained {span('tta')}." in chapter("00")
    assert min(found["gpu_data"]) > 0
    assert f"a little above the loader's, by {span('gpu_data', 2)} points" in chapter("01")
    assert min(found["pool_before_norm"]) > 0
    assert f"the rung is {span('pool_before_norm')} points above" in chapter("03")
    without = {
        row.recipe.name.removeprefix("final_without_"): row.difference
        for setting, table in plan_tables(read_plan(results / "leave_one_out.toml"), read(OURS)[0])
        if setting.device == "NVIDIA H200"
        for row in table
        if row.difference
    }
    assert f"`final` without them is {-without['gpu_data'].mean:.2f} below `final`." in chapter("01")
    assert (
        f"There it is {signed(without['pool_before_norm']).replace(' (', ' points without the move (')[:-1]}, eight"
        in (chapter("03"))
    )


def test_the_verdicts_that_the_chapters_tell_are_the_recorded_ones() -> None:
    records, _ = read(OURS)
    found: dict[str, Row] = {}
    for plan in ("ladder_half", "leave_one_out"):
        for setting, table in plan_tables(read_plan(ROOT / "book" / "results" / f"{plan}.toml"), records):
            if setting.device == "NVIDIA H200":
                found |= {row.recipe.name: row for row in table}
    mean = {name: signed(row.difference).split(" ")[0] for name, row in found.items()}
    told = {path.stem[:2]: chapter(path.stem[:2]) for path in NOTEBOOKS}
    celu = found["final_without_celu"]
    assert f"{signed(celu.difference).replace(' (', ' points (')}. The rung itself" in told["05"]
    rung, without = mean["ghost_norm@half"], mean["final_without_ghost_norm"]
    assert f"{rung} points for the rung, with one epoch fewer, and {without} without the groups." in told["06"]
    rung, biases = (mean[name][1:] for name in ("frozen_scales@half", "final_without_bias_factor"))
    assert f"it is *worse* by {rung} points" in told["07"]
    assert f"the biases' rate taken back alone costs {biases}." in told["07"]
    assert f"the rung is *worse* by {mean['ema@half'][1:]} points" in told["09"]
    bound = re.findall(r"larger than (\S+) points", found["final_without_ema"].verdict)[0]
    assert f"shows no difference larger than {bound}." in told["09"]
    worse = ("final_without_celu", "frozen_scales@half", "final_without_bias_factor", "ema@half")
    assert {kind_of(found[name].verdict) for name in worse} == {"worse"}
    unclear = ("celu@half", "ghost_norm@half", "final_without_ghost_norm", "final_without_frozen_scales")
    assert {kind_of(found[name].verdict) for name in unclear} == {"too few runs"}


def test_constants_that_the_text_tells_are_the_packages() -> None:
    means, spreads = ("{:.2f}, {:.2f} and {:.2f}".format(*values) for values in (MEAN, STD))
    assert f"the means of red, green and blue are {means}, and the deviations {spreads}." in chapter("01")
    (_, start), (turn, peak), (length, end) = get("airbench94").knots
    rate = f"rises from {start / peak:.0%} of it to all of it over the first {turn / length:.0%} of the steps"
    assert f"{rate}, and falls to {end / peak:.0%} by the end:" in chapter("16")
    norm, smooth, celu = (ARTICLE[name][1] for name in ("pool_before_norm_24", "label_smoothing_25", "celu_23"))
    said = f"({norm}% with the pool before the norm, {smooth}% with label smoothing, {celu}% with CELU)"
    assert said in chapter("12")
    plan = read_plan(ROOT / "book" / "results" / "final.toml")
    seconds, _ = ARTICLE["final"]
    assert seconds
    row = f"Does `final` reach 94% on CIFAR-10? {plan.seeds} runs | {plan.seeds * seconds / 60:.0f} minutes |"
    assert row in (ROOT / "book" / "records.md").read_text(encoding="utf-8")


def test_what_is_told_of_stored_outputs_stands_in_them() -> None:
    printed: dict[str, str] = {}
    told = {name: chapter(name) for name in ("06", "13", "15", "17")}
    for name in told:
        (path,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
        printed[name] = "".join(str(o.get("text", "")) for cell in code_cells(read_once(path)) for o in cell.outputs)
    last = dict(re.findall(r"^(\w+) +last epoch: (\S+) of the training images", printed["06"], re.MULTILINE))
    assert f"here it is {last['ghost_norm']} with groups and {last['celu']} without." in told["06"]
    twos = dict(re.findall(r"^trained with (one|16) groups? of \d+: 2: ([\d.]+)%", printed["06"], re.MULTILINE))
    said = f"with groups has {float(twos['16']):.0f}% right and the other {float(twos['one']):.0f}%"
    assert f"with groups of 2 the network trained {said}" in told["06"]
    (gain, p) = re.findall(r"mirror's two against .*, \+(\S+ ± \S+) points, p = (\S+)", printed["15"])[0]
    assert f"there the mirror is ahead by {gain} points (p = {p})," in told["15"]
    six = r"six views change ([\d,]+) of 10,000 .*: (\d+) for the better, (\d+) for the worse, (\d+) wrong"
    (counts,) = re.findall(six, printed["15"])
    all_of_them, up, down, wrong = (round(int(count.replace(",", "")) / 10) for count in counts)
    said = f"{all_of_them} of every 1,000 answers: {up} for the better, {down} for the worse and {wrong} wrong in both."
    assert f"In the stored output six views change {said}" in told["15"]
    ((flops, seconds),) = re.findall(r"^16 pixels: (\S+) of the FLOPs, (\S+) of the sec", printed["17"], re.MULTILINE)
    assert f"In the stored output 16 pixels show it, {seconds} against {flops};" in told["17"]
    ((flops_of_final, seconds_of_final),) = re.findall(r"image: (\S+) × the FLOPs, (\S+) × the sec", printed["13"])
    rates = dict(re.findall(r"^(final|airbench94) .* images/s, +(\S+) GFLOP/s, ", printed["13"], re.MULTILINE))
    assert (
        f"it is smaller, {seconds_of_final} against {flops_of_final}: the lean network trains at "
        f"{rates['airbench94']} GFLOP/s, `final` at {rates['final']}."
    ) in told["13"]
    ((more, slower),) = re.findall(r"bytes × (\S+), FLOPs .* fall by (\S+)", printed["13"])
    assert f"In the stored output it is {slower}, between {more} for the bytes and" in told["13"]
    batches = re.findall(r"(\S+) images/s$", printed["13"].split("batches of    32")[1], re.MULTILINE)
    (lean,) = re.findall(r"airbench94 bfloat16  channels-last +(\S+) images/s", printed["13"])
    (again,) = re.findall(r"^width +16: +(\S+) images/s", printed["13"], re.MULTILINE)
    assert f"batches of 512 and of 2,048 reach {batches[2]} and {batches[3]} images/s." in told["13"]
    assert f"For batches of 1,024 two earlier cells give {lean} and {again}:" in told["13"]
    (wide,) = re.findall(r"^the output\n.*?^11 × 11, .*?: (\S+) of the time$", printed["13"], re.MULTILINE | re.DOTALL)
    assert f"at 11 × 11 rows take {wide} of the time." in told["13"]


def test_what_is_said_of_a_searchs_start_is_what_was_recorded() -> None:
    accuracies: dict[str, list[float]] = {}
    for run in read([ROOT / "book" / "results" / "tried_by_hundreds.jsonl"])[0]:
        accuracies.setdefault(run["recipe"]["name"], []).append(100 * run["tta_accuracy"])
    start = statistics.fmean(accuracies.pop("early"))
    del accuracies["reference"]
    above = sum(statistics.fmean(tried) >= start for tried in accuracies.values())
    higher = statistics.fmean(one for tried in accuracies.values() for one in tried) - start
    text = pages.TRIED.replace("\n", " ")
    assert f"{above} of the {len(accuracies)} changes stand at or above it" in text
    assert f"the mean of all their runs is {higher:.2f} points higher" in text


def test_what_is_told_of_pairs_is_what_was_recorded() -> None:
    records, _ = read(OURS)
    pairing, spending = map(chapter, ("10", "17"))
    finals = [found for theirs in by_setting(records).values() if (found := rung(get("final"), theirs))]
    named = {
        "AMD EPYC (family 26, model 2), 2 cores", "NVIDIA H200", "Intel(R) Xeon(R) Processor, 2 cores",
        "AMD EPYC, 2 cores",
    }  # fmt: skip
    small = [
        found
        for found in finals
        if found.records[0]["scale"] == "small" and found.n >= 5 and found.records[0]["device"] in named
    ]
    assert len(small) == 4
    spreads = []
    for found in small:
        gains = [with_tta - alone for with_tta, alone in zip(found.points, found.plain_points, strict=True)]
        between = math.hypot(statistics.stdev(found.points), statistics.stdev(found.plain_points))
        spreads.append((statistics.stdev(gains), between))
    _, *others = sorted(spreads, key=lambda pair: pair[0] / pair[1])
    (low, high), (least, most) = ((min(column), max(column)) for column in zip(*others, strict=True))
    assert (
        f"spreads by {low:.2f} to {high:.2f} points, where different seeds would give {least:.2f} to {most:.2f},"
        in pairing
    )
    seconds: dict[str, dict[int, float]] = {"airbench94": {}, "fast": {}}
    for line in (ROOT / "book" / "results" / "fast.jsonl").read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        seconds[run["recipe"]["name"]][run["seed"]] = run["seconds"]["train"]
    pairs = sorted(seconds["fast"][seed] / seconds["airbench94"][seed] for seed in range(1, 5))
    said = "{:.2f}, {:.2f}, {:.2f} and {:.2f} of the seconds".format(*pairs)
    assert f"four pairs ran in turns, and in them `fast` takes {said}." in spending
    early, later = ([seconds["fast"][seed] for seed in seeds] for seeds in (range(3), range(3, 10)))
    early_on = f"The first three runs of `fast` took {min(early):.0f} to {max(early):.0f} s"
    assert f"{early_on}, the others {min(later):.0f} to {max(later):.0f};" in spending


def test_the_chapters_steps_on_a_gpu_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "h200_replay.json").read_text(encoding="utf-8"))["milliseconds"]
    replayed = {(one["recipe"], one["side"]): one["replayed"] for one in measured if one["scale"] == "full"}
    spending, ladder = map(chapter, ("17", "18"))
    assert f"16 pixels take {replayed['fast', 16] / replayed['fast', 32]:.2f} of the seconds of 32" in spending
    image = {name: 1000 * replayed[name, 32] / get(name).batch_size for name in ("fast", "muon", "airbench94")}
    said = f"`fast` takes {image['fast']:.1f} µs, `muon` {image['muon']:.1f} and airbench94 {image['airbench94']:.1f}."
    assert said in ladder


def test_what_teachers_are_told_to_expect_is_what_was_recorded() -> None:
    text = page("book/how_to_use")
    races = {
        "150 s for 00": ("baseline", "baseline"),
        "145 for 01": ("baseline", "gpu_data"),
        "123 for 04": ("pool_before_norm", "label_smoothing"),
        "111 for 05": ("label_smoothing", "celu"),
        "79 for 08": ("frozen_scales", "whitening"),
        "70 for 09": ("whitening", "ema"),
        "34 for chapter 10": ("tta",),
    }
    for said, names in races.items():
        assert said in text
        assert said.split()[0] == f"{sum(ARTICLE[name][0] or 0 for name in names):g}"
    runs, _ = read([ROOT / "book" / "results" / "small_fast_float32.jsonl"])
    points = [100 * run["tta_accuracy"] for run in runs if run["recipe"]["name"] == "small_fast_60_float32"]
    mean, sd = statistics.fmean(points), statistics.stdev(points)
    assert len(points) == 10
    assert all(f" {HUB}{name}\n" in (ROOT / "book" / "how_to_use.md").read_text(encoding="utf-8") for name in HUB_FILES)
    assert f"have a mean of {mean:.2f} % and a standard deviation of {sd:.2f} points" in text


def test_what_is_to_be_pasted_into_a_cell_stands_as_it_is_pasted() -> None:
    pages = [ROOT / "README.md", *(ROOT / "book").glob("*.md")]
    commands = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines() if "!cd bag" in line]
    pasted = [line for line in commands if "`" not in line]
    assert len(pasted) >= 3
    assert all(re.fullmatch(r" {4}!cd bag-of-tricks && \S.*", line) for line in pasted), pasted


def test_the_repositorys_address_is_the_same_everywhere(tracked: list[Path]) -> None:
    for path in tracked:
        text = path.read_bytes().decode("utf-8", "replace")
        for found in re.findall(r"(?:https://github\.com/|/github/)([\w-][\w.-]*/[\w-][\w.-]*)", text):
            assert re.sub(r"(\.git)?\.?$", "", found) in {
                address.slug(),
                "OWNER/NAME",
                "NAME/REPOSITORY",
                "x/y",
                "me/me.github.io",
            }, f"{path}: {found}"


def test_one_command_sets_the_address_for_a_fork(tmp_path: Path, git: Callable[..., str]) -> None:
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://github.com/OWNER/NAME\n")
    (tmp_path / "page.md").write_text("see https://github.com/OWNER/NAME/issues, not OWNER alone")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    assert address.move("https://github.com/x/y.git", tmp_path) == ["page.md", "_config.yml"]
    assert address.slug(tmp_path) == "x/y"
    assert (tmp_path / "page.md").read_text() == "see https://github.com/x/y/issues, not OWNER alone"
    with pytest.raises(SystemExit, match="no address of the form"):
        address.move("x/y", tmp_path)
    (tmp_path / "page.md").write_text("x/y, not xx/y nor x/yy, but x/y.")
    (tmp_path / "picture.png").unlink()  # known to git, and gone
    assert address.move("https://github.com/me/me.github.io", tmp_path) == ["page.md", "_config.yml"]
    assert (tmp_path / "page.md").read_text() == "me/me.github.io, not xx/y nor x/yy, but me/me.github.io."
    shutil.rmtree(tmp_path / ".git")
    with pytest.raises(SystemExit, match="not a git checkout"):
        address.move("https://github.com/x/y", tmp_path)
    (tmp_path / "_config.yml").write_text("")
    with pytest.raises(SystemExit, match="holds no address"):
        address.slug(tmp_path)


def test_a_fork_with_its_own_address_is_whole(
    tmp_path: Path, git: Callable[..., str], tracked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in tracked:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    url = f"https://github.com/{'somebody' * 4}/tricks-of-the-trade"
    for command in (
        [sys.executable, "book/address.py", url],
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."],
    ):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "book")])}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    theirs = [nbformat.read(path, as_version=4) for path in sorted((tmp_path / "notebooks").glob("*.ipynb"))]
    same = [one.metadata["cifar_fast"]["code"] == execute.digest(one) for one in theirs]
    assert same == [False] * len(NOTEBOOKS)  # here, where the address is another
    monkeypatch.setattr(execute, "slug", lambda: address.slug(tmp_path))
    same = [one.metadata["cifar_fast"]["code"] == execute.digest(one) for one in theirs]
    assert same == [True] * len(NOTEBOOKS)
    assert address.slug() not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_notebook_is_run_and_its_outputs_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = "from cifar_fast_utils import notebook\nlesson = notebook.start()"
    write = "import sys\nprint('\\r 1%', '\\r 2%\\n', 'a warning', sep='', file=sys.stderr)\nprint('done')"
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in (start, write)]), path)
    monkeypatch.setenv("CIFAR_FAST_SCALE", "smoke")
    monkeypatch.setenv("CIFAR_FAST_DATA", "synthetic")
    execute.execute(path)
    stored = nbformat.read(path, as_version=4)
    assert set(stored.metadata["cifar_fast"]) == PROVENANCE
    assert stored.metadata["cifar_fast"]["code"] == execute.digest(stored)
    said = {output.name: output.text for output in stored.cells[1].outputs}
    assert said == {"stdout": "done\n", "stderr": "a warning\n"}
    assert execute.cell_seconds(
        {"iopub.status.busy": "2026-01-01T00:00:00Z", "iopub.status.idle": "2026-01-01T00:01:30.500000Z"}
    ) == pytest.approx(90.5)
