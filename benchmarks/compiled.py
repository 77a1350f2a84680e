"""A training step as it is and with its network compiled: `python benchmarks/compiled.py`, on a CPU with a compiler.

Milliseconds a step, medians of 9 turns after one that does not count, the two in turns, as JSON on stdout; `ratio` is
the median over the turns of compiled over eager, `first_s` the seconds of the first compiled step, which compiles.
Images are not laid in rows (`rows.ConvInRows`) in either: the compiler cannot look into that.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import torch

from cifar_fast_utils import rows
from cifar_fast_utils.device import PRECISIONS, SCALES, choose_device, choose_precision, keep_freed_memory
from cifar_fast_utils.network import build_network
from cifar_fast_utils.optimiser import build_optimiser
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here
from cifar_fast_utils.step import training_step

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
    dtype = PRECISIONS[precision]
    lines = []
    for name, scale in STEPS:
        torch.compiler.reset()
        recipe = get(name)
        network = build_network(recipe, SCALES[scale].width, precision)
        optimiser = build_optimiser(network, recipe, 1.0, dtype)
        images = torch.randn(recipe.batch_size, 3, 32, 32).to(dtype).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (recipe.batch_size,))
        ways: dict[str, Any] = {"eager": network, "compiled": torch.compile(network)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, model in ways.items():
                start = time.perf_counter()
                training_step(model, optimiser, recipe, 0.0, 1.0, images, labels)
                seconds[way].append(time.perf_counter() - start)
        pairs = list(zip(*seconds.values(), strict=True))[1:]
        medians = {way: round(1000 * statistics.median(took[1:]), 1) for way, took in seconds.items()}
        ratio = round(statistics.median(after / before for before, after in pairs), 3)
        first = round(seconds["compiled"][0], 1)
        lines.append({"recipe": name, "scale": scale, **medians, "ratio": ratio, "first_s": first})
    print(json.dumps({**about, "milliseconds": lines}, indent=1))


if __name__ == "__main__":
    main()
