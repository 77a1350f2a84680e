"""The trainings of airbench94 and fast in turns, a fiftieth at a time: `python benchmarks/turns.py DATA SEED ...`.

Where other users of a machine slow it down and let it go within minutes, whole trainings one after the other say little
of their ratio. Here each recipe has a process of its own, that waits while the other trains. Prints, as JSON, the
seconds on the train clock of `cifar_fast_utils.run` less the waiting, and of each turn all its seconds: the first holds
the loading and the warm-up as well, the last the final test.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from cifar_fast_utils import train
from cifar_fast_utils.data import load
from cifar_fast_utils.device import choose_device, choose_precision
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here

RECIPES = ("airbench94", "fast")
PARTS = 50


class Turns:
    """In the place of the progress bar, which is told of each step: after a fiftieth of them it waits for its turn."""

    def __init__(self, pipe: Connection, images: int) -> None:
        self.pipe, self.images = pipe, images
        self.done, self.parts, self.waited = 0, 1, 0.0

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def set_description(self, *_: object, **__: object) -> None:
        """Nothing to show."""

    def update(self, images: int) -> bool:
        """Let the other train if another fiftieth is done, but not at the end, which the clock must see first."""
        self.done += images
        if self.parts * self.images <= self.done * PARTS and self.done < self.images:
            self.parts += 1
            start = time.perf_counter()
            self.pipe.send(None)
            self.pipe.recv()
            self.waited += time.perf_counter() - start
        return False


def trained(name: str, seed: int, folder: str, precision: str, pipe: Connection) -> None:
    """Wait for the first turn, train in turns, and send what came of it."""
    turns: list[Turns] = []

    def turns_for(images: int, shown: bool) -> Turns:
        turns.append(Turns(pipe, images))
        return turns[0]

    train.progress_bar = turns_for
    pipe.recv()
    settings: dict[str, Any] = {"scale": "full", "device": "cpu", "precision": precision, "seed": seed}
    run = train.train(get(name), load(folder), **settings, test_each_epoch=False)
    seconds = run.seconds["train"] - turns[0].waited
    pipe.send({"seconds": round(seconds, 1), "tta_accuracy": run.tta_accuracy, "dataset": run.dataset})


def pair(seed: int, folder: str, precision: str) -> dict[str, dict[str, Any]]:
    """Train both, in turns; of each what `trained` sends, and the seconds of its turns."""
    context = mp.get_context("spawn")
    pipes: dict[str, Connection] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in RECIPES:
        pipes[name], end = context.Pipe()
        context.Process(target=trained, args=(name, seed, folder, precision, end), daemon=True).start()
        end.close()  # the child's: where it dies, reading from its pipe must fail and not wait
    parts: dict[str, list[float]] = {name: [] for name in RECIPES}
    while len(found) < len(RECIPES):
        for name in RECIPES:
            if name not in found:
                start = time.perf_counter()
                pipes[name].send(None)
                result = pipes[name].recv()
                parts[name].append(round(time.perf_counter() - start, 2))
                if result is not None:
                    found[name] = {**result, "turns": parts[name]}
    return found


def main() -> None:
    """Train a pair for each seed, and print them with their ratios."""
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/turns.py DATA SEED ...")
    folder, *seeds = sys.argv[1:]
    on = choose_device("cpu")
    precision = choose_precision("auto", on)  # once: each process by itself might choose another
    about = {**here(on, precision), "scale": "full"}
    pairs = {seed: pair(int(seed), folder, precision) for seed in seeds}
    ratios = [round(found["fast"]["seconds"] / found["airbench94"]["seconds"], 3) for found in pairs.values()]
    print(json.dumps({**about, "ratios": ratios, "median": statistics.median(ratios), "pairs": pairs}))


if __name__ == "__main__":
    main()
