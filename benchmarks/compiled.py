"""A training step as it is and with its network compiled: `python benchmarks/compiled.py`, on a CPU with a compiler.

Milliseconds a step, medians of 9 turns after one that does not count, the two in turns, as JSON on stdout; `ratio` is
the median over the turns of compiled over eager, `first_s` the seconds of the first compiled step, which compiles.
Images are not laid in rows (`rows.ConvInRows`) in either: the compiler cannot look into that.
"""

from __future__ import annotations

import json

import torch

from cifar_fast_utils import rows
from cifar_fast_utils.bench import a_step, compared, in_turns
from cifar_fast_utils.device import SCALES, choose_device, choose_precision, keep_freed_memory
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here

STEPS = [("airbench94", "small"), ("final", "small"), ("airbench94", "full"), ("final", "full")]
TURNS = 10


def main() -> None:
    """Measure both ways in turns for each kind of step."""
    keep_freed_memory()
    rows.TILE = 0
    torch._dynamo.config.recompile_limit = 100  # each layer of a network is another kind
    on = choose_device("cpu")
    precision = choose_precision("auto", on)
    about = here(on, precision)
    lines = []
    for name, scale in STEPS:
        torch.compiler.reset()
        recipe, width = get(name), SCALES[scale].width
        ways = {way: a_step(recipe, precision, width, compiled=way == "compiled") for way in ("eager", "compiled")}
        seconds = in_turns(ways, TURNS)
        first = round(seconds["compiled"][0], 1)
        lines.append({"recipe": name, "scale": scale, **compared(seconds), "first_s": first})
    print(json.dumps({**about, "milliseconds": lines}, indent=1))


if __name__ == "__main__":
    main()
