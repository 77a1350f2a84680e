import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import record

from cifar_fast_utils import cli
from cifar_fast_utils.check import _whole, check_file
from cifar_fast_utils.network import run_flops
from cifar_fast_utils.recipe import MODERN, RECIPES, get, with_epochs
from cifar_fast_utils.train import count_flops

STEP = count_flops(get("final"), 16)
ROOT = Path(__file__).parent.parent


def ledger(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_sound_runs_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger(
        tmp_path / "runs.jsonl",
        record("final", 0, flops=970 * STEP),
        record("final", 1, flops=970 * STEP),
        record("final", 0, flops=970 * STEP, device="another"),
        record("final", 2, flops=970 * STEP, commit="0123456789ab+"),
    )
    assert cli.main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: noise, 0123, small, a machine, float32: final × 3" in said
    assert "1 of these made by code that is in no commit" in said


def test_a_run_that_stands_in_two_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [ledger(tmp_path / name, record("final", 0, flops=970 * STEP)) for name in ("a.jsonl", "b.jsonl")]
    assert cli.main(["check", *map(str, files)]) == 0
    assert "in several files: 'final' with seed 0 occurs 2 times for a machine" in capsys.readouterr().out


def test_a_run_under_two_names_is_named(tmp_path: Path) -> None:
    path = ledger(tmp_path / "a.jsonl", *(record(name, 0, flops=485 * STEP) for name in ("final@half", "final@5")))
    assert "'final@half and final@5' with seed 0 occurs 2 times" in check_file(path)[1][0]


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(ledger(tmp_path / "a.jsonl"))]) == 0
    assert "a.jsonl: no records" in capsys.readouterr().out


def test_the_recorded_runs_pass() -> None:
    paths = list((ROOT / "book" / "results").glob("*.jsonl"))
    assert paths
    for path in paths:
        assert check_file(path)[1] == [], path.name


TOMORROW = (datetime.now(timezone.utc) + timedelta(days=3)).isoformat()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"flops": STEP + 1}, "`flops` is not a whole number of the recipe's steps"),
        ({"scale": "huge"}, "there is no scale 'huge'"),
        ({"started": TOMORROW}, "started in the future"),
        ({"history": [{**record()["history"][0], "epoch": 4.0}]}, "does not end with its last epoch"),
        ({"history": [{**record()["history"][0], "test_accuracy": 0.51}]}, "its history ends with another accuracy"),
        ({"history": [{**record()["history"][0], "seconds": 5.0}]}, "its history ends with another training time"),
        ({"dataset": "cifar10", "accuracy": 0.94125}, "its accuracy is not a whole number out of 10,000 test images"),
        ({"dataset": "cifar10", "tta_accuracy": 0.94125}, "its accuracy with TTA is not a whole number out of 10,000"),
        ({"dataset": "../x"}, "line 1: not a record: dataset"),
        ({"accuracy": 94.1}, "line 1: not a record: accuracy"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, changes: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger(tmp_path / "runs.jsonl", {**record("final", flops=STEP), **changes})
    assert cli.main(["check", str(path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(str(path))
    assert says in said[0]
    assert said[1] == "cifar-fast: 1 thing to fix"


@settings(max_examples=30)
@given(st.sampled_from([*sorted(RECIPES), *sorted(MODERN)]), st.floats(0.1, 30), st.integers(1, 400))
def test_the_flops_of_any_honest_run_pass(name: str, epochs: float, per_epoch: int) -> None:
    recipe = with_epochs(get(name), epochs)
    flops = run_flops(recipe, 4, per_epoch)
    assert _whole(recipe, 4, flops)
    assert run_flops(recipe, 4, per_epoch + 1) >= flops  # what the search by halves rests on


def test_a_changed_recipe_and_a_repeated_run_are_named(tmp_path: Path) -> None:
    changed = replace(get("final"), cutout=5)
    own = replace(get("final"), name="mine", cutout=5)
    runs = [record(changed, flops=STEP), record(own, 1, flops=STEP), record("final", 2, flops=STEP)]
    _, wrong = check_file(ledger(tmp_path / "runs.jsonl", *runs, runs[2]))
    assert len(wrong) == 2
    assert "'final' with seed 2 occurs 2 times for a machine, float32" in wrong[0]
    assert "the package's recipe of that name has other fields" in wrong[1]


def test_what_train_writes_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(record("final", flops=STEP), indent=2))
    records, wrong = check_file(tmp_path / "a.json")
    assert (len(records), wrong) == (1, [])
    (tmp_path / "a.json").write_text(json.dumps({**record("final", flops=STEP), "seed": -1}, indent=2))
    records, (said,) = check_file(tmp_path / "a.json")
    assert records == []
    assert "a.json: not a record: seed: " in said
    (tmp_path / "a.json").write_text("[\n" * 100_000)
    (said,) = check_file(tmp_path / "a.json")[1]
    assert "a.json: not JSON" in said


def test_what_is_wrong_is_one_line_whatever_a_name_holds(tmp_path: Path) -> None:
    run = record()
    run["recipe"] = {**run["recipe"], "name": "a\n## x", "cutout": -1}
    (said,) = check_file(ledger(tmp_path / "a.jsonl", run))[1]
    assert "\n" not in said


def test_a_search_calls_its_tries_what_it_likes(tmp_path: Path) -> None:
    tried = replace(get("final"), cutout=5)
    run = record(tried, dataset="noise-validation", flops=STEP)
    assert check_file(ledger(tmp_path / "runs.jsonl", run))[1] == []


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["check", str(tmp_path / "none.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
