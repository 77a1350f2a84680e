"""What holds the project's own files together."""

import ast
import json
import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import address
import pytest
from packaging.requirements import Requirement
from records import COUNT
from texts import chapter, page

import cifar_fast_utils
from cifar_fast_utils.stats import difference, interval, p_not_below

ROOT = Path(__file__).parent.parent
PACKAGE = Path(cifar_fast_utils.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = (ROOT / "book" / "measured.md").read_text(encoding="utf-8")


def requirements(file: str) -> list[Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


def test_bounds_are_lower_ones_only_and_constraints_cover_them() -> None:
    needed = requirements("requirements.txt")
    assert {"torch", "torchvision", "numpy", "matplotlib"} <= {requirement.name for requirement in needed}
    for requirement in needed:
        assert [clause.operator for clause in requirement.specifier] == [">="], requirement
    tested = requirements("constraints.txt")
    for python in ("3.10", "3.11", "3.12", "3.13"):
        here = {"python_version": python}
        pins = {pin.name: pin for pin in tested if pin.marker is None or pin.marker.evaluate(here)}
        assert len(pins) == len([pin for pin in tested if pin.marker is None or pin.marker.evaluate(here)])
        for requirement in needed:
            if requirement.marker is not None and not requirement.marker.evaluate(here):
                continue
            (pin,) = pins[requirement.name].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version)


def test_no_module_outgrows_a_few_screens() -> None:
    for module in PACKAGE.glob("*.py"):
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 250, module.name


ORDER = [
    "__init__", "errors", "fields", "schedule", "modern", "recipe", "article", "files", "sources", "synthetic",
    "download", "data", "memory", "device", "augment", "host", "epochs", "rows", "layers", "whitening", "lean",
    "network", "graph", "optimiser", "last_seen", "evaluate", "run", "step", "loop", "train", "record", "weights",
    "schema", "ledger", "plan", "check", "experiment", "ray_engine", "stats", "evidence", "tables", "shares",
    "lengths", "verdicts", "preface", "report", "excerpts", "beside", "plots", "info", "bench", "notebook",
    "arguments", "commands", "cli", "__main__",
]  # fmt: skip


def test_lower_rooms_never_import_upper_ones() -> None:
    assert sorted(ORDER) == sorted(module.stem for module in PACKAGE.glob("*.py"))
    for rank, name in enumerate(ORDER):
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                for imported in [node.module] if node.module else [alias.name for alias in node.names]:
                    if imported in ORDER:
                        assert ORDER.index(imported) < rank, f"{name} imports {imported}"


def test_the_readmes_commands_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = set(re.findall(r"^ +make (\w+)", README, re.MULTILINE))
    assert {"train", "test"} <= used <= targets
    help_text = subprocess.run(
        ["make", "-n", "train", "test"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert "cifar-fast train" in help_text
    assert "pytest" in help_text


BFLOAT16 = "AMD EPYC (family 25, model 17), 2 cores"
AVX2 = "AMD EPYC (family 25, model 17, AVX2), 2 cores"


def ledger(name: str, recipe: str | None = None) -> list[dict[str, Any]]:
    lines = (ROOT / "book" / "results" / name).read_text(encoding="utf-8").splitlines()
    return [run for run in map(json.loads, lines) if recipe in (None, run["recipe"]["name"])]


def test_the_readmes_results_are_the_recorded_ones() -> None:
    runs = [run for run in ledger("final_small.jsonl") if (run["dataset"], run["scale"]) == ("cifar10-jpeg", "small")]
    for start, precision, row in (
        ("Intel", "bfloat16", "Intel Xeon with AMX, bfloat16"),
        ("AMD EPYC", "bfloat16", "AMD EPYC with AVX512-BF16, bfloat16"),
        ("AMD EPYC", "float32", "AMD EPYC, float32"),
    ):
        here = [run for run in runs if str(run["device"]).startswith(start) and run["precision"] == precision]
        assert len({run["seed"] for run in here}) == len(here) >= 5
        assert len({(str(run["recipe"]), run["device"], run["precision"], run["dataset_digest"]) for run in here}) == 1
        cells = [row, str(len(here))]
        for key in ("tta_accuracy", "accuracy"):
            values = [100 * float(run[key]) for run in here]
            cells.append(f"{statistics.mean(values):.2f} % ({statistics.stdev(values):.2f})")
        assert f"| {' | '.join(cells)} |" in README


@pytest.mark.parametrize(
    ("name", "file", "device", "processor"),
    [
        ("airbench94", "fast", BFLOAT16, None),
        ("fast", "fast", BFLOAT16, None),
        ("small_fast_60_ahead", "small_fast_60_ahead", BFLOAT16, "bfloat16"),
        ("small_fast_60_ahead", "without_bfloat16", AVX2, "AVX2 alone, float32"),
        ("small_fast_180_ahead", "small_fast_180_ahead", BFLOAT16, "bfloat16"),
        ("small_fast_180_ahead", "without_bfloat16", AVX2, "AVX2 alone, float32"),
        ("small_fast_60_float32", "small_fast_float32", AVX2, "AVX2 alone, float32"),
        ("small_fast_180_float32", "small_fast_float32", AVX2, "AVX2 alone, float32"),
    ],
)
def test_the_measured_later_recipes_are_the_recorded_ones(
    name: str, file: str, device: str, processor: str | None
) -> None:
    here = ledger(f"{file}.jsonl", name)
    assert {(run["device"], run["threads"], run["dataset"]) for run in here} == {(device, 2, "cifar10-jpeg")}
    cells = [f"`{name}`", *([processor] if processor else []), str(len(here))]
    cells.append(f"{mean_tta(here):.2f} % ({statistics.stdev(100 * float(r['tta_accuracy']) for r in here):.2f})")
    assert f"| {' | '.join(cells)} | {float(here[0]['flops']) / 1e12:.1f} | {trained(here):.0f} |" in MEASURED


def trained(runs: list[dict[str, Any]]) -> float:
    return float(statistics.median(run["seconds"]["train"] for run in runs))


def test_the_measured_minutes_without_bfloat16_are_the_recorded_ones() -> None:
    ratios = []
    for name in ("small_fast_60_ahead", "small_fast_180_ahead"):
        ratios.append(trained(ledger("without_bfloat16.jsonl", name)) / trained(ledger(f"{name}.jsonl", name)))
    text = page("book/measured")
    assert f"they take {ratios[0]:.1f} and {ratios[1]:.1f} times as long" in text
    assert f"in {ratios[0]:.1f} to {ratios[1]:.1f} times the seconds" in chapter("17")
    air, muon = (ledger("fast_lane.jsonl", name) for name in ("airbench94@4", "muon@4"))
    final = ledger("small_fast.jsonl", "final@1.6")
    assert {(len(runs), runs[0]["device"]) for runs in (air, muon)} == {(8, BFLOAT16)}
    assert {(len(final), "Xeon" in str(final[0]["device"]))} == {(3, True)}
    assert {f"{float(run['flops']) / 1e12:.1f}" for run in (air[0], muon[0])} == {"11.7"}
    assert f"`airbench94@4` comes to {mean_tta(air):.2f} % and `muon@4` to {mean_tta(muon):.2f} % (8 seeds each" in text
    of = f"`final@1.6`, with {float(final[0]['flops']) / 1e12:.1f} TFLOP, comes to {mean_tta(final):.2f} % (3 seeds"
    assert of in text


def test_the_minute_without_bfloat16_is_the_recorded_one() -> None:
    seconds = [run["seconds"]["train"] for run in ledger("small_fast_float32.jsonl", "small_fast_60_float32")]
    assert f"Single runs of the first took {min(seconds):.0f} to {max(seconds):.0f} s" in page("book/measured")


def test_what_came_of_the_search_for_a_minute_is_what_was_recorded() -> None:
    came_to: dict[str, list[float]] = {}
    alike = []
    for run in ledger("tried_minute.jsonl"):
        recipe, points = run["recipe"], 100 * float(run["tta_accuracy"])
        sides = [side for _, side in recipe.get("sides", [[0, 32]])]
        whole = "all along" if sides == [32] else "at the end" if sides[-1] == 32 else "never"
        kind = "apart" if recipe.get("whiten_stride", 1) == 2 else whole
        came_to.setdefault(kind, []).append(points)
        if recipe["name"] in ("muon", "muon_sides", "seen_at_24"):  # the same network, translation and optimiser
            alike.append(f"{points:.1f}")
    best = {kind: max(points) for kind, points in came_to.items()}
    said = chapter("17")
    assert f"full size all along, at most {best['all along']:.1f} percent;" in said
    assert f"the full size at the end, at most {best['at the end']:.1f}; never the full size, at most" in said
    never = f"{best['never']:.1f}"
    assert f"at most {never}. These maxima do not compare sizes alone: the {never} has a wider network" in said
    assert f"the three kinds had {', '.join(alike[:2])} and {alike[2]}, for 10 to 11 TFLOP" in said
    assert f"came to {min(came_to['apart']):.1f} to {best['apart']:.1f}, no more than" in said


def test_the_page_holds_fast_against_airbench94() -> None:
    air, fast = (ledger("fast.jsonl", name) for name in ("airbench94", "fast"))
    new, old = ([100 * float(run["tta_accuracy"]) for run in runs] for runs in (fast, air))
    p = p_not_below(new, old, 0.1)
    flops = float(fast[0]["flops"]) / float(air[0]["flops"])
    seconds = {run["seed"]: run["seconds"]["train"] for run in fast}
    ratios = [seconds[run["seed"]] / run["seconds"]["train"] for run in air if run["seed"]]  # the first came before
    text = page("book/measured")
    assert f"is {'' if p < 0.05 else 'not '}shown, if narrowly: " in text
    assert f"about once in {1 / p:.0f} times (p = {p:.2g})" in text
    assert f"{flops:.2f} of airbench94's FLOPs and {statistics.median(ratios):.2f} of its seconds" in text
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    assert (
        f"over the four seeds that ran in turns ({spread}); {trained(fast) / trained(air):.2f} by the medians" in text
    )


def test_the_measured_runs_in_rows_are_the_recorded_ones() -> None:
    air, fast = (ledger("fast_in_rows.jsonl", name) for name in ("airbench94", "fast"))
    new = [100 * float(run["tta_accuracy"]) for run in fast]
    took, slow = ({run["seed"]: float(run["seconds"]["train"]) for run in runs} for runs in (fast, air))
    ratios = [took[seed] / slow[seed] for seed in slow]
    under = sum(seconds < 480 for seconds in took.values())
    text = page("book/measured")
    assert (
        f"{COUNT[len(fast)]} other seeds of `fast` took {min(took.values()):.0f} to {max(took.values()):.0f} s" in text
    )
    assert f"{trained(fast):.0f} in the median, {COUNT[under]} of them less than eight minutes" in text
    assert f"came to {mean_tta(fast):.2f} % ({statistics.stdev(new):.2f}) with TTA" in text
    assert f"{COUNT[len(air)]} of `airbench94` took {trained(air):.0f} s and came to {mean_tta(air):.2f} %" in text
    older = ledger("eight_minutes.jsonl", "airbench94")
    p, with_older = (
        p_not_below(new, [100 * float(run["tta_accuracy"]) for run in runs], 0.1) for runs in (air, [*air, *older])
    )
    shown = "shows it" if min(p, with_older) < 0.05 else "does not show it"
    alone = f"On that machine alone the same test of one side {shown}"
    assert f"{alone} (p = {p:.2g}, and {with_older:.2g} with those {COUNT[len(older)]})" in text
    pairs = f"{COUNT[len(ratios)]} pairs of whole trainings {min(ratios):.2f} to {max(ratios):.2f}"
    assert f"and {pairs}." in text
    shorter = ledger("eight_minutes.jsonl", "fast_eight")
    reached, beside = f"{mean_tta(shorter):.2f}", f"{mean_tta(older):.2f}"
    assert f"given up after {COUNT[len(shorter)]} of ten seeds, at {reached} % against {beside}." in text
    spending = chapter("17")
    assert f"{COUNT[under]} of {COUNT[len(fast)]} runs less than eight minutes" in spending
    assert f"the runs of the table do not show it ({with_older:.2g});" in spending
    assert f"{reached} percent in {COUNT[len(shorter)]} runs against the {beside} of airbench94 beside it" in chapter(
        "17"
    )


def ratios_of(pairs: list[dict[str, Any]]) -> list[float]:
    """The seconds of `fast` as shares of airbench94's, in order, of pairs that trained in turns."""
    return sorted(pair["fast"]["seconds"] / pair["airbench94"]["seconds"] for pair in pairs)


def sums(fast: list[float], air: list[float]) -> str:
    """How many runs of each there are, with mean and standard deviation, as the page tells it."""
    new, old = (f"{statistics.mean(points):.2f} % ({statistics.stdev(points):.2f})" for points in (fast, air))
    return f"{len(fast)} of `fast` have {new}, {len(air)} of `airbench94` {old}"


def test_the_measured_turns_are_the_recorded_ones() -> None:
    files = [ROOT / "benchmarks" / f"xeon_amx_turns{name}.json" for name in ("", "_narrow", "_gram", "_pages")]
    *earlier, last = ([*json.loads(file.read_text(encoding="utf-8"))["pairs"].values()] for file in files)
    assert files == sorted((ROOT / "benchmarks").glob("xeon_amx_turns*.json"), key=files.index)  # none is left out

    text = page("book/measured")
    *some, most = (f"{ratio:.3f}" for ratio in ratios_of(last))
    middle = statistics.median(ratios_of(last))
    took = f"{', '.join(some)} and {most} of airbench94's seconds, {middle:.3f} in the median"
    spent = sorted(pair["fast"]["seconds"] for pair in last)
    within = f"with `fast` at {spent[0]:.0f} to {spent[-1]:.0f} s"
    judged = "by whose median the aim of 0.6 was to be judged, took"
    assert f"{COUNT[len(last)].capitalize()} pairs, {judged} {took}, {within}" in text
    assert f"a fiftieth of each training at a time in turn, {took}." in chapter("17")
    before = ratios_of([pair for pairs in earlier for pair in pairs])
    assert f"{COUNT[len(before)].capitalize()} earlier pairs, by versions" in text
    assert f"took {before[0]:.2f} to {before[-1]:.2f} ([first]" in text
    fast, air = (
        [
            100 * float(run["tta_accuracy"])
            for run in (
                *(one for file in ("fast_in_rows", "eight_minutes") for one in ledger(f"{file}.jsonl", name)),
                *(pair[name] for pairs in (*earlier, last) for pair in pairs),
            )
        ]
        for name in ("fast", "airbench94")
    )
    p = p_not_below(fast, air, 0.1)
    said = "shows it" if p < 0.05 else "does not show it"
    assert f"{sums(fast, air)}, and with these the test of one side {said} (p = {p:.2g})" in text
    number = COUNT[len(before) + len(last)]
    assert f"The accuracies of all {number} pairs count as well" in text
    together = f"together with {number} pairs that trained in turns and stand in no table they do (p = {p:.2g}, on"
    assert together in chapter("17")
    seconds = [float(run["seconds"]["train"]) for run in ledger("fast_in_rows.jsonl", "fast")]
    seconds += [float(pair["fast"]["seconds"]) for pairs in (*earlier, last) for pair in pairs]
    quick = sum(one < 480 for one in seconds)
    assert f"On a Xeon mostly: {quick} of {len(seconds)} trainings took less there." in text


def test_the_turns_on_an_epyc_are_the_recorded_ones() -> None:
    found = json.loads((ROOT / "benchmarks" / "epyc_family25_turns.json").read_text(encoding="utf-8"))
    assert "family 25" in found["device"]
    assert found["precision"] == "bfloat16"
    pairs = [*found["pairs"].values()]
    ratios = ratios_of(pairs)
    *some, most = (f"{ratio:.3f}" for ratio in ratios)
    took = f"took {', '.join(some)} and {most} of airbench94's seconds, {statistics.median(ratios):.3f} in the median"
    seconds = sorted(pair["fast"]["seconds"] for pair in pairs)
    text = page("book/measured")
    assert f"{COUNT[len(pairs)]} more pairs trained there" in text
    assert f"{took}, with `fast` at {seconds[0]:.0f} to {seconds[-1]:.0f} s" in text
    first = sorted(float(run["seconds"]["train"]) for run in ledger("fast.jsonl", "fast")[:3])
    assert f"the first three runs of `fast` in the table took {first[0]:.0f} to {first[-1]:.0f} s." in text
    assert f"{COUNT[len(pairs)].capitalize()} later ones" in chapter("17")
    assert f"{took}." in chapter("17")
    fast, air = (
        [100 * float(run["tta_accuracy"]) for run in (*ledger("fast.jsonl", name), *(pair[name] for pair in pairs))]
        for name in ("fast", "airbench94")
    )
    p = p_not_below(fast, air, 0.1)
    said = "shows it too" if p < 0.05 else "does not show it"
    assert f"{sums(fast, air)}, and the test of one side {said} (p = {p:.2g})" in text


def test_the_steps_in_large_pages_are_the_measured_ones() -> None:
    figures = json.loads((ROOT / "benchmarks" / "xeon_amx_large_pages.json").read_text(encoding="utf-8"))
    medians = [row["ratio"] for row in figures["milliseconds"]]
    single = [ratio for row in figures["milliseconds"] for ratio in row["ratios"]]
    text = page("book/measured")
    assert f"steps of eight kinds then take {min(medians):.2f} to {max(medians):.2f} of the time" in text
    assert f"Single pairs came to {min(single):.2f} to {max(single):.2f}," in text
    assert {len(row["ratios"]) for row in figures["milliseconds"]} == {len(medians)} == {8}


def test_the_steps_in_rows_are_the_measured_ones() -> None:
    figures = json.loads((ROOT / "benchmarks" / "xeon_amx_rows.json").read_text(encoding="utf-8"))
    rows = {(row["recipe"], row["scale"], row["side"]): row for row in figures["milliseconds"]}
    lean = [row["ratio"] for (name, scale, _), row in rows.items() if name != "final" and scale == "full"]
    text = page("book/measured")
    assert f"take {min(lean):.2f} to {max(lean):.2f} of the time with it" in text
    full, small = (rows["final", scale, 32]["ratio"] for scale in ("full", "small"))
    assert f"those of `final` {full:.2f} at full width and {small:.2f} at the small scale" in text
    before, after = (
        [float(run["seconds"]["train"]) for run in ledger(f"{file}.jsonl", "airbench94")]
        for file in ("eight_minutes", "fast_in_rows")
    )
    spread = f"{min(before):.0f} to {max(before):.0f} s; the other five took {min(after):.0f} to {max(after):.0f} s."
    assert (len(before), len(after)) == (3, 5)
    assert spread in chapter("13")
    for (name, scale, side), row in rows.items():
        at = f", {side} pixels" if "fast" in name else ""
        took = f"{row['one_by_one']:.0f} | {row['in_rows']:.0f} | {row['ratio']:.2f}"
        assert f"| `{name}`, {scale} scale{at} | {took} |" in chapter("13")


def test_the_measured_gpu_is_the_recorded_one() -> None:
    runs = [run for run in ledger("final_full.jsonl") if run["device"] == "NVIDIA H200"]
    spread = statistics.stdev(100 * float(run["tta_accuracy"]) for run in runs)
    text = page("book/measured")
    assert f"trains by `final` in {statistics.median(run['seconds']['train'] for run in runs):.1f} s" in text
    assert f"to {mean_tta(runs):.2f} % with TTA on `cifar10-jpeg`" in text
    assert f"of {len(runs)} seeds, sd {spread:.2f})" in text


def test_the_measured_race_on_a_gpu_is_the_recorded_one() -> None:
    text = page("book/measured")
    by_recipe = {name: ledger("fast_on_a_gpu.jsonl", name) for name in ("airbench94", "muon", "fast")}
    seconds, flops, points = {}, {}, {}
    for name, runs in by_recipe.items():
        points[name] = [100 * float(run["tta_accuracy"]) for run in runs]
        seconds[name] = statistics.median(run["seconds"]["train"] for run in runs)
        flops[name] = runs[0]["flops"] / 1e12
        row = f"| `{name}` | {len(runs)} | {mean_tta(runs):.2f} % ({statistics.stdev(points[name]):.2f}) |"
        assert f"{row} {flops[name]:.1f} | {seconds[name]:.2f} |" in MEASURED
    assert f"p = {p_not_below(points['fast'], points['airbench94'], 0.1):.2g})" in text
    assert f"the {flops['fast'] / flops['airbench94']:.2f} of the FLOPs that `fast` needs take" in text
    assert f"take {seconds['fast'] / seconds['airbench94']:.2f} of the time" in text
    better = difference(points["muon"], points["airbench94"])
    assert f"by a tenth as it seems ({better.mean:.2f}, interval {better.low:.2f} to {better.high:.2f})" in text
    assert f"*better* for `muon` (p = {2 * better.p:.2g}, corrected) would not" in text  # Holm's: the smaller of two
    shares = (flops["muon"] / flops["airbench94"], seconds["muon"] / seconds["airbench94"])
    assert f"`muon`'s {shares[0]:.2f} take {shares[1]:.2f} too" in text


def test_the_replayed_steps_are_the_measured_ones() -> None:
    figures = json.loads((ROOT / "benchmarks" / "h200_replay.json").read_text())
    took = {(row["recipe"], row["scale"], row["side"]): row for row in figures["milliseconds"]}
    fast = [row for (name, *_), row in took.items() if name == "fast"]
    (low, high), (before, after) = (
        (min(row[how] for row in fast), max(row[how] for row in fast)) for how in ("replayed", "launched")
    )
    full, small = took["final", "full", 32], took["final", "small", 32]
    text = page("book/measured")
    assert f"`fast` takes {low:.1f} to {high:.1f} ms in place of {before:.1f} to {after:.1f}" in text
    assert f"at full width {full['replayed']:.1f} in place of {full['launched']:.1f}" in text
    assert f"small scale {small['replayed']:.1f} in place of {small['launched']:.1f}" in text
    for (name, scale, side), row in took.items():
        at = f", {side} pixels" if name == "fast" else ""
        if name in {"final", "airbench94", "muon"} or (name == "fast" and side != 24):
            assert f"| `{name}`, {scale} scale{at} | {row['launched']:.2f} | {row['replayed']:.2f} |" in chapter("13")


def mean_tta(runs: list[dict[str, Any]]) -> float:
    return interval([100 * float(run["tta_accuracy"]) for run in runs]).mean  # as the report has it


def by_machine(runs: list[dict[str, Any]], precision: str) -> list[list[dict[str, Any]]]:
    here = [run for run in runs if run["precision"] == precision]
    return [[run for run in here if run["device"] == device] for device in {run["device"] for run in here}]


def test_the_page_holds_three_minutes_against_final() -> None:
    runs, final = ledger("small_fast_180_ahead.jsonl"), ledger("final_small.jsonl")
    flops, of = (float(some[0]["flops"]) / 1e12 for some in (runs, final))
    half, whole = (
        [mean_tta(runs) - mean_tta(theirs) for theirs in by_machine(final, precision)]
        for precision in ("bfloat16", "float32")
    )
    text = page("book/measured")
    (float32,) = whole
    assert f"{min(half):.1f} to {max(half):.1f} points above the runs of `final` in bfloat16" in text
    assert f"and {float32:.1f} above those in float32, for" in text
    assert f"for {flops / of:.2f} of their {of:.1f} TFLOP;" in text

    def alone(runs: list[dict[str, Any]]) -> float:
        return statistics.fmean(100 * float(run["accuracy"]) for run in runs)

    final += [run for run in ledger("leave_one_out.jsonl", "final") if run["device"] == "NVIDIA H200"]
    others = [alone([run for run in final if run["device"] == device]) for device in {run["device"] for run in final}]
    plain = sorted(map(alone, (runs, ledger("without_bfloat16.jsonl", "small_fast_180_ahead"))))
    said = f"has {plain[0]:.1f} to {plain[1]:.1f} %, less than `final` ({min(others):.1f} to {max(others):.1f} %)"
    assert said in text


def test_the_readme_lists_the_chapters() -> None:
    colab = f"https://colab.research.google.com/github/{address.slug()}/blob/main/"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0]
        number, name = title.removeprefix("# ").strip().split(" · ")
        assert f"| {number} | [{name}](notebooks/{path.name}) | [open]({colab}notebooks/{path.name}) |" in README


def test_the_readmes_short_figures_are_those_of_the_page() -> None:
    text = page("README")
    sixty, three = (ledger(f"small_fast_{seconds}_ahead.jsonl") for seconds in (60, 180))
    views = f"in three ({mean_tta(sixty):.2f} % and {mean_tta(three):.2f} % on `cifar10-jpeg`, 10 seeds each"
    alone = [100 * statistics.mean(float(run["accuracy"]) for run in runs) for runs in (sixty, three)]
    assert f"{views}, by the mean of eight views of an image; {alone[0]:.2f} % and {alone[1]:.2f} % by" in text
    air, fast = (float(ledger("fast.jsonl", name)[0]["flops"]) for name in ("airbench94", "fast"))
    assert f"It takes {fast / air:.2f} of its FLOPs and, on two cores, six tenths of its seconds" in text
    rows = [line for line in MEASURED.splitlines() if line.startswith(("| a training step", "| an epoch's"))]
    steps, batches = (re.findall(r"(\S+) × \(", row) for row in rows)
    assert (len(steps), len(batches)) == (3, 5)
    assert f"runs {min(steps, key=float)} to {max(steps, key=float)} times as fast as a straightforward port" in text
    assert f"augmentation {min(batches, key=float)} to {max(batches, key=float)} times as fast as a DataLoader" in text
    old, new = (ledger("fast_on_a_gpu.jsonl", name) for name in ("airbench94", "fast"))
    assert (
        f"`fast` trains at full width in {trained(new):.2f} s, to {mean_tta(new):.2f} % with TTA on `cifar10-jpeg`, "
        f"airbench94 in {trained(old):.2f} s, to {mean_tta(old):.2f} % ({len(new)} seeds each): "
        f"{trained(new) / trained(old):.2f} of the time for {fast / air:.2f} of the FLOPs."
    ) in text


def test_the_measured_speeds_are_the_measured_ones() -> None:
    names = ("epyc_family25_bf16", "xeon_amx_narrow_in_rows", "epyc_avx512_bf16", "epyc_avx2", "xeon_avx512_bf16")
    machines = [json.loads((ROOT / "benchmarks" / f"{name}.json").read_text()) for name in names]
    for figures in machines:  # the port used to run in a process that keeps its memory
        alone = "port_kept_images_per_second" in figures
        kept = figures.setdefault("port_kept_images_per_second", figures["port_images_per_second"])
        figures["kept_speedup"] = figures["train_images_per_second"] / kept
        figures["port"] = PORT.format(**figures) if alone else "not measured"
    rows = {
        "port": "{port}",
        "kept": "{kept_speedup:.1f} × ({train_images_per_second:.0f} against "
        "{port_kept_images_per_second:.0f} images/s)",
        "augment_speedup": "{augment_speedup:.0f} × ({augment_images_per_second:,.0f} against "
        "{loader_images_per_second:,.0f} images/s)",
        "matmul_share": "{matmul_share:.2f} ({train_gflops:.0f} of {matmul_gflops:,.0f} GFLOP/s)",
        "ghost_cost": "{ghost_cost:.2f}",
        "help_seconds": "{help_seconds:.2f}",
    }
    for key, row in rows.items():
        assert " | ".join(["", *(row.format(**figures) for figures in machines), ""]).strip() in MEASURED, key
    text = page("book/measured")
    later = ("airbench94", "fast", "small_fast_60_ahead", "small_fast_180_ahead")
    for name in later:
        shares = [f"{machines[column][f'{name}_share']:.2f}" for column in (0, 1, 3)]
        assert f"| `{name}` | {' | '.join(shares)} |" in MEASURED
    assert f"reaches {machines[1]['matmul_share']:.2f} of the matrix-multiply rate, where 0.75 was aimed at" in text
    earlier = json.loads((ROOT / "benchmarks" / "xeon_amx_in_rows.json").read_text(encoding="utf-8"))
    rates = f"of {earlier['matmul_gflops']:.0f} GFLOP/s in place of {machines[1]['matmul_gflops']:.0f}"
    assert f"it was {earlier['matmul_share']:.2f}, {rates}:" in text
    assert f"`fast` reached {earlier['airbench94_share']:.2f} and {earlier['fast_share']:.2f} then." in text
    before = json.loads((ROOT / "benchmarks" / "xeon_amx.json").read_text(encoding="utf-8"))
    assert f"large matrices at {before['matmul_gflops']:,.0f} GFLOP/s" in text
    assert f"a step of `final` reached {before['matmul_share']:.2f} of that" in text
    assert f"the day of the column, the rate was {machines[1]['matmul_gflops']:.0f}." in text
    kept, other = (
        one.get("port_kept_gflops", one["port_gflops"]) / one["matmul_gflops"] for one in (machines[3], machines[4])
    )
    plain = f"keeps its memory already reaches {kept:.0%} (AVX2 alone) and {other:.0%} (Xeon)"
    assert plain.replace("%", " %") in text
    assert f"would take {machines[3]['muon_bfloat16_cost']:.1f} times as long" in text


PORT = "{train_speedup:.1f} × ({train_images_per_second:.0f} against {port_images_per_second:.0f} images/s)"


def test_nothing_of_one_machine_is_written_down(tracked: list[Path]) -> None:
    for path in tracked:
        if path.suffix not in {".png", ".safetensors"}:
            found = re.search(
                r"(^|[^A-Za-z.])/(work|root|home|tmp|Users)/\w", path.read_text(encoding="utf-8"), re.MULTILINE
            )
            assert not found, f"{path}: {found}"


def test_ledgers_only_grow(tmp_path: Path, git: Callable[..., str]) -> None:
    def grown() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([ROOT / ".ci" / "append_only", "HEAD"], cwd=tmp_path, capture_output=True, text=True)

    ledger = tmp_path / "book" / "results" / "runs.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.write_text("1\n2\n")
    for name in ("runs", "runs_half"):
        ledger.with_name(f"{name}.toml").write_text("x = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "config", "color.ui", "always")
    git(tmp_path, "config", "diff.external", "true")  # a program that says nothing
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "runs")
    ledger.write_text("1\n2\n3\n")
    (ledger.parent / "more.jsonl").write_text("4\n")
    assert grown().returncode == 0
    (tmp_path / ".gitattributes").write_text("*.jsonl -diff\n")  # whatever git is told of the file
    for edited in ("1\n3\n", "1\n", "0\n2\n"):
        ledger.write_text(edited)
        said = grown()
        assert said.returncode == 1
        assert "runs.jsonl: 1 lines edited or deleted" in said.stderr
    ledger.unlink()
    assert grown().returncode == 1
    git(tmp_path, "checkout", ".")
    (ledger.parent / "runs_half.jsonl").write_text("5\n")  # new: its plan may change, whatever runs.jsonl holds
    git(tmp_path, "add", "book/results/runs_half.jsonl")
    for name, text, code in (("runs", "x = 2\n", 1), ("runs", "x = 1\n", 0), ("runs_half", "x = 2\n", 0)):
        ledger.with_name(f"{name}.toml").write_text(text)
        said = grown()
        assert said.returncode == code
        assert (
            said.stderr == "book/results/runs.toml: changed after runs of its own, in book/results/runs.jsonl\n" * code
        )
    (ledger.parent / "runs.toml").unlink()
    assert "runs.toml: changed after runs of its own" in grown().stderr
    git(tmp_path, "checkout", ".")
    for before, code in (("0" * 40, 0), ("", 2)):  # a new repository's first push; a workflow that has lost its way
        assert subprocess.run([ROOT / ".ci" / "append_only", before], cwd=tmp_path).returncode == code
