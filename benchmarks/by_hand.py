"""Two changes of the minute's recipe that no recipe has a field for: `python benchmarks/by_hand.py DATA SEED ...`.

- fewer channels early on: while the images have 16 pixels every block has half of its channels. Then the network
  becomes as wide as the recipe has it, and answers at first as before: the old filters do not look at the new channels
  yet. The optimiser and Lookahead start anew.
- one sign: in place of their negatives the whitening has its eigenpatches twice, so that of each one side alone passes
  the GELU, in as many channels.

Images set aside from training, at the small scale, on a CPU; JSON on stdout, a line for each training on stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from tqdm import tqdm

from cifar_fast_utils.data import Dataset, load
from cifar_fast_utils.device import (
    PRECISIONS,
    SCALES,
    choose_device,
    choose_precision,
    keep_freed_memory,
)
from cifar_fast_utils.evaluate import accuracy_of
from cifar_fast_utils.experiment import validation
from cifar_fast_utils.lean import LeanNet
from cifar_fast_utils.loop import Training
from cifar_fast_utils.network import count_flops, stages
from cifar_fast_utils.optimiser import Lookahead
from cifar_fast_utils.recipe import get
from cifar_fast_utils.record import here
from cifar_fast_utils.train import answering

RECIPE = get("small_fast_60_ahead")
WIDTH = SCALES["small"].width
NARROW = replace(RECIPE, widths=tuple(width // 2 for width in RECIPE.widths))
UNTIL = 2
"""Epochs with half of the channels: those at 16 pixels."""
CPU = torch.device("cpu")


def widen(narrow: LeanNet, wide: LeanNet) -> None:
    """Copy a trained network into the first channels of a fresh, wider one, which then answers as it does.

    Each tensor's leading part becomes the narrow one's. The rest of these filters, over the new channels, becomes zero,
    that of the linear layer too; the new filters keep their initialisation.
    """
    fresh = wide.state_dict()
    for name, old in narrow.state_dict().items():
        new = fresh[name]
        if new.dim() > 1:
            new[: len(old), old.shape[1] :] = 0
        new[tuple(slice(n) for n in old.shape)] = old


def train_on(training: Training, until: int) -> None:
    """Train pass by pass, up to the step `until`."""
    with tqdm(disable=True) as bar:
        while training.step < until:
            training.one_pass(bar)
    training.check_finite()


def as_it_is(data: Dataset, precision: str, seed: int) -> Training:
    """The recipe, for comparison."""
    training = Training(RECIPE, data, WIDTH, precision, seed, CPU)
    train_on(training, training.steps)
    return training


def one_sign(data: Dataset, precision: str, seed: int) -> Training:
    """The recipe with each eigenpatch twice. (Zeros in their place would be divided by their spread, which is none.)"""
    training = Training(RECIPE, data, WIDTH, precision, seed, CPU)
    assert isinstance(training.network, LeanNet)
    filters = training.network.whiten.weight
    filters.data[len(filters) // 2 :] *= -1
    training.lookahead = Lookahead(training.network)  # the one that is there would turn them back
    train_on(training, training.steps)
    return training


def fewer_channels(data: Dataset, precision: str, seed: int) -> Training:
    """The recipe, whose network has half of its channels for `UNTIL` epochs."""
    early = Training(NARROW, data, WIDTH, precision, seed, CPU)
    train_on(early, UNTIL * early.steps_per_epoch)
    late = Training(RECIPE, data, WIDTH, precision, seed, CPU)
    assert isinstance(early.network, LeanNet)
    assert isinstance(late.network, LeanNet)
    widen(early.network, late.network)
    late.step, late.last_seen = early.step, early.last_seen
    late.lookahead = Lookahead(late.network)
    train_on(late, late.steps)
    return late


WAYS: dict[str, Callable[[Dataset, str, int], Training]] = {
    "as_it_is": as_it_is,
    "fewer_channels": fewer_channels,
    "one_sign": one_sign,
}


def flops(way: str, steps_per_epoch: int) -> int:
    """Of a whole training, counted as `run_flops` does."""
    kinds = stages(RECIPE, steps_per_epoch)
    early = NARROW if way == "fewer_channels" else RECIPE
    assert kinds[0] == (16, 0, UNTIL * steps_per_epoch)
    return sum(
        steps * count_flops(early if side == 16 else RECIPE, WIDTH, side, frozen) for side, frozen, steps in kinds
    )


def main() -> None:
    """Train each way once for each seed, in turns, and print the accuracies on the images set aside."""
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/by_hand.py DATA SEED ...")
    folder, *seeds = sys.argv[1:]
    keep_freed_memory()
    precision = choose_precision("auto", choose_device("cpu"))
    data = validation(load(folder))
    about = {**here(CPU, precision), "scale": "small", "dataset": data.name, "recipe": RECIPE.name}
    test = answering(RECIPE, data.test_images, PRECISIONS[precision])
    runs = []
    for seed in seeds:
        for way, trained in WAYS.items():
            training = trained(data, precision, int(seed))
            plain, tta = test(training.tested, tta=True)
            assert tta is not None
            runs.append({
                "way": way, "seed": int(seed), "accuracy": accuracy_of(plain, data.test_labels),
                "tta_accuracy": accuracy_of(tta, data.test_labels),
                "flops": flops(way, training.steps_per_epoch),
            })  # fmt: skip
            print(runs[-1], file=sys.stderr)
    print(json.dumps({**about, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
