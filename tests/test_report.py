import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from matplotlib.text import Annotation
from records import record

from cifar_fast_utils import cli, plots
from cifar_fast_utils.device import SCALES
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.evidence import by_setting, compare, rung, rungs, same_on_shared_seeds
from cifar_fast_utils.ledger import Key, append, key_of, own_runs, read_folder, setting_of
from cifar_fast_utils.lengths import at_target, family, lengths
from cifar_fast_utils.plan import Plan
from cifar_fast_utils.recipe import get, with_epochs
from cifar_fast_utils.report import caption, findings, plan_table, report, signed, told
from cifar_fast_utils.run import Run, summary, table_row
from cifar_fast_utils.stats import holm
from cifar_fast_utils.tables import markdown
from cifar_fast_utils.train import recipe_at
from cifar_fast_utils.verdicts import plan_tables, rows


def runs(name: str, mean: float, n: int = 8, sd: float = 0.001, **changes: Any) -> list[dict[str, Any]]:
    """`n` runs with exactly this mean and spread."""
    values = np.random.default_rng([n, *name.encode()]).normal(size=n)
    values = mean + sd * (values - values.mean()) / values.std(ddof=1)
    return [record(name, seed, float(value), **changes) for seed, value in enumerate(values)]


def plan(*rungs: str, **changes: Any) -> Plan:
    return Plan(**{"question": "Which?", "dataset": "noise", "scale": "small", "seeds": 8, "compare": "before",
                   "rungs": list(rungs), **changes})  # fmt: skip


