import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from cifar_fast_utils.stats import (
    Difference,
    difference,
    holm,
    interval,
    p_at_least,
    p_not_below,
    paired_difference,
    runs_needed,
    verdict,
)

# Two small samples, and what Welch's formulas give for them, worked out by hand.
NEW, OLD = [94.1, 94.3, 94.2, 94.4], [93.9, 94.0, 94.2]


def test_interval_by_the_textbook() -> None:
    found = interval(NEW)
    assert found.n == 4
    assert found.mean == pytest.approx(94.25)
    sd = math.sqrt((0.15**2 + 0.05**2 + 0.05**2 + 0.15**2) / 3)
    assert found.sd == pytest.approx(sd)
    half = 3.182446 * sd / 2  # Student's t for 3 degrees of freedom, from a table
    assert [found.low, found.high] == pytest.approx([94.25 - half, 94.25 + half], abs=1e-6)


def test_welch_by_the_textbook() -> None:
    found = difference(NEW, OLD)
    a, b = np.var(NEW, ddof=1) / 4, np.var(OLD, ddof=1) / 3
    freedom = (a + b) ** 2 / (a**2 / 3 + b**2 / 2)
    t = (np.mean(NEW) - np.mean(OLD)) / math.sqrt(a + b)
    assert found.mean == pytest.approx(np.mean(NEW) - np.mean(OLD))
    assert found.p == pytest.approx(2 * scipy.stats.t.cdf(-abs(t), freedom))
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(a + b)
    assert [found.low, found.high] == pytest.approx([found.mean - half, found.mean + half])
    assert found.n == 3
    assert found.sd == pytest.approx(math.sqrt((np.var(NEW, ddof=1) + np.var(OLD, ddof=1)) / 2))


@given(
    st.lists(st.floats(80, 95), min_size=2, max_size=6),
    st.lists(st.floats(80, 95), min_size=2, max_size=6),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.floats(-50, 50),
)
def test_units_do_not_matter(new: list[float], old: list[float], unit: float, shift: float) -> None:
    assume(min(np.std(new), np.std(old)) > 1e-3)
    found = difference(new, old)
    other = difference([unit * a + shift for a in new], [unit * a + shift for a in old])
    assert other.p == pytest.approx(found.p, abs=1e-6)
    for name in ("mean", "low", "high", "sd"):
        assert getattr(other, name) == pytest.approx(unit * getattr(found, name), abs=1e-6 * unit)
    back = difference(old, new)
    assert [back.mean, back.low, back.high, back.p] == pytest.approx([-found.mean, -found.high, -found.low, found.p])


def test_pairs_by_scipys_own_paired_test() -> None:
    new, old = [94.5, 94.7, 94.4, 94.9], [94.1, 94.2, 94.2, 94.3]
    found = paired_difference(new, old)
    test = scipy.stats.ttest_rel(new, old)
    assert found.p == pytest.approx(test.pvalue)
    assert found.low == pytest.approx(test.confidence_interval().low)
    assert found.sd == pytest.approx(np.std(np.subtract(new, old), ddof=1) / math.sqrt(2))
    with pytest.raises(ValueError, match="zip"):
        paired_difference(new, old[:3])


def test_at_least_is_one_sided() -> None:
    values = [94.02, 94.05, 93.99, 94.1, 94.04]
    assert p_at_least(values, 94.0) == pytest.approx(scipy.stats.ttest_1samp(values, 94.0).pvalue / 2)
    assert p_at_least(values, 94.1) > 0.9
    assert math.isnan(p_at_least([94.2], 94.0))
    assert [p_at_least([value] * 3, 94.0) for value in (94.1, 94.0)] == [0.0, 1.0]
    assert p_at_least([94.1, 94.1], 94.0) == 1  # a coincidence, and no proof that there is no spread


