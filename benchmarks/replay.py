"""A training step on a GPU, launched kernel by kernel and replayed from its graph: `python benchmarks/replay.py`.

Milliseconds a step, medians of 11 turns of 5 steps each after 3 that do not count, as JSON on stdout.
`h200_replay.json` was measured by this loop at its commit, before the loop had a file of its own.
"""

from __future__ import annotations

import json
import statistics
import time

import torch

from cifar_fast_utils.device import PRECISIONS, SCALES, choose_device, choose_precision
from cifar_fast_utils.network import build_network
from cifar_fast_utils.optimiser import build_optimiser
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here
from cifar_fast_utils.step import replay_of, training_step

STEPS = [
    ("pool_before_act", "full", 32),
    ("ghost_norm", "full", 32),
    ("final", "full", 32),
    ("airbench94", "full", 32),
    ("muon", "full", 32),
    ("fast", "full", 16),
    ("fast", "full", 24),
    ("fast", "full", 32),
    ("final", "small", 32),
]
TURNS, UNCOUNTED, A_TURN = 14, 3, 5


def main() -> None:
    """Measure both ways, one after the other, for each kind of step."""
    on = choose_device("cuda")
    precision = choose_precision("auto", on)
    about = here(on, precision)
    rows = []
    for name, scale, side in STEPS:
        recipe = get(name)
        network = build_network(recipe, SCALES[scale].width, precision).to(on)
        optimiser = build_optimiser(network, recipe, 1.0, PRECISIONS[precision])
        images = torch.randn(recipe.batch_size, 3, side, side, device=on).to(PRECISIONS[precision])
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (recipe.batch_size,), device=on)
        row: dict[str, object] = {"recipe": name, "scale": scale, "side": side}
        for how, replay in (("launched", None), ("replayed", replay_of(network, optimiser, recipe, 1.0))):
            seconds = []
            for _ in range(TURNS):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(A_TURN):
                    training_step(network, optimiser, recipe, 1e-3, 1.0, images, labels, replay)
                torch.cuda.synchronize()
                seconds.append((time.perf_counter() - start) / A_TURN)
            row[how] = round(1000 * statistics.median(seconds[UNCOUNTED:]), 5)
        rows.append(row)
    print(json.dumps({**about, "milliseconds": rows}, indent=1))


if __name__ == "__main__":
    main()
