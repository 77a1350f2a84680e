"""A run as one JSON object: its record."""

from __future__ import annotations

import functools
import json
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .device import device_name
from .run import Run


def to_record(run: Run, commit: str | None) -> dict[str, Any]:
    """Everything that another reader needs to compare the run with theirs; `commit` as it was when the run began.

    Accuracies are fractions of 1 on the test images, `tta_accuracy` null without TTA; `cross_entropy` is that of the
    tested answers, in nats, at the temperature that suits them best; `seconds` holds the clocks `train`, `train_eval`
    and `cold`; `flops` are counted, forward and backward, over all training steps; `epochs` and `recipe` are as
    trained; `commit` is null where it cannot be found out.
    """
    return {
        "recipe": run.recipe.to_dict(),
        "scale": run.scale,
        "dataset": run.dataset,
        "dataset_digest": run.dataset_digest,
        "seed": run.seed,
        "epochs": run.recipe.epochs,
        "accuracy": run.accuracy,
        "tta_accuracy": run.tta_accuracy,
        "cross_entropy": run.cross_entropy,
        "history": run.history,
        "seconds": run.seconds,
        "flops": run.flops,
        "device": run.device,
        "threads": run.threads,
        "precision": run.precision,
        "torch": torch.__version__,
        "version": __version__,
        "commit": commit,
        "started": run.started,
    }


def here(device: torch.device, precision: str) -> dict[str, Any]:
    """Where a measurement that is not a training is made, and with what: to be called as it starts.

    The commit is the package's, null where it cannot be found out: a changed script outside the package does not show.
    """
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__,
        "commit": current_commit(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@functools.cache
def current_commit() -> str | None:
    """The git commit of the checkout that the package runs from, `+` appended if the package has changed since.

    Outside a checkout, the commit that pip installed it from, else None. Asked once: what a process has imported does
    not change with the files.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails where it is installed below another project's checkout
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return _installed_commit()


def _installed_commit() -> str | None:
    """The commit that pip has noted, if the package came by `git+https`, as in Colab. Source: PEP 610."""
    try:
        package = distribution("cifar-fast-utils")
        origin = json.loads(package.read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    this_one = Path(str(package.locate_file("cifar_fast_utils/record.py"))) == Path(__file__)
    commit = origin.get("vcs_info", {}).get("commit_id", "")[:12]
    return commit if this_one and commit else None
