"""What the shell understands, and what `--help` says."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import __version__

DESCRIPTION = """\
Train a small ResNet on CIFAR-10 fast, one trick at a time: a runnable edition of
David Page's "How to Train Your ResNet 8: Bag of Tricks".
"""

EXAMPLES = """\
examples:
  cifar-fast train                      the article's final recipe, at the scale that fits this machine
  cifar-fast train celu --epochs 5      another rung, shorter
  cifar-fast train --save final.safetensors
  cifar-fast predict final.safetensors cat.jpg
  cifar-fast recipes --diff celu ghost_norm

data:
  --data, or the environment variable CIFAR_FAST_DATA, says where the images come from: `cifar10` downloads
  CIFAR-10, `synthetic` is made here, a FOLDER holds parquet files as the Hugging Face hub serves them or
  torchvision's cifar-10-batches-py; `auto` takes CIFAR-10 if it is already here, else downloads it, else `synthetic`.
  Decoded images are kept in the folder that CIFAR_FAST_CACHE names (~/.cache/cifar-fast).
  CIFAR_FAST_DEVICE sets what --device auto means, for instance on a machine whose GPU should not be used;
  CIFAR_FAST_PRECISION sets what --precision auto means.

exit codes: 0 done, 2 something to fix (one line says what), 130 stopped by Ctrl-C.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage that argparse puts before it."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _whole(low: int, high: float, said: str) -> Callable[[str], int]:
    """A type of argument: whole numbers from `low` to `high`, which `said` says in words."""

    def read(text: str) -> int:
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number {said}, not {text}")

    return read


_positive = _whole(1, math.inf, "of at least 1")
_repeats = _whole(5, math.inf, "of at least 5")
_threads = _whole(1, 4096, "from 1 to 4096")
_seed = _whole(0, 2**32 - 1, "from 0 to 2^32 - 1")


def _where(command: argparse.ArgumentParser) -> None:
    """The options of every command that trains: on which data, and where."""
    command.add_argument("--data", default="auto", help="auto, cifar10, synthetic or a FOLDER (%(default)s)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    command.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16 (%(default)s: the "
                         "fastest that the device really has)")  # fmt: skip
    command.add_argument("--threads", type=_threads, help="CPU threads (as many as PyTorch chooses)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    plain = argparse.RawDescriptionHelpFormatter
    top = _Parser("cifar-fast", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=plain)
    top.add_argument("--version", action="version", version=f"cifar-fast {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    train = commands.add_parser("train", help="train a network by a recipe, test it, print the table", epilog=EXAMPLES,
                                formatter_class=plain)  # fmt: skip
    train.add_argument("recipe", nargs="?", default="final", help="a name from `cifar-fast recipes` (%(default)s)")
    train.add_argument("--scale", default="auto", help="full: the article's network; small: a quarter of its width; "
                       "smoke: seconds, to try things; auto: full on a GPU, else small")  # fmt: skip
    train.add_argument("--epochs", type=float, help="another length; the schedule stretches with it")
    train.add_argument("--batch-size", type=int, help="another batch size")
    train.add_argument("--seed", type=_seed, default=0, help="the seed of everything random (%(default)s)")
    train.add_argument("--test-at-end", action="store_true", help="test only at the end, not after every epoch")
    train.add_argument("--json", type=Path, metavar="FILE", help="write the run's record")
    train.add_argument("--ledger", type=Path, metavar="FILE", help="add the run's record to a ledger (.jsonl), which "
                       "`cifar-fast report` reads")  # fmt: skip
    train.add_argument("--save", type=Path, metavar="FILE", help="write the weights, as safetensors")
    train.add_argument("--plot", type=Path, metavar="FILE", help="draw accuracy and rate by epoch (png, svg or pdf)")
    _where(train)

    predict = commands.add_parser("predict", help="name what trained weights see in pictures")
    predict.add_argument("weights", type=Path, help="what `train --save` wrote")
    predict.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE", help="pictures of any size and format")

    recipes = commands.add_parser("recipes", help="list the recipes, or show what differs between two")
    recipes.add_argument("--diff", nargs=2, metavar=("OLD", "NEW"), help="the fields that changed")
    recipes.add_argument("--json", action="store_true", help="print the list with every field, as JSON")

    record = commands.add_parser("record", help="make the runs that a plan asks for and the ledger lacks")
    record.add_argument("plan", type=Path, metavar="PLAN.toml", help="rungs, seeds, dataset, scale and comparison")
    record.add_argument("--ledger", type=Path, metavar="FILE", help="where to add the runs (the plan's name, .jsonl); "
                        "runs that other .jsonl files in its folder hold are not repeated")  # fmt: skip
    record.add_argument("--engine", choices=["here", "ray"], default="here", help="ray: spread the runs over a Ray "
                        "cluster, or this machine's cores, one thread each by default (%(default)s)")  # fmt: skip
    record.add_argument("--list", action="store_true", help="print the runs still to be made, and make none")
    _where(record)

    report = commands.add_parser("report", help="what the recorded runs show: tables, verdicts, plots")
    report.add_argument("folder", type=Path, nargs="?", help="where plans and ledgers are (the book's)")
    report.add_argument("--target", type=float, default=0.94, help="give the time to this accuracy (%(default)s)")
    report.add_argument("--out", type=Path, metavar="FILE", help="write the report there instead")
    report.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots there, as svg")

    check = commands.add_parser("check", help="validate recorded runs before they are shared")
    check.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="ledgers (.jsonl), or what `train --json` wrote"
    )

    shares = commands.add_parser("shares", help="measure where the time of each rung's training goes")
    shares.add_argument("--scale", default="auto", help="full, small or smoke (%(default)s)")
    shares.add_argument("--steps", type=_positive, default=10, help="steps timed per rung, medians taken (%(default)s)")
    shares.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    _where(shares)

    commands.add_parser("info", help="what this machine is and has, and what `auto` would choose")

    bench = commands.add_parser("bench", help="measure the speed of this processor and this package (takes minutes)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    bench.add_argument("--repeats", type=_repeats, default=5,
                       help="how often to time each side of each ratio, for its median (%(default)s)")  # fmt: skip
    return top
