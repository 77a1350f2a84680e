"""Records that no run has made, for tests of what reads them."""

import itertools
import json
from datetime import datetime, timedelta, timezone
from typing import Any

from cifar_fast_utils.recipe import Recipe, get

COUNT = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""How the text calls a number."""
DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
minutes = itertools.count()
"""One after the other: the runs of most tests do not share their machine."""


def record(recipe: Recipe | str = "final", seed: int = 0, accuracy: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A valid record, as it comes out of a ledger; TTA brings half a point."""
    made = get(recipe) if isinstance(recipe, str) else recipe
    whole: dict[str, Any] = {
        "recipe": made.to_dict(),
        "scale": "small",
        "dataset": "noise",
        "dataset_digest": "0123",
        "seed": seed,
        "epochs": made.epochs,
        "accuracy": accuracy,
        "tta_accuracy": accuracy + 0.005 if made.tta else None,
        "history": [
            {
                "epoch": made.epochs,
                "rate": 0.1,
                "train_loss": 1.0,
                "train_accuracy": 0.5,
                "test_accuracy": None,
                "seconds": 10.0,
            }
        ],
        "seconds": {"train": 10.0, "train_eval": 11.0, "cold": 12.0},
        "flops": 1_000_000,
        "device": "a machine",
        "threads": 2,
        "precision": "float32",
        "torch": "2.15.0",
        "version": "0.1.0",
        "commit": "0123456789ab",
        "started": (DAY + timedelta(minutes=5 * (next(minutes) % 288))).isoformat(),
        **changes,
    }
    return json.loads(json.dumps(whole))  # type: ignore[no-any-return]
