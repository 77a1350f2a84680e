"""What must hold of recorded runs before they are shared, beyond what the schema says of one line."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .device import SCALES
from .errors import UserError
from .ledger import Record, Setting, read, setting_of
from .network import run_flops
from .plan import is_search
from .recipe import Recipe, from_dict, is_another
from .schema import validate


def check_file(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a ledger, and all that is wrong with it, a line each. Raises `UserError` if it cannot be read."""
    records, damaged = read([path])
    if damaged and not records and path.suffix == ".json":  # `cifar-fast train --json`: one record on many lines
        try:
            records, damaged = [json.loads(path.read_bytes())], []
            validate(records[0])
        except (ValueError, RecursionError) as error:
            return [], [f"{path}: not JSON ({error})"]
        except UserError as error:
            return [], [f"{path}: not a record: {error}"]
    wrong = [str(line) for line in damaged]
    wrong += [f"{path}: {said}" for said in repeated(records)]
    for record in records:
        who = f"{path}: '{record['recipe']['name']}', seed {record['seed']}, of {record['started']}"
        wrong += [f"{who}: {said}" for said in improbable(record)]
    return records, wrong


def repeated(records: Sequence[Record]) -> list[str]:
    """Runs that occur more than once, by setting, recipe and seed."""
    names: dict[tuple[Setting, str, int], list[str]] = {}
    for record in records:
        key = (setting_of(record), record["recipe"]["digest"], record["seed"])
        names.setdefault(key, []).append(record["recipe"]["name"])
    return [
        f"'{' and '.join(dict.fromkeys(found))}' with seed {seed} occurs {len(found)} times for "
        f"{setting.device}, {setting.precision}"
        for (setting, _, seed), found in names.items()
        if len(found) > 1
    ]


def improbable(record: Record) -> list[str]:
    """What this package would not have written."""
    recipe = from_dict(record["recipe"])
    wrong = []
    own = record["scale"] == "smoke" or is_search(record["dataset"])  # shortened, or a search's
    if not own and is_another(recipe):
        wrong.append("the package's recipe of that name has other fields")
    if record["scale"] not in SCALES:
        wrong.append(f"there is no scale '{record['scale']}'")
    elif not _whole(recipe, SCALES[record["scale"]].width, record["flops"]):
        wrong.append("`flops` is not a whole number of the recipe's steps")
    if datetime.fromisoformat(record["started"]) > datetime.now(timezone.utc) + timedelta(days=1):
        wrong.append("it was started in the future")
    last = record["history"][-1]
    if abs(last["epoch"] - record["epochs"]) > 0.5:
        wrong.append("its history does not end with its last epoch")
    if last["test_accuracy"] not in (None, record["accuracy"]):
        wrong.append("its history ends with another accuracy")
    if abs(last["seconds"] - record["seconds"]["train"]) > 1:
        wrong.append("its history ends with another training time")
    if not own and record["dataset"] in ("cifar10", "cifar10-jpeg"):
        for said, share in (("accuracy", record["accuracy"]), ("accuracy with TTA", record["tta_accuracy"])):
            if share is not None and abs(1e4 * share - round(1e4 * share)) > 1e-6:
                wrong.append(f"its {said} is not a whole number out of 10,000 test images")
    return wrong


def _whole(recipe: Recipe, width: int, flops: int) -> bool:
    """Whether there is a number of steps per epoch with which the recipe takes exactly this many FLOPs."""
    steps = bisect_left(range(10**6), flops, key=lambda per_epoch: run_flops(recipe, width, per_epoch))
    return run_flops(recipe, width, steps) == flops
