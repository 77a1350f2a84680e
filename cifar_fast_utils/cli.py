"""The shell: `cifar-fast train|record|report|check|shares|predict|recipes|info|bench`.

Nothing heavy is imported before it is needed, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

from . import commands
from .arguments import parser
from .article import ARTICLE
from .errors import UserError, out_of_memory
from .recipe import LADDER, MODERN, MODERN_WITHOUT, RECIPES, WITHOUT, diff, get, with_epochs

PLOTS = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 2 to fix, 130 Ctrl-C. `SystemExit` for wrong arguments and `--help`."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # None where the shell closed them
    with contextlib.redirect_stderr(cast(TextIO, _Unheeded(sys.stderr))):
        try:
            return _run(parser().parse_args(arguments))
        finally:  # after an error, Ctrl-C or --help too: a closed pipe would change the exit code
            try:
                sys.stdout.flush()
            except OSError:
                _silence(sys.stdout)


def _run(chosen: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows has no "→"
        sys.stdout.reconfigure(errors="replace")
    try:
        COMMANDS[chosen.command](chosen)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        _silence(sys.stdout)
    except KeyboardInterrupt:
        print("\ncifar-fast: stopped", file=sys.stderr)
        return 130
    except NotImplementedError as error:  # an operation that PyTorch lacks on this device
        return _fail(f"take another --device, or a newer PyTorch: {str(error).partition(chr(10))[0]}")
    except (MemoryError, OSError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        where = out_of_memory(error)
        if where is None and isinstance(error, OSError):  # a full disk, say, where the output goes
            _silence(sys.stdout)
            return _fail(str(error))
        if where is None:
            raise
        smaller = (
            "lower --batch-size, or take --scale small"
            if chosen.command == "train"
            else "close what else is running here, or give it less to do"
        )
        return _fail(f"{where} is out of memory: {smaller}")
    return 0


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


class _Unheeded:
    """stderr, on which no work depends: the reader of a pipe may be gone, or a log's disk full."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            _silence(self.stream)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            _silence(self.stream)


def _silence(stream: TextIO) -> None:
    """Discard whatever is written to the stream from now on."""
    with contextlib.suppress(io.UnsupportedOperation):  # no file: a notebook's, a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str) -> int:
    print(f"cifar-fast: {message}", file=sys.stderr)
    return 2


def _train(chosen: argparse.Namespace) -> None:
    from .files import check_writable
    from .ledger import append, check_appendable

    recipe = get(chosen.recipe)
    if chosen.batch_size is not None:
        name = f"{recipe.name}@batch{chosen.batch_size}"
        recipe = dataclasses.replace(recipe, name=name, batch_size=chosen.batch_size)
    if chosen.epochs is not None:
        recipe = with_epochs(recipe, chosen.epochs)
    for file in (chosen.json, chosen.save, chosen.plot):
        if file is not None:
            check_writable(file)
    if chosen.ledger is not None:
        check_appendable(chosen.ledger)
    if chosen.plot is not None and chosen.plot.suffix.lower() not in PLOTS:
        raise UserError(f"cannot write {chosen.plot}: its ending must be one of {', '.join(PLOTS)}")

    from tqdm import tqdm

    from .data import load
    from .device import choose_scale
    from .files import write_json
    from .record import current_commit, to_record
    from .run import TABLE_HEAD, Stopped, summary, table_row
    from .train import train

    device, _ = commands.place(chosen)
    scale = choose_scale(chosen.scale, device)
    commit = current_commit()
    dataset = load(chosen.data, quiet=chosen.quiet)

    def show(line: str) -> None:
        try:
            with tqdm.external_write_mode():
                print(line, flush=True)  # at once, in a pipe too
        except OSError:
            if not (chosen.json or chosen.ledger or chosen.save or chosen.plot):
                raise
            _silence(sys.stdout)  # nobody reads on, or a log's disk is full, but the files are still wanted

    show(f"{recipe.name} on {dataset.name}, {scale.name} scale, seed {chosen.seed}\n\n{TABLE_HEAD}")
    try:
        run = train(
            recipe,
            dataset,
            scale=scale,
            device=chosen.device,
            precision=chosen.precision,
            seed=chosen.seed,
            test_each_epoch=not chosen.test_at_end,
            progress=not chosen.quiet,
            on_epoch=lambda row: show(table_row(row)),
        )
    except Stopped as stopped:
        last = stopped.run.history[-1:]
        passes = f"the last whole pass ended at epoch {last[0]['epoch']:g}" if last else "no pass was finished"
        print(f"\n{stopped}; {passes}")
        raise KeyboardInterrupt from None
    show(summary(run))
    with contextlib.ExitStack() as files:  # one file that cannot be written does not stop the others
        if chosen.plot:
            from .plots import write_curves

            files.callback(write_curves, run, chosen.plot)
        if chosen.save:
            from .weights import save_network

            files.callback(save_network, run, scale.width, dataset.classes, chosen.save)
        if chosen.json:
            files.callback(write_json, chosen.json, to_record(run, commit))
        if chosen.ledger:
            files.callback(append, chosen.ledger, to_record(run, commit))
    if chosen.plot:
        show(f"plot: {chosen.plot}")


