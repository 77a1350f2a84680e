"""Honest statistics of small samples: intervals, tests, and verdicts in words.

All values are in the unit they come in; the report gives accuracies in points (percent). Samples are taken as normal,
which test accuracies of many seeds are to a good approximation. Welch's test: B. L. Welch, Biometrika 34, 1947.
Holm's correction: S. Holm, Scand. J. Statist. 6, 1979.

Notebooks 00 and 12.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

LEVEL = 0.05
"""How often a verdict *better* or *worse* may be wrong where there is no difference."""
POWER = 0.8
"""How often a difference of the size looked for should be found."""
UNTOLD = (-math.inf, math.inf, 1.0)
"""The interval and the p where the values tell nothing."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval (Student's t); the bounds are infinite for n = 1."""

    n: int
    mean: float
    sd: float
    """Standard deviation of single values (n − 1 in its denominator); NaN for n = 1."""
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Mean, standard deviation and 95% interval of the mean. Raises `ValueError` if there are no values."""
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = float(statistics.mean(values))  # exact, as the variances are: equal values have equal means
    if n == 1:
        return Interval(1, mean, math.nan, -math.inf, math.inf)
    sd = float(statistics.stdev(values))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class Difference:
    """Mean of the new minus mean of the old: 95% interval, two-sided p, and the spread of single runs."""

    mean: float
    low: float
    high: float
    p: float
    n: int
    """Of the smaller side."""
    sd: float
    """Of a single value: the root of the mean of both sides' variances; NaN where neither has two values."""
    paired: bool = False
    """From pairs of values, not from two independent samples."""


def difference(new: Sequence[float], old: Sequence[float]) -> Difference:
    """Compare two independent samples by Welch's test.

    With fewer than two values on a side, or two on the smaller and no spread on either, p is 1 and the interval
    infinite. Raises `ValueError` if a side is empty.
    """
    mean = interval(new).mean - interval(old).mean
    n = min(len(new), len(old))
    spreads = [float(statistics.variance(side)) for side in (new, old) if len(side) > 1]
    sd = math.sqrt(math.fsum(spreads) / len(spreads)) if spreads else math.nan
    if n < 2:
        return Difference(mean, *UNTOLD, n, sd)
    if sd == 0:  # the test would divide by it; two equal values are a coincidence, and no spread
        return Difference(mean, mean, mean, float(mean == 0), n, sd) if n > 2 else Difference(mean, *UNTOLD, n, sd)
    with warnings.catch_warnings():  # one side may hold the same value twice: Welch's test does not mind
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = stats.ttest_ind(new, old, equal_var=False)
    bounds = test.confidence_interval(1 - LEVEL)
    return Difference(mean, float(bounds.low), float(bounds.high), float(test.pvalue), n, sd)


def paired_difference(new: Sequence[float], old: Sequence[float]) -> Difference:
    """Compare two values of each run, its accuracy with TTA and without, say: a t-test of their differences.

    Its `sd` is that of the differences over √2: what two independent samples would have for such differences.
    Raises `ValueError` if the samples differ in length or are empty.
    """
    differences = [round(a - b, 9) for a, b in zip(new, old, strict=True)]  # equal ones come out equal
    d = interval(differences)
    if d.n < 2 or (d.n == 2 and d.sd == 0):
        return Difference(d.mean, *UNTOLD, d.n, d.sd, paired=True)
    if d.sd == 0:
        return Difference(d.mean, d.mean, d.mean, float(d.mean == 0), d.n, 0.0, paired=True)
    p = float(stats.ttest_1samp(differences, 0).pvalue)
    return Difference(d.mean, d.low, d.high, p, d.n, d.sd / math.sqrt(2), paired=True)


def p_at_least(values: Sequence[float], target: float) -> float:
    """One-sided p of "the mean is at least the target": small where the values speak for it.

    The chance of a sample mean this high if the true mean were just the target. NaN below two values.
    """
    if len(values) < 2:
        return math.nan
    if min(values) == max(values):  # two equal values are a coincidence, and no spread
        return float(values[0] <= target or len(values) == 2)
    return float(stats.ttest_1samp(values, target, alternative="greater").pvalue)


def p_not_below(new: Sequence[float], old: Sequence[float], worth: float) -> float:
    """One-sided p of "the mean of `new` is above that of `old` less `worth`", by Welch's test: small where it is.

    The chance of a difference this high if `new` were below by just `worth`. NaN below two values on a side.
    """
    if min(len(new), len(old)) < 2:
        return math.nan
    found = difference([value + worth for value in new], old)
    return found.p / 2 if found.mean > 0 else 1 - found.p / 2


def runs_needed(size: float, sd: float, level: float = LEVEL, paired: bool = False) -> int:
    """How many runs on each side show a difference of this size, two-sided at this level, 4 times in 5.

    Both sides spread alike; `paired`: the test is of pairs, and `sd` is that of their differences over √2. The power is
    that of the t-test, by the noncentral t. Raises `ValueError` if `size` ≤ 0.
    """
    if size <= 0:
        raise ValueError(f"a difference to look for must be above 0, not {size}")

    def reaches(n: int) -> bool:
        freedom, shift = (n - 1) * (1 if paired else 2), size / sd * math.sqrt(n / 2)
        edge = stats.t.ppf(1 - level / 2, freedom)
        return bool(stats.nct.sf(edge, freedom, shift) + stats.nct.cdf(-edge, freedom, shift) >= POWER)

    sd = max(sd, size / 30)  # where there is next to no spread the noncentral t fails
    z = float(stats.norm.ppf(1 - level / 2) + stats.norm.ppf(POWER))
    n = max(2, math.floor(2 * (z * sd / size) ** 2))  # the normal's answer is never too large, and off by a few
    while not reaches(n):
        n += 1
    return n


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p: rejecting those below 5% errs anywhere in the table at most 5% of the time.

    NaN stands for no test: it stays, and counts as none.
    """
    order = sorted((k for k in range(len(p)) if not math.isnan(p[k])), key=lambda k: p[k])
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[k]))
        adjusted[k] = highest
    return adjusted


def verdict(found: Difference, *, worth: float, p: float | None = None, tests: int = 1, unit: str = "") -> str:
    """*better*, *worse*, *no difference larger than x shown* or *too few runs (needs about n)*.

    `worth` is the smallest difference that matters. Where the test does not tell the two apart and the 95% interval
    leaves room for a difference that matters, the runs were too few: about n on each side would find one of that size.
    `p` is the test's after a correction for the other tests of its table (its own if not given), which are `tests` in
    all: n allows for the most that Holm's correction may ask of one.
    """
    if (found.p if p is None else p) < LEVEL:
        return "better" if found.mean > 0 else "worse"
    largest = max(abs(found.low), abs(found.high))
    if largest <= worth:
        return f"no difference larger than {_up(largest):.2g}{unit} shown"
    if math.isnan(found.sd):
        return "too few runs (needs at least 2 to tell)"
    n = runs_needed(worth, found.sd, level=LEVEL / tests, paired=found.paired)
    return f"too few runs (needs about {max(n, found.n + 1)})"


def _up(bound: float) -> float:
    """A bound to two digits, rounded so that it is still a bound."""
    if bound == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return math.ceil(bound / unit - 1e-9) * unit
