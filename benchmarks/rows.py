"""A training step on two cores, its images one by one and in rows: `python benchmarks/rows.py`, on a CPU with tiles.

Milliseconds a step, medians of 15 turns after one that does not count, the two in turns, as JSON on stdout; `ratio` is
the median over the turns of the second of a pair over the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from cifar_fast_utils import rows
from cifar_fast_utils.bench import a_step, compared, in_turns
from cifar_fast_utils.device import SCALES, choose_device, choose_precision, keep_freed_memory
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here

STEPS = [
    ("final", "full", 32),
    ("airbench94", "full", 32),
    ("fast", "full", 16),
    ("fast", "full", 24),
    ("fast", "full", 32),
    ("final", "small", 32),
    ("small_fast_60_ahead", "small", 16),
    ("small_fast_60_ahead", "small", 20),
    ("small_fast_60_ahead", "small", 24),
]
TURNS = 16
WAYS = {"one_by_one": 0, "in_rows": rows.TILE}


def with_tile(tile: int, step: Callable[[], object]) -> None:
    """A step whose images fill tiles of so many rows; 0: one by one."""
    rows.TILE = tile
    step()


def main() -> None:
    """Measure both ways in turns for each kind of step."""
    keep_freed_memory()
    on = choose_device("cpu")
    precision = choose_precision("auto", on)
    about = {**here(on, precision), "tiles": rows.has_tiles()}
    lines = []
    for name, scale, side in STEPS:
        step = a_step(get(name), precision, SCALES[scale].width, side=side)
        seconds = in_turns({way: partial(with_tile, tile, step) for way, tile in WAYS.items()}, TURNS)
        lines.append({"recipe": name, "scale": scale, "side": side, **compared(seconds)})
    print(json.dumps({**about, "milliseconds": lines}, indent=1))


if __name__ == "__main__":
    main()
