"""A training step with large pages asked for and without: `python benchmarks/large_pages.py`, on a CPU, Linux, glibc.

Milliseconds a step, medians, as JSON on stdout. What is asked of the system for a process holds to its end, so each way
has processes of its own, one after the other in turns, and in each the steps of all kinds; `ratio` is the median over
the pairs of processes of large over small pages, `ratios` all of them.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing as mp
import statistics
import time
from pathlib import Path
from unittest.mock import patch

from cifar_fast_utils import memory
from cifar_fast_utils.bench import a_step
from cifar_fast_utils.device import SCALES, choose_device, choose_precision
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here

STEPS = [
    ("final", "full", 32, 4),
    ("airbench94", "full", 32, 4),
    ("fast", "full", 16, 12),
    ("fast", "full", 24, 8),
    ("fast", "full", 32, 6),
    ("gpu_data", "small", 32, 8),
    ("final", "small", 32, 8),
    ("small_fast_60_ahead", "small", 20, 24),
]
PAIRS = 8


def steps(large: bool, precision: str) -> list[float]:
    """Milliseconds of each kind of step, in this process, which has such pages."""
    with contextlib.nullcontext() if large else patch.object(memory, "_ask_for_large_pages"):
        memory.keep_freed_memory()
    medians = []
    for name, scale, side, times in STEPS:
        step = a_step(get(name), precision, SCALES[scale].width, side=side)
        took = []
        for _ in range(times + 2):
            start = time.perf_counter()
            step()
            took.append(time.perf_counter() - start)
        medians.append(1000 * statistics.median(took[2:]))
    return medians


def main() -> None:
    """Measure both ways in turns, each in processes of its own."""
    on = choose_device("cpu")
    precision = choose_precision("auto", on)
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="utf-8").strip()
    about = {**here(on, precision), "system": pages}
    took: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(PAIRS):
        for large, lines in took.items():
            with mp.get_context("spawn").Pool(1) as pool:
                lines.append(pool.apply(steps, (large, precision)))
    found = []
    for (name, scale, side, _), small, large_pages in zip(
        STEPS, zip(*took[False], strict=True), zip(*took[True], strict=True), strict=True
    ):
        ratios = [round(after / before, 3) for before, after in zip(small, large_pages, strict=True)]
        found.append({
            "recipe": name, "scale": scale, "side": side,
            "small_pages": round(statistics.median(small), 1), "large_pages": round(statistics.median(large_pages), 1),
            "ratio": round(statistics.median(ratios), 3), "ratios": ratios,
        })  # fmt: skip
    print(json.dumps({**about, "milliseconds": found}, indent=1))


if __name__ == "__main__":
    main()
