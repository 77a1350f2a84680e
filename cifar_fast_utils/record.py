"""A run as one JSON object: its record."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .files import write_json
from .run import Run


def to_record(run: Run, commit: str | None) -> dict[str, Any]:
    """Everything that another reader needs to compare the run with theirs; `commit` as it was when the run began.

    Accuracies are fractions of 1 on the test images, `tta_accuracy` null without TTA; `cross_entropy` is that of the
    tested answers, in nats, at the temperature that suits them best; `seconds` holds the clocks `train`, `train_eval`
    and `cold`; `flops` are counted, forward and backward, over all training steps; `epochs` and `recipe` are as
    trained; `commit` is null outside a git checkout of the package.
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


@functools.cache
def current_commit() -> str | None:
    """The git commit of the checkout that the package runs from, `+` appended if the package has changed since.

    None outside a checkout. Asked once: what a process has imported does not change with the files.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails where it is installed below another project's checkout
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_record(run: Run, commit: str | None, path: Path) -> None:
    """Write the run's record, whole or not at all. Raises `UserError` where the file cannot be written."""
    write_json(path, to_record(run, commit))