def _predict(chosen: argparse.Namespace) -> None:
    import torch

    from .weights import load_network, predict, read_picture

    network, recipe, classes = load_network(chosen.weights)
    probabilities = predict(network, torch.stack([read_picture(path) for path in chosen.pictures]), recipe)
    for path, row in zip(chosen.pictures, probabilities, strict=True):
        best = row[: len(classes)].topk(min(3, len(classes)))
        print(f"{path}: " + ", ".join(f"{classes[k]} {p:.0%}" for p, k in zip(*map(list, best), strict=True)))


def _recipes(chosen: argparse.Namespace) -> None:
    if chosen.diff:
        old, new = (get(name) for name in chosen.diff)
        for key, (before, after) in diff(old, new).items():
            print(f"{key}: {before} → {after}")
    elif chosen.json:
        print(json.dumps([recipe.to_dict() for recipe in [*RECIPES.values(), *MODERN.values()]], indent=2))
    else:
        print("The article's seconds are from a V100, its accuracy is on CIFAR-10; * marks the rungs of the ladder.\n")
        print(f"  {'recipe':23} epochs  peak rate  cutout  seconds  accuracy")
        for recipe in [*RECIPES.values(), *MODERN.values()]:
            seconds, accuracy = (str(x or "") for x in ARTICLE.get(recipe.name, (None, None)))
            peak = max(rate for _, rate in recipe.knots)
            mark = "*" if recipe.name in LADDER else " "
            print(
                f"{mark} {recipe.name:23} {recipe.epochs:6g}  {peak:9g}  {recipe.cutout:6}  {seconds:>7}  {accuracy:>8}"
            )
        print("\nNAME@half and NAME@EPOCHS stretch a recipe.")
        for name, without in (("final", WITHOUT), ("airbench94", MODERN_WITHOUT)):
            tricks = ", ".join(one.removeprefix(f"{name}_without_") for one in without)
            print(f"{name}_without_TRICK leaves one out: {tricks}.")


def _info(chosen: argparse.Namespace) -> None:
    from .info import describe

    for key, value in describe():
        print(f"{key:18} {value}")


def _bench(chosen: argparse.Namespace) -> None:
    from .bench import bench
    from .files import check_writable, write_json

    if chosen.json:
        check_writable(chosen.json)
    figures = bench(chosen.repeats)
    if chosen.json:
        write_json(chosen.json, figures)


COMMANDS = {
    "train": _train,
    "record": commands.record,
    "report": commands.report,
    "check": commands.check,
    "shares": commands.shares,
    "predict": _predict,
    "recipes": _recipes,
    "info": _info,
    "bench": _bench,
}
