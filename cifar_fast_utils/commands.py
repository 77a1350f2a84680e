"""What the shell's commands for recorded runs do: `record`, `report`, `check`, `shares`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:  # so that the shell's help need not wait for it
    import torch


def place(chosen: argparse.Namespace) -> tuple[torch.device, str]:
    """Set the threads, and choose the device and the precision, as the options say; report why a GPU is not used."""
    import torch

    from .device import choose_device, choose_precision, unused_gpu

    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    device = choose_device(chosen.device)
    if hint := unused_gpu(chosen.device):
        print(f"cifar-fast: {hint}", file=sys.stderr)
    return device, choose_precision(chosen.precision, device)


def record(chosen: argparse.Namespace) -> None:
    """Make the runs that a plan asks for and the ledger lacks."""
    from .ledger import check_appendable, readable
    from .plan import read_plan

    plan = read_plan(chosen.plan)
    ledger = chosen.ledger or chosen.plan.with_suffix(".jsonl")
    if not chosen.list:
        check_appendable(ledger)  # before a download

    from .data import load
    from .device import SCALES, device_name
    from .experiment import Engine, Here, Job, carry_out, check_gpu, to_do, uncommitted, validation
    from .record import current_commit

    if uncommitted(chosen.plan):
        print(f"cifar-fast: {chosen.plan} is not committed: a plan should be, before its runs", file=sys.stderr)
    if (current_commit() or "").endswith("+"):
        print("cifar-fast: the code has uncommitted changes, and the records will say so", file=sys.stderr)
    if chosen.engine == "here":  # before a download, and hours of the wrong device
        device, precision = place(chosen)
        check_gpu(plan, device_name(device))
        if not chosen.quiet:
            print(f"{plan.scale} scale on {device_name(device)} in {precision}", file=sys.stderr)
    else:
        from .ray_engine import OnRay, the_ray

        the_ray()  # before a download, too
    dataset = load(chosen.data, quiet=chosen.quiet)
    if plan.search:
        dataset = validation(dataset)
    job = Job(dataset, SCALES[plan.scale], chosen.device, chosen.precision, chosen.threads)
    engine: Engine = Here(job) if chosen.engine == "here" else OnRay(job)
    if chosen.engine == "ray" and not chosen.quiet:
        on = engine.setting()
        print(f"{plan.scale} scale on {on.device} in {on.precision}, by Ray", file=sys.stderr)
    if chosen.list:
        for recipe, seed in to_do(plan, dataset, readable(ledger.parent), engine.setting()):
            print(f"{recipe.name} seed {seed}")
        return
    made = carry_out(plan, ledger, dataset, engine, progress=not chosen.quiet)
    runs = f"{made} run{'s' * (made > 1)}"
    print(f"{runs} added to {ledger}" if made else f"nothing to do: {ledger.parent} holds all the plan's runs")


def report(chosen: argparse.Namespace) -> None:
    """What the recorded runs show."""
    from .ledger import results_folder

    folder = chosen.folder or results_folder()
    if not os.path.isdir(folder):  # also where access to it is denied
        raise UserError(f"there is no folder {folder}")
    if not 0 < chosen.target < 1:
        raise UserError(f"--target is an accuracy between 0 and 1, not {chosen.target:g}")

    from .files import check_writable, whole
    from .report import report as text_of

    if chosen.out:
        check_writable(chosen.out)
    text = text_of(folder, chosen.target)
    if chosen.out:
        with whole(chosen.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if chosen.plots:
        from .ledger import read_folder
        from .plots import evidence_figures

        try:
            chosen.plots.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {chosen.plots}: {error.strerror or error}") from error
        for name, figure in evidence_figures(read_folder(folder)[0]).items():
            with whole(chosen.plots / f"{name}.svg") as temporary:
                figure.savefig(temporary, format="svg")
            print(f"plot: {chosen.plots / name}.svg")


def check(chosen: argparse.Namespace) -> None:
    """Validate ledgers. Raises `UserError` if anything is wrong with one."""
    from .check import check_file, repeated
    from .evidence import by_setting
    from .ledger import Record

    wrong: list[str] = []
    together: list[Record] = []
    for path in chosen.files:
        records, said = check_file(path)
        wrong += said
        together += records
        if not records and not said:
            print(f"{path}: no records")
        for setting, theirs in by_setting(records).items():
            rungs = Counter(record["recipe"]["name"] for record in theirs)
            print(f"{path}: {', '.join(setting)}: " + ", ".join(f"{name} × {n}" for name, n in rungs.items()))
            if unclean := sum(not record["commit"] or record["commit"].endswith("+") for record in theirs):
                print(f"{path}: {unclean} of these made by code that is in no commit")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        raise UserError(f"{len(wrong)} thing{'s' if len(wrong) > 1 else ''} to fix")
    for again in repeated(together):
        print(f"in several files: {again}; the report takes the first")


def shares(chosen: argparse.Namespace) -> None:
    """Where the time of each rung goes."""
    from .data import load
    from .device import choose_scale
    from .files import check_writable, write_json
    from .shares import measure, shares_table

    if chosen.json:
        check_writable(chosen.json)
    device, precision = place(chosen)
    scale = choose_scale(chosen.scale, device)
    figures = measure(load(chosen.data, quiet=chosen.quiet), scale, device, precision, chosen.steps, not chosen.quiet)
    print(shares_table(figures))
    if chosen.json:
        write_json(chosen.json, figures)
