"""Carrying a plan out: train what the ledger lacks, add each run to it as it ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from .data import Dataset, make_dataset
from .device import SCALES, Scale, choose_device, choose_precision, cores_of, device_name
from .errors import UserError, out_of_memory
from .evaluate import BATCH
from .ledger import Record, Setting, append, check_appendable, readable, setting_of
from .plan import VALIDATION, Plan, missing
from .recipe import Recipe, from_dict, with_epochs
from .record import current_commit, to_record
from .run import Stopped
from .sources import one_line
from .train import data_at, recipe_at, train

Work = list[tuple[Recipe, int]]
"""Recipes and seeds, in the order to run them."""
Tick = Callable[[float], None]
"""Told of epochs done."""
SET_ASIDE = 5_000
"""How many training images `validation` tests on."""


def validation(dataset: Dataset) -> Dataset:
    """For choosing between recipes: the last `SET_ASIDE` training images to test on, the others to train on.

    The test images stay unseen; the name is `NAME-validation`. Raises `UserError` where there are too few images.
    """
    n = SET_ASIDE
    if len(dataset.train_labels) <= n:
        raise UserError(f"cannot set {n} of {len(dataset.train_labels)} training images aside")
    (images, held), (labels, answers) = (
        (part[:-n], part[-n:]) for part in (dataset.train_images, dataset.train_labels)
    )
    return make_dataset(f"{dataset.name}{VALIDATION}", dataset.classes, images, labels, held, answers)


@dataclass(frozen=True)
class Job:
    """All that a run needs but its recipe and its seed; calling it makes the run. It can be sent to another machine."""

    dataset: Dataset
    scale: Scale
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __call__(self, recipe: Recipe, seed: int, tick: Tick = lambda epochs: None) -> Record:
        """Train, and give the run's record. Raises `UserError` also where the machine fails: no memory, a dead GPU."""
        self._set_threads()
        commit, done = current_commit(), 0.0

        def on_epoch(row: dict[str, Any]) -> None:
            nonlocal done
            tick(row["epoch"] - done)
            done = row["epoch"]

        try:
            run = train(
                recipe,
                self.dataset,
                scale=self.scale,
                device=self.device,
                precision=self.precision,
                seed=seed,
                test_each_epoch=False,
                progress=False,
                on_epoch=on_epoch,
            )
        except Stopped:  # nothing is kept of half a run
            raise KeyboardInterrupt from None
        except (MemoryError, OSError, RuntimeError) as error:  # the plan's other runs go on
            where = out_of_memory(error)
            raise UserError(f"{where} is out of memory" if where else one_line(error)) from error
        return to_record(run, commit)

    def warm_up(self, recipe: Recipe) -> None:
        """A step or a few and a test of one batch, thrown away, so that all is imported and kernels are chosen."""
        short = replace(self, scale=replace(self.scale, epochs=None, test_images=BATCH))
        with contextlib.suppress(UserError):  # the run itself will report it
            short(replace(with_epochs(recipe, recipe.epochs / 1000), name="warm-up"), 0)

    def setting(self) -> Setting:
        """What the records will say of where they were made, when asked on the machine that makes them."""
        on = choose_device(self.device)
        self._set_threads()
        digest = data_at(self.scale, self.dataset).digest
        return Setting(
            self.dataset.name, digest, self.scale.name, device_name(on), choose_precision(self.precision, on)
        )

    def _set_threads(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)


class Engine(Protocol):
    """What carries a job's runs out, here or elsewhere."""

    def setting(self) -> Setting:
        """Where the runs will be made."""

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        """The records of the work, each as its run ends, or why it could not be made; `tick` is told of the epochs."""


