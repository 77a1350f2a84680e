import math

import numpy as np
import pytest
import scipy.stats
from records import record

from cifar_fast_utils.beside import beside, single_runs
from cifar_fast_utils.stats import interval

BOOK = [record("final", seed, 0.86 + 0.001 * seed) for seed in range(5)]  # with TTA 86.5 to 86.9


def test_a_run_stands_beside_the_books_on_the_same_machine() -> None:
    yours = record("final", 7, 0.863, seconds={"train": 5.0, "train_eval": 6.0, "cold": 7.0})
    said = beside(yours, BOOK)
    assert said.startswith("`final` on noise at the small scale, accuracy in percent with TTA:")
    head, _, mine, book = said.split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in mine.split("|")[2:6]] == ["a machine, float32, 2 threads", "1", "86.80", ""]
    assert [cell.strip() for cell in book.split("|")[3:5]] == ["5", "86.70"]
    assert "within, 0.50 × the time" in book
    assert "19 of 20 runs" in head


@pytest.mark.parametrize(("accuracy", "says"), [(0.9, "above"), (0.8, "below"), (0.862, "within")])
def test_another_machine_has_a_row_of_its_own_and_no_ratio(accuracy: float, says: str) -> None:
    yours = record("final", 0, accuracy, device="a T4", precision="float16")
    more = [{**one, "precision": "bfloat16"} for one in BOOK[:1]]
    said = beside(yours, BOOK + more).splitlines()[4:]
    assert [line.split("|")[2].strip() for line in said] == [
        "a T4, float16, 2 threads", "a machine, bfloat16, 2 threads", "a machine, float32, 2 threads",
    ]  # fmt: skip
    assert [line.split("|")[7].strip() for line in said] == ["", "", says]  # one run has no spread
    assert not any("×" in line for line in said)


@pytest.mark.parametrize("change", [{"scale": "full"}, {"dataset": "cifar10"}, {"dataset_digest": "4567"}])
def test_what_is_not_comparable_is_not_shown(change: dict[str, str]) -> None:
    said = beside({**record("final"), **change}, BOOK)
    assert said.startswith("No recorded run is comparable with yours")
    assert "86" not in said
    assert beside(record("final@2"), BOOK).startswith("No recorded run is comparable")


def test_19_of_20_new_runs_fall_within() -> None:
    draws = np.random.default_rng(0).normal(94, 0.15, (6_000, 6))
    inside = 0
    for *known, new in draws:
        low, high = single_runs(interval(known))
        inside += low <= new <= high
    assert inside / len(draws) == pytest.approx(0.95, abs=0.01)
    half = scipy.stats.t.ppf(0.975, 1) * math.sqrt(2) * math.sqrt(1.5)
    assert single_runs(interval([93.0, 95.0])) == pytest.approx((94 - half, 94 + half))


def test_a_single_run_of_the_same_machine_is_compared_by_its_time_alone() -> None:
    yours = record("final", 7, 0.863, seconds={"train": 5.0, "train_eval": 6.0, "cold": 7.0})
    assert beside(yours, BOOK[:1]).splitlines()[-1].split("|")[7].strip() == "0.50 × the time"


def test_a_run_of_another_setting_disturbs_the_books_as_much() -> None:
    crowd = [{**one, "dataset": "noise-validation", "seed": one["seed"] + 100} for one in BOOK]
    assert "×" in beside(record("final", 7, 0.863), BOOK)
    assert "×" not in beside(record("final", 7, 0.863), [*BOOK, *crowd])


def test_the_threads_shown_are_those_of_the_seconds_shown() -> None:
    one = [record("final", seed, 0.86, threads=1) for seed in range(2)]  # the first by seed
    two = [record("final", seed, 0.86) for seed in range(10, 15)]
    book = beside(record("final", 7, 0.863), one + two).splitlines()[-1]
    assert [cell.strip() for cell in book.split("|")[2:4]] == ["a machine, float32, 2 threads", "7"]
    assert "×" not in beside(record("final", 7, 0.863, threads=1), BOOK)
