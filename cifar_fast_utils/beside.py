"""Your run against the book: a run of your own beside the recorded ones that it can be compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from .evidence import by_setting, of_device, rung
from .ledger import Record, setting_of
from .recipe import from_dict
from .run import in_threads
from .stats import Interval
from .tables import markdown, unless_nan


def beside(run: Record, records: Sequence[Record]) -> str:
    """A Markdown table: the run, then each recorded setting that has runs of the same recipe, images and scale.

    Each setting, a device with a precision, has a row of its own, and nothing is averaged across them. A row of the
    run's own device, precision and threads compares its seconds too. Where nothing is comparable, a line says so.
    """
    recipe, ours = from_dict(run["recipe"]), setting_of(run)
    like = [r for r in records if setting_of(r)[:3] == ours[:3]]
    found = {
        setting: rung(recipe, theirs, of_device(records, setting.device))
        for setting, theirs in by_setting(like).items()
    }
    points = 100 * (run["tta_accuracy"] if recipe.tta else run["accuracy"])
    of = f"`{recipe.name}` on {run['dataset']} at the {run['scale']} scale"
    lines = [["yours", where(run), "1", f"{points:.2f}", "", f"{run['seconds']['train']:.1f}", ""]]
    for book in found.values():
        if book:
            low, high = single_runs(book.interval)
            span = f"{low:.2f} to {high:.2f}" if math.isfinite(low) else ""
            said = ["within" if low <= points <= high else "below" if points < low else "above"] if span else []
            first = book.records[0]
            if setting_of(first) == ours and book.threads == run["threads"] and book.timed:
                said.append(f"{run['seconds']['train'] / book.seconds('train'):.2f} × the time")
            seconds = unless_nan(book.seconds("train"), ".1f")
            on = where({**first, "threads": book.threads})
            lines.append(["book", on, str(book.n), f"{book.interval.mean:.2f}", span, seconds, ", ".join(said)])
    if len(lines) == 1:
        return f"No recorded run is comparable with yours: the book holds none of {of}."
    head = ["run", "on", "n", "accuracy", "19 of 20 runs", "train s", "yours is"]
    return f"{of}, accuracy in percent{' with TTA' if recipe.tta else ''}:\n\n{markdown(head, lines)}"


def where(record: Record) -> str:
    """The machine that made a run."""
    threads = record["threads"]
    return f"{record['device']}, {record['precision']}, {in_threads(threads)}"


def single_runs(mean: Interval) -> tuple[float, float]:
    """Where 19 of 20 new single runs should lie, going by n recorded ones: Student's prediction interval."""
    if mean.n < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.975, mean.n - 1)) * mean.sd * math.sqrt(1 + 1 / mean.n)
    return mean.mean - half, mean.mean + half
