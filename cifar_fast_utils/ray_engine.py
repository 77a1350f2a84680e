"""The same plan on many machines: Ray (https://docs.ray.io) spreads the runs, this process keeps the ledger."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

from .device import DEVICE_VARIABLE, PRECISION_VARIABLE
from .errors import UserError
from .experiment import Job, Tick, Work
from .ledger import Record, Setting
from .recipe import Recipe
from .sources import one_line


def the_ray() -> ModuleType:
    """Ray. Raises `UserError` where it is not installed."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'ray>=2.40'") from None
    module: ModuleType = ray
    return module


class OnRay:
    """An engine over a Ray cluster: that of `RAY_ADDRESS`, else one running on this machine, else one made of it.

    Each run gets as many CPUs as the job has threads (1 if it does not say), and a GPU if it trains on one. Every node
    needs this package. The setting is that of whichever node answers, so all should be alike. Raises `UserError`
    without Ray or a cluster at that address, and where no node has what a run needs.
    """

    def __init__(self, job: Job) -> None:
        ray = the_ray()
        if not ray.is_initialized():
            try:
                ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
            except (ValueError, RuntimeError, ConnectionError) as error:  # no address, or nothing there
                raise UserError(f"Ray: {one_line(error)[:200]}") from None
        threads = job.threads or 1
        if job.device == "auto":  # what is said here holds on the nodes as well
            job = replace(job, device=os.environ.get(DEVICE_VARIABLE) or "auto")
        if job.precision == "auto":
            job = replace(job, precision=os.environ.get(PRECISION_VARIABLE) or "auto")
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
        on_gpu = job.device == "cuda" or (job.device == "auto" and gpus)
        if not any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= int(on_gpu) for node in nodes):
            needed = f"{threads} CPU{'s' * (threads > 1)}{' and a GPU' * on_gpu}"
            raise UserError(f"no node of the Ray cluster has {needed}")
        if on_gpu:  # a node whose GPU has gone must not train on its processor instead
            job = replace(job, device="cuda")
        # Left to itself, Ray ends a process that has used a GPU after one run, and endlessly repeats a run that memory
        # was too small for.
        needs = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_calls=0, max_retries=0)
        self.ray, self.job = ray, replace(job, threads=threads)
        self.remote_run, self.remote_setting = needs(_run), needs(_setting)

    def setting(self) -> Setting:
        """Where the runs will be made: a node is asked."""
        found: Setting = self._get(self.remote_setting.remote(self.job))
        self.job = replace(self.job, precision=found.precision)  # chosen once, not by each worker anew
        return found

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        """The records of the work, as they come in."""
        job = self.ray.put(self.job)
        waiting = {self.remote_run.remote(job, recipe, seed): (recipe, seed) for recipe, seed in work}
        while waiting:
            (done,), _ = self.ray.wait(list(waiting))
            recipe, seed = waiting.pop(done)
            tick(recipe.epochs)
            try:
                yield self._get(done)
            except UserError as error:
                yield UserError(f"{recipe.name}, seed {seed}: {error}")

    def _get(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:  # a worker that was killed, a node that has gone
            cause = getattr(error, "cause", None)
            if cause is None or isinstance(cause, self.ray.exceptions.RayError):
                raise UserError(f"Ray: {one_line(error)[:200]}") from None
            raise cause from None  # what the run itself raised


def _run(job: Job, recipe: Recipe, seed: int) -> Record:
    if not _warm:  # Ray's worker processes run many tasks: once in each
        job.warm_up(recipe)
        _warm.append(True)
    return job(recipe, seed)


def _setting(job: Job) -> Setting:
    return job.setting()


_warm: list[bool] = []