@given(*[st.lists(st.floats(93, 95), min_size=2, max_size=6, unique=True)] * 2, st.floats(0, 1))
def test_not_below_is_welchs_test_of_one_side(new: list[float], old: list[float], worth: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        one_side = scipy.stats.ttest_ind([x + worth for x in new], old, equal_var=False, alternative="greater")
    assert p_not_below(new, old, worth) == pytest.approx(one_side.pvalue, abs=1e-9)


def test_not_below_needs_two_values_on_a_side() -> None:
    assert math.isnan(p_not_below([94.0], OLD, 0.1))
    assert math.isnan(p_not_below(NEW, [94.0], 0.1))
    assert [p_not_below([94.0] * 3, [94.0] * 3, worth) for worth in (0.1, 0)] == [0.0, 0.5]
    assert p_not_below([94.0, 94.0], [94.0, 94.0], 0.1) == 0.5


def test_samples_too_small_or_without_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        interval([])
    with pytest.raises(ValueError, match="no values"):
        difference([1.0], [])
    alone = interval([94.0])
    assert (alone.mean, alone.low, alone.high) == (94.0, -math.inf, math.inf)
    assert math.isnan(alone.sd)
    assert difference([94.0], OLD).p == 1.0
    assert difference([94.0] * 3, [94.0] * 3) == Difference(0.0, 0.0, 0.0, 1.0, 3, 0.0)
    assert difference([94.5] * 3, [94.0] * 3).p == 0.0
    assert paired_difference([94.1, 94.4, 94.7], [93.8, 94.1, 94.4]).p == 0.0  # 0.3 each, but for rounding
    for two in (difference([94.5] * 2, [94.0] * 2), paired_difference([94.5, 94.75], [94.0, 94.25])):
        assert (two.mean, two.low, two.high, two.p) == (0.5, -math.inf, math.inf, 1.0)
        assert verdict(two, worth=0.2) == "too few runs (needs about 3)"


def test_holm_by_the_textbook() -> None:
    # Holm's steps for 0.01, 0.04, 0.03, 0.005: sorted × 4, 3, 2, 1, then never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_keeps_the_order_and_never_exceeds_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for k, before in enumerate(p):
        assert before <= adjusted[k] <= min(1.0, len(p) * before) + 1e-12
        assert all(adjusted[k] <= adjusted[j] for j in range(len(p)) if before < p[j])


def test_runs_needed_by_the_tables() -> None:
    # Cohen's tables for two samples, 5% two-sided, power 80%: d = 0.2, 0.5, 0.8, 1.0
    assert [runs_needed(d, 1.0) for d in (0.2, 0.5, 0.8, 1.0)] == [394, 64, 26, 17]
    assert runs_needed(0.1, 0.15) == runs_needed(1, 1.5) > runs_needed(0.2, 0.15)
    assert (runs_needed(1.0, 0.0), runs_needed(10.0, 0.1)) == (2, 2)
    # and for pairs, of which `sd` is that of the differences over √2: d = 0.2, 0.5, 0.8, 1.0
    assert [runs_needed(d, 0.5**0.5, paired=True) for d in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]
    assert runs_needed(1.0, 0.0, level=0.005, paired=True) > 2  # one degree of freedom
    assert runs_needed(0.5, 1.0, level=0.01) == 96
    with pytest.raises(ValueError, match="above 0"):
        runs_needed(0.0, 1.0)


@given(st.floats(1, 100), st.integers(2, 13), st.integers(1, 13))
def test_equal_values_differ_in_nothing(value: float, n: int, other: int) -> None:
    assert interval([value] * n).sd == 0
    same = difference([value] * n, [value] * other)
    assert same.mean == 0
    assert same.p == 1
    for against in ([value] * other, [value + 1] * other):  # whatever it says, it says it at once
        assert verdict(difference([value] * n, against), worth=0.2)


# Simulations of experiments whose truth is known, some thousand draws here and more in the soak; 95 % are to be 95 ± 1.
FEW = pytest.param(6000, 0.01, id="few")
MANY = pytest.param(30_000, 0.005, id="many", marks=pytest.mark.soak)


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
@pytest.mark.parametrize("n", [3, 8, 30])
def test_intervals_cover_the_true_mean_95_times_in_100(n: int, draws: int, off: float) -> None:
    found = [interval(list(row)) for row in np.random.default_rng(n).normal(94.0, 0.15, (draws, n))]
    assert sum(one.low <= 94.0 <= one.high for one in found) / len(found) == pytest.approx(0.95, abs=off)


@functools.cache
def experiments(shift: float, n: int, m: int, draws: int, spread: float = 1.0) -> list[Difference]:
    rng = np.random.default_rng(17 * n + m)
    new, old = rng.normal(94 + shift, 0.15, (draws, n)), rng.normal(94, 0.15 * spread, (draws, m))
    return [difference(list(a), list(b)) for a, b in zip(new, old, strict=True)]


def rate(found: list[Difference], holds: Callable[[Difference], bool]) -> float:
    return sum(holds(one) for one in found) / len(found)


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
@pytest.mark.parametrize(("n", "m", "spread"), [(8, 8, 1), (20, 8, 2)])
def test_differences_cover_and_verdicts_err_as_often_as_they_should(
    n: int, m: int, spread: float, draws: int, off: float
) -> None:
    found = experiments(0.0, n, m, draws, spread)
    assert rate(found, lambda d: d.low <= 0 <= d.high) == pytest.approx(0.95, abs=off)
    wrong = rate(found, lambda d: verdict(d, worth=0.1) in ("better", "worse"))
    assert wrong == pytest.approx(0.05, abs=off)


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
def test_pairs_cover_and_one_sided_tests_err_as_often_as_they_should(draws: int, off: float) -> None:
    rng = np.random.default_rng(5)
    seeds = rng.normal(94, 0.3, (draws, 8))  # what the two of a pair share
    pairs = [seeds + rng.normal(0, 0.05, seeds.shape) for _ in range(2)]
    found = [paired_difference(list(a), list(b)) for a, b in zip(*pairs, strict=True)]
    assert rate(found, lambda d: d.low <= 0 <= d.high) == pytest.approx(0.95, abs=off)
    ten, five = rng.normal(94, 0.15, (draws, 10)), rng.normal(94.1, 0.15, (draws, 5))
    reached = [p_not_below(list(a), list(b), 0.1) < 0.05 for a, b in zip(ten, five, strict=True)]
    assert np.mean(reached) == pytest.approx(0.05, abs=off)
    assert np.mean([p_at_least(list(a), 94) < 0.05 for a in ten]) == pytest.approx(0.05, abs=off)


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
def test_the_runs_said_to_be_needed_find_the_difference_8_times_in_10(draws: int, off: float) -> None:
    n = runs_needed(0.15, 0.15)
    found = experiments(0.15, n, n, draws)
    assert rate(found, lambda d: verdict(d, worth=0.15) == "better") == pytest.approx(0.8, abs=2 * off)


def test_the_runs_said_to_be_needed_are_enough_in_a_table_of_eleven() -> None:
    """Of which one is different; the correction asks more of it."""
    n, tests = runs_needed(0.15, 0.15, level=0.05 / 11), 11
    shown = 0
    others = experiments(0.0, n, n, 100 * (tests - 1))
    for k, one in enumerate(experiments(0.15, n, n, 100)):
        table = [one, *others[k * (tests - 1) : (k + 1) * (tests - 1)]]
        shown += verdict(one, worth=0.15, p=holm([d.p for d in table])[0], tests=tests) == "better"
    assert shown > 65  # of 100; as many as one comparison alone needs, 17, find it in 43


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
def test_a_difference_larger_than_the_bound_is_missed_1_time_in_20_at_most(draws: int, off: float) -> None:
    found = experiments(0.1, 40, 40, draws)

    def missed(d: Difference) -> bool:
        said = verdict(d, worth=0.2)
        return said.startswith("no difference larger than") and float(said.split()[4]) < 0.1

    assert rate(found, missed) <= 0.05


@pytest.mark.parametrize(("draws", "off"), [FEW, MANY])
def test_a_whole_table_errs_1_time_in_20(draws: int, off: float) -> None:
    tables = np.array([d.p for d in experiments(0.0, 8, 8, draws)]).reshape(-1, 10)
    plain = np.mean([min(row) < 0.05 for row in tables])
    corrected = np.mean([min(holm(list(row))) < 0.05 for row in tables])
    assert plain > 0.3
    assert corrected <= 0.05 + 2 * off


def found(mean: float, half: float, p: float, n: int = 8, sd: float = 0.15) -> Difference:
    return Difference(mean, mean - half, mean + half, p, n, sd)


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (found(0.3, 0.1, 0.001), "better"),
        (found(-0.3, 0.1, 0.001), "worse"),
        (found(0.05, 0.1, 0.3), "no difference larger than 0.15 points shown"),
        (found(-0.05, 0.12, 0.3), "no difference larger than 0.17 points shown"),
        (found(0.05, 0.0501, 0.3), "no difference larger than 0.11 points shown"),
        (found(0.0, 0.0, 1.0), "no difference larger than 0 points shown"),
        (found(0.05, 0.3, 0.6), "too few runs (needs about 10)"),
        (found(0.15, 0.16, 0.06, n=20), "too few runs (needs about 21)"),
        (found(0.3, math.inf, 1.0, n=1), "too few runs (needs about 10)"),
        (found(0.3, math.inf, 1.0, n=1, sd=math.nan), "too few runs (needs at least 2 to tell)"),
    ],
)
def test_verdicts_in_words(difference: Difference, says: str) -> None:
    assert verdict(difference, worth=0.2, unit=" points") == says


def test_a_tables_tests_ask_for_more_runs() -> None:
    few = found(0.05, 0.3, 0.6)
    assert [verdict(few, worth=0.2, tests=k) for k in (1, 11)] == [f"too few runs (needs about {n})" for n in (10, 18)]
    assert verdict(replace(few, paired=True), worth=0.2) == "too few runs (needs about 11)"


def test_a_correction_takes_a_verdict_back() -> None:
    assert verdict(found(0.1, 0.09, 0.03), worth=0.2) == "better"
    assert verdict(found(0.1, 0.09, 0.03), worth=0.2, p=0.3) == "no difference larger than 0.19 shown"