def cells(table: str) -> list[dict[str, str]]:
    """A Markdown table read back."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert all(set(cell) <= {"-", ":"} for cell in lines[1])
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_a_rung_is_what_its_runs_say() -> None:
    records = runs("celu", 0.86) + runs("final", 0.87)
    found = rung(get("final"), records)
    assert found is not None
    points = [100 * (one["accuracy"] + 0.005) for one in records[8:]]  # TTA's
    assert found.points == pytest.approx(points)
    assert found.interval.mean == pytest.approx(statistics.mean(points))
    assert rung(get("ema"), records) is None
    assert [one.recipe.name for one in rungs(records)] == ["celu", "final"]


def test_a_seed_counts_once() -> None:
    first = runs("celu", 0.86, n=3)
    found = rung(get("celu"), [*first, *runs("celu", 0.5, n=3)])
    assert found is not None
    assert list(found.records) == first


def test_of_two_runs_of_a_seed_the_earlier_counts() -> None:
    late, early = (record("celu", 0, started=f"2026-01-0{day}T00:00:00+00:00") for day in (2, 1))
    found = rung(get("celu"), [late, early])
    assert found is not None
    assert found.records == (early,)


def test_ema_is_read_from_the_runs_of_tta() -> None:
    records = runs("tta", 0.87)
    ema, tta = rung(get("ema"), records), rung(get("tta"), records)
    assert ema is not None
    assert tta is not None
    assert ema.points == pytest.approx([100 * one["accuracy"] for one in records])
    found = compare(tta, ema)  # paired: the same half point in each run, whatever the runs' own spread
    assert [found.mean, found.low, found.high] == pytest.approx([0.5, 0.5, 0.5])
    assert rung(get("tta"), runs("ema", 0.87)) is None


def test_how_it_would_be_tested_with_tta_does_not_matter_without() -> None:
    one, other = (replace(get("airbench94"), name=f"shift{n}", tta=False, tta_shift=n) for n in (0, 1))
    found = rung(other, [record(one, seed, 0.87) for seed in range(3)])
    assert found is not None
    assert found.points == pytest.approx([87.0] * 3)


def test_the_same_network_tested_otherwise_is_compared_seed_by_seed() -> None:
    with_shift = runs("airbench94", 0.87)
    other = "airbench94_without_shifted_tta"
    records = [*with_shift, *(record(other, one["seed"], one["accuracy"]) for one in with_shift)]
    for one in records[len(with_shift) :]:
        one["tta_accuracy"] -= 0.001
    table = rows(plan("airbench94", other), records)
    found = table[1].difference
    assert found is not None
    assert [found.mean, found.low, found.high] == pytest.approx([-0.1, -0.1, -0.1])
    assert table[1].verdict == "worse"


def test_seconds_are_medians_of_runs_with_as_many_threads() -> None:
    records = runs("celu", 0.86, n=3)
    for one, seconds in zip(records, (10.0, 30.0, 20.0), strict=True):
        one["seconds"] = {"train": seconds, "train_eval": seconds + 1, "cold": seconds + 2}
    records.append(record("celu", 3, threads=1, seconds={"train": 99.0, "train_eval": 99.0, "cold": 99.0}))
    found = rung(get("celu"), records)
    assert found is not None
    assert (found.threads, found.seconds("train"), found.seconds("cold")) == (2, 20.0, 22.0)


def test_a_table_has_the_seconds_of_the_runs_made_for_its_plan() -> None:
    later = {"train": 40.0, "train_eval": 41.0, "cold": 42.0}
    ours, theirs = runs("celu", 0.86, n=3), [record("celu", seed, seconds=later) for seed in range(3, 8)]
    others = [record("final", seed, seconds=later) for seed in range(3)]
    records, own = [*ours, *theirs, *others], {key_of(one) for one in ours}
    chosen = plan("celu", "final")

    def shown(made: set[Key]) -> list[tuple[int, float]]:
        return [(row.rung.n, row.rung.seconds("train")) for row in rows(chosen, records, own=made) if row.rung]

    assert str(shown(own)) == str([(8, 10.0), (3, math.nan)])  # of final it has none of its own
    assert shown(set()) == [(8, 40.0), (3, 40.0)]
    crowd = [record("ghost_norm", one["seed"], started=one["started"]) for one in ours]
    beside = rows(chosen, records, [*records, *crowd], own)[0].rung
    assert beside is not None
    assert math.isnan(beside.seconds("train"))  # its own had company: no others' in their place
    setting = setting_of(records[0])
    for made, seconds in ((True, ["train s", "train_eval s", "cold s"]), (False, [])):
        said, table, *_ = told(chosen, setting, rows(chosen, records, own=own), made)
        assert [name for name in cells(table)[0] if name.endswith(" s")] == seconds
        assert ("seconds: medians" in said) == made
        assert said.endswith(" Made for other plans.") != made


def test_a_caption_says_which_rows_had_how_many_threads() -> None:
    found = [rung(get("celu"), runs("celu", 0.86, n=3)), rung(get("final"), [record("final", 0, threads=1)])]
    shown = [one for one in found if one]
    setting = setting_of(shown[0].records[0])
    assert "medians (1 CPU thread for `final`, 2 CPU threads for `celu`)" in caption(setting, shown)
    assert "medians (2 CPU threads)" in caption(setting, shown[:1])


def test_verdicts_of_a_table_against_the_rung_before_with_holms_correction() -> None:
    chosen = plan("label_smoothing", "celu", "ghost_norm", "frozen_scales", "whitening")
    records = runs("label_smoothing", 0.86) + runs("celu", 0.865) + runs("ghost_norm", 0.8652, sd=0.0005)
    records += runs("whitening", 0.862)
    table = rows(chosen, records)
    assert [row.verdict.split(" (")[0] for row in table] == [
        "", "better", "no difference larger than 0.11 points shown", "", "",
    ]  # fmt: skip
    assert [row.against for row in table] == ["", "label_smoothing", "celu", "", ""]
    printed = cells(plan_table(chosen, table))
    assert [line["rung"] for line in printed] == ["`label_smoothing`", "`celu`", "`ghost_norm`", "`whitening`"]
    assert printed[1]["accuracy"] == "86.50"
    half = scipy.stats.t.ppf(0.975, 7) * 0.1 / math.sqrt(8)
    assert printed[1]["interval"] == f"{86.5 - half:.2f} to {86.5 + half:.2f}"
    assert printed[1]["sd"] == "0.10"
    assert (printed[1]["n"], printed[1]["epochs"], printed[1]["train s"]) == ("8", "20", "10.0")
    # one pair just below 5% is no longer so among many
    near = runs("celu", 0.86) + runs("ghost_norm", 0.86 + 0.00115)
    assert rows(plan("celu", "ghost_norm"), near)[1].verdict == "better"
    more = near + runs("frozen_scales", 0.8611) + runs("whitening", 0.8612)
    assert rows(plan("celu", "ghost_norm", "frozen_scales", "whitening"), more)[1].verdict.startswith("too few")


def test_verdicts_against_the_first_and_none() -> None:
    records = runs("final", 0.87) + runs("final_without_celu", 0.86) + runs("final_without_ema", 0.88)
    names = ("final", "final_without_celu", "final_without_ema", "final_without_tta")
    table = rows(plan(*names, compare="first"), records)
    assert [row.verdict for row in table] == ["", "worse", "better", "worse"]
    assert {row.against for row in table[1:]} == {"final"}
    assert [row.verdict for row in rows(plan(*names, compare="none"), records)] == ["", "", "", ""]
    assert [signed(row.difference) for row in table[2:]] == ["+1.00 (+0.89 to +1.11)", "−0.50 (−0.50 to −0.50)"]
    assert not findings(table)  # the table says it all


def test_below_a_table_stands_what_it_has_no_room_for() -> None:
    records = runs("celu", 0.86, n=3) + runs("ghost_norm", 0.862, n=3) + runs("final", 0.8565, n=3)
    for one, same in zip(records[3:6], records[:3], strict=True):
        one["accuracy"] = same["accuracy"]
    said = findings(rows(plan("celu", "ghost_norm", "final"), records))
    assert re.fullmatch(
        r"Shown nothing here:\n\n"
        r"- `ghost_norm` against `celu`: \+0\.00 .* \(as many right on each of 3 seeds\); 18 epochs against 20\n\n"
        r"Cannot be told yet:\n\n- `final` against `ghost_norm`: .* points \(needs about \d+\); 10 epochs against 18",
        said,
    ), said


def test_the_same_function_is_seen_to_be_the_same() -> None:
    records = runs("gpu_data", 0.86, n=8, sd=0.003)
    records += [record("pool_before_act", one["seed"], one["accuracy"]) for one in records[:3]]
    table = rows(plan("gpu_data", "pool_before_act"), records)
    assert table[1].verdict == "no difference larger than 0 points shown (as many right on each of 3 seeds)"
    new, old = table[1].rung, table[0].rung
    assert new is not None
    assert old is not None
    assert same_on_shared_seeds(new, old) == 3
    records[-1]["accuracy"] += 0.0001
    assert rows(plan("gpu_data", "pool_before_act"), records)[1].verdict.startswith("too few runs")


def test_a_target_is_tested_one_sidedly() -> None:
    records = runs("celu", 0.9402) + runs("ghost_norm", 0.938)
    chosen = plan("celu", "ghost_norm", target=0.94)
    printed = cells(plan_table(chosen, rows(chosen, records)))
    points = [100 * one["accuracy"] for one in records[:8]]
    plain = scipy.stats.ttest_1samp(points, 94, alternative="greater").pvalue
    assert float(printed[0]["p of 94%"]) == pytest.approx(2 * plain, rel=0.05)  # the smaller of two: Holm
    assert float(printed[1]["p of 94%"]) > 0.9


def test_a_rung_can_be_the_target_less_what_matters() -> None:
    records = runs("celu", 0.94) + runs("ghost_norm", 0.9402)
    chosen = plan("celu", "ghost_norm", target_rung="celu", worth=0.1)
    printed = cells(plan_table(chosen, rows(chosen, records)))
    less = [100 * one["accuracy"] - 0.1 for one in records[:8]]
    points = [100 * one["accuracy"] for one in records[8:]]
    welch = scipy.stats.ttest_ind(points, less, equal_var=False, alternative="greater")
    assert float(printed[1]["p of `celu` − 0.1"]) == pytest.approx(welch.pvalue, rel=0.05)
    assert printed[0]["p of `celu` − 0.1"] == ""
    smoke = plan("celu", "ghost_norm", target_rung="celu", worth=0.1, scale="smoke")  # three epochs, whatever is asked
    again = cells(plan_table(smoke, rows(smoke, runs("celu@3", 0.94) + runs("ghost_norm@3", 0.9402))))
    assert again[1]["p of `celu` − 0.1"] == printed[1]["p of `celu` − 0.1"]


def test_the_p_of_a_goal_are_corrected_for_their_number() -> None:
    records = runs("celu", 0.8605, n=4) + runs("final", 0.86, n=4) + runs("whitening", 0.862, n=4) + [record("ema")]
    table = rows(plan("celu", "ema", "final", "whitening", target=0.86, compare="none"), records)
    several = [row.rung.points for row in table if row.rung and row.rung.n > 1]
    plain = [scipy.stats.ttest_1samp(points, 86, alternative="greater").pvalue for points in several]
    assert math.isnan(table[1].p_of_goal)
    found = [row.p_of_goal for row in table if not math.isnan(row.p_of_goal)]
    assert found == pytest.approx(holm(plain))
    assert sum(found) > sum(plain)


def test_a_few_shared_seeds_are_no_pairs() -> None:
    """Seed by seed only where that uses all the runs of one side."""
    records = runs("tta", 0.87) + [record("ema", seed, 0.77 + 0.001 * seed) for seed in range(7, 15)]
    table = rows(plan("ema", "tta"), records)
    assert table[1].difference is not None
    assert table[1].difference.n == 8


def test_a_recipe_goes_by_the_name_it_had_first() -> None:
    other = [record(replace(get("celu"), name="mine"), seed, 0.86) for seed in range(8, 10)]
    assert [(one.recipe.name, one.n) for one in rungs([*runs("celu", 0.86), *other])] == [("celu", 10)]


def test_settings_are_never_mixed(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu"]\n'
    )
    means = {}
    for k, (field, value) in enumerate(
        [("device", "a machine"), ("device", "another"), ("precision", "bfloat16"), ("dataset_digest", "4567")]
    ):
        means[f"{80 + k}.00"] = value
        for one in runs("celu", 0.8 + 0.01 * k, n=3):
            append(tmp_path / "runs.jsonl", {**one, field: value})
    for field, value in (("dataset", "cifar10"), ("scale", "full")):  # not this plan's
        for one in runs("celu", 0.9, n=3):
            append(tmp_path / "runs.jsonl", {**one, field: value})
    said = report(tmp_path)
    assert sorted(re.findall(r"\| `celu` .*?\| +3 \| +(\S+) \|", said)) == sorted(means)
    assert "90.00" not in said
    captions = re.findall(r"^On `.*", said, re.MULTILINE)
    assert len(captions) == len(means)
    for line in captions:
        assert "`noise`, which is not CIFAR-10; small scale; " in line
        assert "3 runs, 2026-01-01." in line
    assert len(by_setting(read_folder(tmp_path)[0])) == 6


def test_a_report_says_which_difference_matters_to_a_plan_that_compares(tmp_path: Path) -> None:
    asked = 'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu"]\nworth = 0.3\n'
    (tmp_path / "plan.toml").write_text(asked + 'compare = "first"\n')
    said = "The smallest difference that matters here: 0.3 points."
    assert said not in report(tmp_path)  # without runs
    append(tmp_path / "runs.jsonl", record("celu"))
    assert f"## Which?\n\n{said}\n\nOn `noise`" in report(tmp_path)
    (tmp_path / "plan.toml").write_text(asked)
    assert said not in report(tmp_path)


def test_a_report_begins_with_what_came_of_each_comparison(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 8\ncompare = "first"\ntarget_rung = "celu"\n'
        'rungs = ["celu", "ghost_norm", "whitening", "final", "baseline"]\n'
    )
    for one in [*runs("celu", 0.86), *runs("ghost_norm", 0.88), *runs("whitening", 0.85), *runs("final", 0.8551, n=2)]:
        append(tmp_path / "plan.jsonl", {**one, "device": "a machine", "precision": "bfloat16"})
    for one in [*runs("celu", 0.86, n=3), *runs("ghost_norm", 0.84, n=3)]:
        append(tmp_path / "plan.jsonl", {**one, "device": "a card", "precision": "bfloat16"})
    (tmp_path / "another.toml").write_text(
        'question = "Which first?"\ndataset = "noise-validation"\nscale = "small"\nseeds = 9\nrungs = ["celu"]\n'
    )
    for one in [*runs("celu", 0.86, n=9), *runs("ghost_norm", 0.84, n=9)]:
        append(tmp_path / "another.jsonl", {**one, "device": "another card", "precision": "bfloat16"})
    (short,) = re.findall(r"## In short\n\n(.*?)\n\n## ", report(tmp_path), re.DOTALL)
    head, _, *lines = short.splitlines()
    assert head == "**Which?** Each against `celu`, in points, at the small scale, on `noise`, which is not CIFAR-10:"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "a machine, bfloat16", "a card, bfloat16"]  # the most runs first; no other plan's runs
    assert [cells[2], *cells[4:]] == [
        ["`celu`", "", ""],
        ["`whitening` (14 epochs against 20)", "not shown to be at least `celu` − 0.2; worse: −1.00", ""],
        ["`final` (10 epochs against 20)", "not shown to be at least `celu` − 0.2; "
         "too few runs (needs about 7): +0.01; 2 of 8 runs", ""],
        ["`baseline`", "", ""],
    ]  # fmt: skip
    assert cells[3][1:] == [
        "at least `celu` − 0.2 (p < 0.05); better: +2.00",
        "not shown to be at least `celu` − 0.2; worse: −2.00; 3 of 8 runs",
    ]
    tables = re.findall(
        r"^On .*?; small scale; (.*?), bfloat16; .*?\.( Made for other plans\.)?$", report(tmp_path), re.M
    )
    assert tables == [("a machine", ""), ("a card", ""), ("another card", " Made for other plans.")]
    for one in runs("celu", 0.86, n=2):
        append(tmp_path / "another.jsonl", {**one, "device": "a third card", "precision": "bfloat16"})
    assert len(re.findall(r"^On .*a third card", report(tmp_path), re.M)) == 0  # there is nothing to compare
    assert "small scale, a third card, bfloat16: `celu` × 2" in report(tmp_path)
    (tmp_path / "plan.jsonl").rename(tmp_path / "another_too.jsonl")
    tables = re.findall(r"; small scale; (.*?), bfloat16; .*?\. Made for other plans\.$", report(tmp_path), re.M)
    assert tables == ["a machine", "another card", "a card"]  # nobody has carried it out
    (tmp_path / "another_too.jsonl").rename(tmp_path / "plan.jsonl")
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu"]\n'
    )
    assert "## In short" not in report(tmp_path)  # nothing is compared
    (tmp_path / "plan.toml").write_text(
        'question = "Does it?"\ndataset = "noise"\nscale = "small"\nseeds = 8\nrungs = ["celu"]\ntarget = 0.85\n'
    )
    assert "**Does it?** At the small scale, on `noise`, which is not CIFAR-10:" in report(tmp_path)


def test_a_table_says_how_many_runs_were_planned() -> None:
    chosen = plan("celu", "ghost_norm", fewer={"ghost_norm": 3})
    table = rows(chosen, runs("celu", 0.86, n=5) + runs("ghost_norm", 0.86, n=3))
    assert [line["n"] for line in cells(plan_table(chosen, table))] == ["5 of 8", "3"]
    assert [line["n"] for line in cells(plan_table(chosen, table, own=False))] == ["5", "3"]
    smoke = plan("celu", "ghost_norm", fewer={"ghost_norm": 3}, scale="smoke")
    shorter = recipe_at(SCALES["smoke"], get("ghost_norm"))
    table = rows(smoke, [record(shorter, seed, 0.5, scale="smoke") for seed in range(3)])
    assert [line["n"] for line in cells(plan_table(smoke, table))] == ["3"]


def test_a_plan_counts_its_own_seeds_where_it_was_carried_out() -> None:
    chosen = plan("celu", "ghost_norm", fewer={"ghost_norm": 3}, first_seed=2)
    records = runs("celu", 0.86, n=12) + runs("ghost_norm", 0.86, n=12)
    own = {key_of(one) for one in records if one["seed"] == 11}
    for made, counted in (((), [range(12), range(12)]), (own, [[*range(2, 10), 11], [2, 3, 4, 11]])):
        table = rows(chosen, records, own=made)
        assert [[*row.rung.by_seed] for row in table if row.rung] == [[*seeds] for seeds in counted]


def test_only_the_training_is_timed_where_the_test_was_another() -> None:
    found = rung(get("ema"), runs("tta", 0.87))
    assert found is not None
    assert found.seconds("train") == 10
    assert math.isnan(found.seconds("train_eval"))
    assert math.isnan(found.seconds("cold"))
    (setting,) = by_setting(found.records)
    assert "the test of runs with TTA left out" in caption(setting, [found])


def test_runs_that_no_plan_asks_for_are_named(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 1\nrungs = ["celu"]\n'
    )
    (tmp_path / "another.toml").write_text(
        'question = "Which?"\ndataset = "noise-validation"\nscale = "small"\nseeds = 1\nrungs = ["celu"]\n'
    )
    append(tmp_path / "plan.jsonl", record("celu", 0))
    for one in (record("celu", 1), record("final", 0, dataset="other")):
        append(tmp_path / "mine.jsonl", one)
    said = report(tmp_path).split("## Recorded, and counted in no plan's table")[1]
    assert "- `noise`, which is not CIFAR-10, small scale, a machine, float32: `celu` × 1\n" in said
    assert "- `other`, which is not CIFAR-10, small scale, a machine, float32: `final` × 1\n" in said


def test_a_verdict_with_runs_missing_is_one_so_far(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 9\nrungs = ["celu", "ghost_norm"]\n'
        'compare = "first"\n[fewer]\ncelu = 8\n'
    )
    for one in runs("celu", 0.86) + runs("ghost_norm", 0.9):
        append(tmp_path / "plan.jsonl", one)
    assert re.search(r"\| `ghost_norm` \(18 epochs against 20\) \| better: \+4.00; 8 of 9 runs +\|", report(tmp_path))


def test_a_caption_speaks_of_its_tables_columns_alone() -> None:
    found = rung(get("celu"), runs("celu", 0.86))
    assert found is not None
    (setting,) = by_setting(found.records)
    percent = "Accuracy in percent, with TTA where the recipe has it"
    assert f"{percent}; its 95% interval; sd: of single runs; seconds" in caption(setting, [found])
    assert f"{percent}; seconds: medians" in caption(setting, [found], head=("n", "accuracy", "train s"))
    assert caption(setting, [found], head=("n", "accuracy")).endswith(f"{percent}.")


def test_a_ledger_belongs_to_the_plan_it_is_named_after(tmp_path: Path) -> None:
    for name in ("fast", "fast_lane"):
        (tmp_path / f"{name}.toml").touch()
    ledgers = ("fast", "fast_mine", "fast_lane", "fast_lane_mine", "faster")
    for name in ledgers:
        append(tmp_path / f"{name}.jsonl", record(device=name))
    for name in ("fast", "fast_lane"):
        own = {setting.device for setting in own_runs(tmp_path / f"{name}.toml")}
        assert own == {name, f"{name}_mine"}
    (tmp_path / "fast_lane.toml").unlink()  # a class, say, of whom each hands in a ledger, and its one plan
    assert {setting.device for setting in own_runs(tmp_path / "fast.toml")} == set(ledgers)


def test_a_question_to_a_gpu_is_not_answered_by_a_cpu() -> None:
    records = runs("celu", 0.86, device="a processor, 2 cores") + runs("celu", 0.86, device="a card")
    devices = {gpu: [on.device for on, _ in plan_tables(plan("celu", gpu=gpu), records)] for gpu in (False, True)}
    assert devices == {False: ["a card", "a processor, 2 cores"], True: ["a card"]}


def test_a_report_names_damaged_lines_and_plans_without_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(
        'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu"]\n'
    )
    assert report(tmp_path).endswith("## Planned, without runs yet\n\n- Which? (`plan.toml`)\n")
    (tmp_path / "runs.jsonl").write_text(json.dumps(record("celu")) + '\n{"half a li')
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "report.md")]) == 0
    said = (tmp_path / "report.md").read_text()
    assert "runs.jsonl, line 2: not JSON" in said
    assert "| `celu`" in said
    assert capsys.readouterr().out == ""
    (tmp_path / "other.toml").write_text("nonsense")
    with pytest.raises(UserError, match=r"other\.toml is not a plan"):
        report(tmp_path)


def test_plans_come_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    for name in ("minute_180", "minute_60", "minute"):
        asked = f'question = "{name}?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu"]\n'
        (tmp_path / f"{name}.toml").write_text(asked)
    assert re.findall(r"- (\w+)\?", report(tmp_path)) == ["minute", "minute_60", "minute_180"]


def test_time_to_a_target_is_interpolated_and_never_extrapolated() -> None:
    def at(name: str, accuracy: float, seconds: float, flops: int) -> dict[str, Any]:
        clocks = {"train": seconds, "train_eval": seconds, "cold": seconds}
        return record(name, 0, accuracy, seconds=clocks, flops=flops)

    records = [at("celu@half", 0.80, 100, 2 * 10**15), at("celu", 0.90, 200, 4 * 10**15), at("ghost_norm", 0.85, 9, 9)]
    (line,) = cells(lengths(records, 0.86)[1])
    assert (line["recipe"], line["epochs recorded"]) == ("`celu`", "10, 20")
    assert (line["train s to 86%"], line["PFLOP to it"], line["highest mean"]) == ("160.0", "3.2", "90.00")
    for target, says in ((0.95, "not reached"), (0.7, "under the shortest")):
        (line,) = cells(lengths(records, target)[1])
        assert line[f"train s to {100 * target:.4g}%"] == line["PFLOP to it"] == says
    assert lengths(records[2:], 0.86) == ([], "")
    assert at_target([80.0, 80.0, 90.0], [1.0, 2.0, 3.0], 80.0) == 1.0
    assert at_target([80.2, 79.9, 90.0], [1.0, 2.0, 3.0], 80.0) is None  # a shorter one may have reached it
    records[0]["threads"] = 1
    (line,) = cells(lengths(records, 0.86)[1])
    assert (line["n"], line["train s to 86%"], line["PFLOP to it"]) == ("1, 1", "", "3.2")
    mine = [at("celu@half", 0.80, 100, 1), at("celu", 0.90, 200, 2)]
    for one, pad in zip(mine, (1, 2), strict=True):  # two recipes of one name
        one["recipe"] = replace(get("celu@half" if pad == 1 else "celu"), name="mine", pad=pad).to_dict()
    assert lengths(mine, 0.86) == ([], "")
    assert family(get("converge_final_24")) == family(get("converge_final_80")) == "converge_final"
    assert family(get("final@half")) == "final"
    assert family(get("celu_23")) == "celu_23"


def test_a_table_lines_up() -> None:
    table = markdown(["rung", "n", "verdict"], [["`a`", "8", "better"], ["`bcd`", "12", ""]])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[1] == "| ----- | --: | ------- |"


def test_the_rate_is_drawn_to_the_end() -> None:
    """Stretched to 29 epochs, the last knot of this recipe lies a rounding error behind them."""
    run = Run(
        with_epochs(get("whitening"), 29), "small", "noise", "0123", 7, "float32", "a machine", 2, "2026-01-01", 10
    )
    run.history = [{"epoch": 29.0, "train_accuracy": 0.5, "test_accuracy": 0.6}]
    run.seconds = {"train": 1.0}
    curves, (rate,) = (panel.lines for panel in plots.training_curves(run).axes)
    found = {str(line.get_label()): list(np.asarray(line.get_ydata())) for line in curves}
    assert found == {"training, augmented images": [0.5], "test": [0.6]}
    assert np.asarray(rate.get_xydata()) == pytest.approx(np.array([[0, 0], [5.8, 1], [29, 0]]), abs=1e-9)


def test_what_is_printed_of_a_run() -> None:
    row = {"epoch": 2.0, "rate": 0.1, "train_loss": 1.5, "train_accuracy": 0.25, "test_accuracy": 0.75, "seconds": 9.0}
    assert table_row(row).split() == ["2", "0.1000", "1.5000", "25.00%", "75.00%", "9.0"]
    for name, views in (("final", 2), ("airbench94", 6), ("small_fast_60_ahead", 8)):
        run = Run(get(name), "small", "noise", "0123", 0, "float32", "a machine", 1, "2026-01-01", 2 * 10**13)
        run.accuracy, run.tta_accuracy = 0.5, 0.6
        run.seconds = {"train": 10.0, "train_eval": 12.0, "cold": 15.0}
        said = summary(run)
        assert f"60.00% on noise, {views} views" in said
        assert "10.0 training, 12.0 with the final test, 15.0 with the warm-up" in said
        assert "0.02 PFLOP in training, 2,000 GFLOP/s" in said
        assert "a machine, 1 thread, float32" in said


def test_every_setting_has_its_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in runs("celu", 0.86) + runs("final", 0.87, n=2) + [record("celu", device="another")]:
        append(tmp_path / "runs.jsonl", one)
    drawn = plots.evidence_figures(read_folder(tmp_path)[0])
    assert list(drawn) == [
        "1_noise_small_float32_seconds", "1_noise_small_float32_flops", "1_noise_small_float32_seeds_celu",
        "2_noise_small_float32_seconds", "2_noise_small_float32_flops",
    ]  # fmt: skip
    histogram = drawn["1_noise_small_float32_seeds_celu"].axes[0]
    assert sum(patch.get_height() for patch in histogram.containers[0]) == 8
    for name, figure in drawn.items():
        title = figure.axes[0].get_title()
        assert "noise, small scale" in title, name
        assert "a machine" in title or "another" in title
    for kind, cost in (("seconds", 10.0), ("flops", 1e-9)):
        axes = drawn[f"1_noise_small_float32_{kind}"].axes[0]
        at = {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}
        assert at["1"] == pytest.approx((cost, 86.0))
        assert at["2"] == pytest.approx((cost, 87.5))
        (legend,) = drawn[f"1_noise_small_float32_{kind}"].legends
        assert [text.get_text() for text in legend.get_texts()] == ["1: celu (n = 8)", "2: final (n = 2)"]
    assert len(drawn["1_noise_small_float32_flops"].axes[0].texts) == 2
    append(tmp_path / "runs.jsonl", {**record("celu"), "dataset": "noise-validation"})  # a search's: no evidence
    assert cli.main(["report", str(tmp_path), "--plots", str(tmp_path / "plots")]) == 0
    assert {path.stem for path in (tmp_path / "plots").glob("*.svg")} == set(drawn)
    assert capsys.readouterr().err == ""