class Here:
    """The plain engine: one run after the other, in this process, after a warm-up that is thrown away."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def setting(self) -> Setting:
        """Where the runs will be made."""
        return self.job.setting()

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        """The records of the work, each as its run ends."""
        self.job.warm_up(work[0][0])
        for recipe, seed in work:
            left = recipe.epochs

            def ticked(epochs: float) -> None:
                nonlocal left
                left -= epochs
                tick(epochs)

            try:
                yield self.job(recipe, seed, ticked)
            except UserError as error:
                tick(left)
                yield UserError(f"{recipe.name}, seed {seed}: {error}")


def check_gpu(plan: Plan, device: str) -> None:
    """Raise `UserError` if the plan is for a GPU and the device, as `device_name` names it, is a processor."""
    if plan.gpu and cores_of(device) is not None:
        raise UserError(f"the plan is for a GPU, and its runs would be made on {device}: see --device")


def to_do(plan: Plan, dataset: Dataset, records: list[Record], setting: Setting) -> Work:
    """The plan's runs, as they are trained at its scale, that no record of this setting holds yet.

    Raises `UserError` if the dataset is not the plan's, or the plan is for a GPU and the setting has none.
    """
    check_gpu(plan, setting.device)
    if dataset.name != plan.dataset:
        raise UserError(f"the plan is for '{plan.dataset}', but the images found are '{dataset.name}': see --data")
    scale = SCALES[plan.scale]
    return missing([(recipe_at(scale, recipe), seed) for recipe, seed in plan.runs()], records, setting)


def carry_out(plan: Plan, ledger: Path, dataset: Dataset, engine: Engine, progress: bool = True) -> int:
    """Make the plan's missing runs and append each to the ledger as it ends; return how many were added.

    What any file of the ledger's folder holds of this setting is not run again, and not added if another process has
    added it to this ledger meanwhile. Ctrl-C loses the run in progress. A run that fails does not stop the others:
    `UserError` is raised at the end. It is raised at once where `to_do` raises it, and if the ledger cannot be written.
    """
    check_appendable(ledger)
    records, setting = readable(ledger.parent), engine.setting()
    work = to_do(plan, dataset, records, setting)
    if not work:
        return 0
    every = 0.2 if sys.stderr.isatty() else 60.0
    planned = to_do(plan, dataset, [], setting)
    held, epochs = len(planned) - len(work), [sum(recipe.epochs for recipe, _ in runs) for runs in (planned, work)]
    total, before = round(epochs[0], 3), round(epochs[0] - epochs[1], 3)
    with tqdm(total=total, initial=before, unit="epoch", disable=not progress, mininterval=every) as bar:
        bar.set_description(f"{held}/{len(planned)} runs")
        made, failed = 0, list[str]()
        for done, record in enumerate(engine.runs(work, bar.update), start=held + 1):
            if isinstance(record, UserError):
                failed.append(str(record))
                bar.write(f"failed: {record}", file=sys.stderr)
            else:
                on, recipe, seed = setting_of(record), from_dict(record["recipe"]), record["seed"]
                which, where = f"{recipe.name}, seed {seed}", f"on {on.device} in {on.precision}"
                held_by = partial(_held, (recipe, seed), on, records)  # another process may record as well
                if append(ledger, record, unless=held_by):
                    made += 1
                else:
                    failed.append(f"{which}: the folder holds it already, {where}")
                if on != setting:  # by a node of a cluster whose nodes are not alike
                    bar.write(f"made elsewhere than planned, {where}", file=sys.stderr)
            bar.set_description(f"{done}/{len(planned)} runs")  # trouble with the bar must not cost a run
    if failed:
        of = f"{len(work)} run{'s' * (len(work) > 1)}"
        raise UserError(f"{len(failed)} of {of} failed; the first was {failed[0]}")
    return made


def _held(run: tuple[Recipe, int], on: Setting, records: list[Record], meanwhile: list[Record]) -> bool:
    return not missing([run], [*records, *meanwhile], on)


def uncommitted(path: Path) -> bool:
    """Whether a plan lies in a git checkout without being committed as it is."""
    path = path.resolve()
    ask = ["git", "-C", str(path.parent), "status", "--porcelain", "--ignored", "--", path.name]
    try:
        return bool(subprocess.run(ask, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return False
