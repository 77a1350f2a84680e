import math
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import DAY, record

from cifar_fast_utils import evidence
from cifar_fast_utils.beside import beside
from cifar_fast_utils.evidence import rung
from cifar_fast_utils.ledger import Record, setting_of
from cifar_fast_utils.lengths import lengths
from cifar_fast_utils.plan import Plan
from cifar_fast_utils.plots import evidence_figures
from cifar_fast_utils.recipe import get, with_epochs
from cifar_fast_utils.report import caption, cells
from cifar_fast_utils.verdicts import plan_tables

GPU, CPU = "a T4", "a machine, 2 cores"


def runs(*starts: float, device: str = GPU, threads: Sequence[int] = (1,), train: float = 10.0) -> list[Record]:
    """Runs that start so many seconds into the day; each takes two seconds more than its training."""
    seconds = {"train": train, "train_eval": train + 1, "cold": train + 2}
    return [
        record("final", seed, 0.8, device=device, threads=threads[seed % len(threads)], seconds=seconds,
               started=(DAY + timedelta(seconds=start)).isoformat())
        for seed, start in enumerate(starts)
    ]  # fmt: skip


def crowded(run: Record, others: Sequence[Record]) -> bool:
    return evidence.crowded(run, {evidence.identity(one) for one in others})


def test_a_run_that_shares_its_gpu_is_crowded_and_one_that_follows_is_not() -> None:
    alone, first, second = runs(0, 100, 105)
    assert [crowded(one, [alone, first, second]) for one in (alone, first, second)] == [False, True, True]
    one_after_the_other = runs(0, 12, 23.5)  # starts are given in whole seconds: half a second is no overlap
    assert not any(crowded(one, one_after_the_other) for one in one_after_the_other)


@pytest.mark.parametrize(
    ("starts", "threads", "crowd"),
    [
        ((0, 1), (1,), [False, False]),
        ((0, 1), (2, 1), [True, True]),
        ((0, 1, 2), (1,), [True, True, True]),
        ((0, 5, 17), (1,), [False, False, False]),  # three, but never more than two at once
    ],
)
def test_on_a_cpu_it_takes_more_threads_than_cores(
    starts: Sequence[float], threads: Sequence[int], crowd: list[bool]
) -> None:
    made = runs(*starts, device=CPU, threads=threads)
    assert [crowded(one, made) for one in made] == crowd


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_on_a_gpu_crowds_have_two_members_and_do_not_depend_on_the_order(starts: list[int]) -> None:
    made = runs(*starts)
    found = [crowded(one, made) for one in made]
    assert sum(found) != 1
    assert found == [crowded(one, made[::-1]) for one in made]
    assert found == [any(k != j and abs(a - b) <= 11 for k, b in enumerate(starts)) for j, a in enumerate(starts)]


def test_a_run_in_two_files_is_one() -> None:
    first, second = runs(0, 5, device=CPU, threads=(1,))
    (again,) = runs(0, device=CPU)
    assert not any(crowded(one, [first, second, again]) for one in (first, second, again))  # two threads, not three
    assert not crowded(runs(0)[0], runs(0))
    assert crowded(runs(0)[0], runs(0, 5))


def test_the_seconds_are_those_of_the_runs_that_were_alone() -> None:
    made = runs(0, 100, 105) + runs(300, train=30)
    made[-1]["seed"] = 9
    found = rung(get("final"), made)
    assert found is not None
    assert (found.n, len(found.timed), found.seconds("train")) == (4, 2, 20)


def test_a_run_of_another_setting_disturbs_as_much() -> None:
    made = runs(0, 100)
    of_another = record("celu", 0, dataset="noise-validation", device=GPU, started=made[0]["started"])
    plan = Plan(question="Which?", dataset="noise", scale="small", seeds=2, rungs=["final"])
    for records, timed in (([*made], 2), ([*made, of_another], 1)):
        ((_, table),) = plan_tables(plan, records)
        assert [len(row.rung.timed) for row in table if row.rung] == [timed]


def test_without_such_a_run_no_seconds_are_shown_anywhere() -> None:
    made = runs(0, 0, 0)
    found = rung(get("final"), made)
    assert found is not None
    assert math.isnan(found.seconds("train"))
    assert (cells(found)[7:10], cells(found)[2]) == (["", "", ""], "3")
    assert caption(setting_of(made[0]), [found]).endswith(
        "(1 CPU thread, blank where recorded runs on this kind of device overlapped or were made for another plan)."
    )
    assert "blank" not in caption(setting_of(made[0]), [rung(get("final"), made[:1]) or found])
    assert [name for name in evidence_figures(made) if name.endswith("seconds")] == []
    assert [cell.strip() for cell in beside(made[0], made).splitlines()[-1].split("|")[6:8]] == ["", "within"]
    longer = with_epochs(get("final"), 20)
    crowd = [*made, record(longer, 0, 0.9, device=GPU, started=DAY.isoformat())]
    cell = lengths(crowd, 0.85)[1].splitlines()[-1].split("|")
    assert (cell[3].strip(), cell[5].strip(), cell[6].strip()) == ("3, 1", "", "1e-09")
