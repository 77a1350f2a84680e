"""What the ledger says of a recipe in a setting, and of two recipes: which records count, and as what."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property

from .device import cores_of
from .ledger import Key, Record, Setting, key_of, setting_of
from .plan import is_search, untested
from .recipe import Recipe, from_dict
from .stats import Difference, Interval, difference, interval, paired_difference


def by_setting(records: Iterable[Record]) -> dict[Setting, list[Record]]:
    """The records of each setting, apart, the settings in order."""
    apart: dict[Setting, list[Record]] = {}
    for record in records:
        apart.setdefault(setting_of(record), []).append(record)
    return dict(sorted(apart.items()))


@dataclass(frozen=True)
class Rung:
    """A recipe with its runs in one setting, one for each seed."""

    recipe: Recipe
    records: tuple[Record, ...]
    timed: tuple[Record, ...]
    """Those of them whose seconds count: other runs left them the device, or the cores that their threads need."""

    @property
    def n(self) -> int:
        """How many runs."""
        return len(self.records)

    @cached_property
    def points(self) -> list[float]:
        """The accuracy of each run in points (percent), with TTA if the recipe tests with it."""
        key = "tta_accuracy" if self.recipe.tta else "accuracy"
        return [100 * record[key] for record in self.records]

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """The points of each seed's run."""
        return {record["seed"]: points for record, points in zip(self.records, self.points, strict=True)}

    @cached_property
    def plain_points(self) -> list[float]:
        """The same without TTA."""
        return [100 * record["accuracy"] for record in self.records]

    @cached_property
    def interval(self) -> Interval:
        """Mean accuracy in points with its 95% interval."""
        return interval(self.points)

    @cached_property
    def threads(self) -> int:
        """The number of threads that most of the timed runs had: the one whose seconds are given."""
        return Counter(int(record["threads"]) for record in self.timed or self.records).most_common(1)[0][0]

    def seconds(self, clock: str) -> float:
        """The median of a clock, over the timed runs with that many threads; nan if there are none.

        Of a run of another recipe that trains the same network and is tested with TTA too, only `train` counts.
        """
        seconds = [
            record["seconds"][clock]
            for record in self.timed
            if record["threads"] == self.threads
            and (clock == "train" or record["recipe"]["digest"] == self.recipe.digest)
        ]
        return float(statistics.median(seconds or [math.nan]))

    @property
    def flops(self) -> int:
        """Counted floating-point operations of one run."""
        return int(self.records[0]["flops"])


def settings(records: Sequence[Record]) -> Iterator[tuple[Setting, list[Record], list[Record]]]:
    """Each setting with its records, and all those made on its kind of device; no searches: they are no evidence."""
    for setting, theirs in by_setting(records).items():
        if not is_search(setting.dataset):
            yield setting, theirs, of_device(records, setting.device)


def of_device(records: Iterable[Record], device: str) -> list[Record]:
    """Those made on this kind of device: what may have gone on beside one of them."""
    return [record for record in records if record["device"] == device]


def how_many(rungs: Iterable[Rung]) -> str:
    """How many runs they have together, and on which day, or from which day to which."""
    records = {id(record): record for rung in rungs for record in rung.records}.values()
    days = sorted(record["started"][:10] for record in records)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{len(records)} run{'s' * (len(records) > 1)}, {when}"


def rung(recipe: Recipe, records: Sequence[Record], neighbours: Sequence[Record] | None = None) -> Rung | None:
    """The runs of a recipe among the records of one setting; None if there are none.

    The earliest record of each seed counts: a run repeated with the same seed is no new evidence. A recipe without TTA
    also has the runs that train the same network, whatever their TTA: they test it without as well. `neighbours`: all
    the records of that kind of device, of other settings too, whose runs may have disturbed these (default: `records`).
    """
    found: dict[int, Record] = {}
    trained = untested(recipe).digest
    for record in sorted(records, key=lambda record: _span(record)[0]):
        if record["recipe"]["digest"] == recipe.digest or (not recipe.tta and _trained(record) == trained):
            found.setdefault(record["seed"], record)
    ours = tuple(found[seed] for seed in sorted(found))
    beside = {identity(one) for one in (records if neighbours is None else neighbours)}
    return Rung(recipe, ours, tuple(record for record in ours if not crowded(record, beside))) if found else None


_TRAINED: dict[str, str] = {}


def _trained(record: Record) -> str:
    """The digest of its recipe without TTA; computed once for each recipe."""
    digest = record["recipe"]["digest"]
    if digest not in _TRAINED:
        _TRAINED[digest] = untested(from_dict(record["recipe"])).digest
    return _TRAINED[digest]


def crowded(record: Record, runs: set[tuple[float, float, int, Key]]) -> bool:
    """Whether the run got less of its device than it asked for, because others ran beside it.

    `runs`: each one's `identity`. A GPU has room for one run; a CPU, whose name says so, for as many threads as it has
    cores. Runs that overlap by less than a second do not count: a record gives its start in whole seconds.
    """
    start, end = _span(record)
    others = runs - {identity(record)}
    beside = [(max(start, a), b, threads) for a, b, threads, *_ in others if min(end, b) - max(start, a) >= 1]
    at_once = [record["threads"] + sum(threads for a, b, threads in beside if a <= now < b) for now, _, _ in beside]
    cores = cores_of(record["device"])
    return bool(beside) and (cores is None or max(at_once) > cores)


def _span(record: Record) -> tuple[float, float]:
    """When the run began and when it ended, in seconds since 1970."""
    start = _timestamp(record["started"])
    return start, start + record["seconds"]["cold"]


def identity(record: Record) -> tuple[float, float, int, Key]:
    """What no two runs have in common: when it ran, on how many threads, and its key."""
    return (*_span(record), record["threads"], key_of(record))


@cache
def _timestamp(started: str) -> float:
    return datetime.fromisoformat(started).timestamp()


def rungs(records: Sequence[Record], neighbours: Sequence[Record] | None = None) -> list[Rung]:
    """Every recipe that the records of one setting hold, with its runs; order and name are those of its first record.

    `neighbours` as in `rung`.
    """
    recipes: dict[str, Recipe] = {}
    for record in records:
        recipes.setdefault(record["recipe"]["digest"], from_dict(record["recipe"]))
    return [found for recipe in recipes.values() if (found := rung(recipe, records, neighbours)) is not None]


def compare(new: Rung, old: Rung) -> Difference:
    """The difference of two rungs in points: Welch's, or seed by seed where both train the same network.

    Seed by seed only where that uses all the runs of one of them.
    """
    shared = sorted(new.by_seed.keys() & old.by_seed.keys())
    if len(shared) == min(new.n, old.n) and untested(new.recipe).digest == untested(old.recipe).digest:
        return paired_difference(*([rung.by_seed[seed] for seed in shared] for rung in (new, old)))
    return difference(new.points, old.points)


def same_on_shared_seeds(new: Rung, old: Rung) -> int:
    """On how many seeds both have the same accuracy to the last image; 0 if they differ on any they share."""
    shared = new.by_seed.keys() & old.by_seed.keys()
    return len(shared) if all(new.by_seed[seed] == old.by_seed[seed] for seed in shared) else 0
