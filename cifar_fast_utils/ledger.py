"""The ledger: files of JSON lines, a run a line, appended and never edited."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from .errors import UserError
from .files import check_writable
from .schema import validate

Record = dict[str, Any]
"""As `record.to_record` makes it and `schema` describes it."""


class Setting(NamedTuple):
    """Records that differ in one of these are never compared and never averaged."""

    dataset: str
    dataset_digest: str
    scale: str
    device: str
    precision: str


def setting_of(record: Record) -> Setting:
    """Where and on what the run was made."""
    return Setting(*(record[field] for field in Setting._fields))


Key = tuple[str, int, str]
"""Different for any two runs of a setting, but the same for one run that is in two files."""


def key_of(record: Record) -> Key:
    """When it started, its seed and its recipe's digest."""
    return record["started"], record["seed"], record["recipe"]["digest"]


@dataclass(frozen=True)
class Damaged:
    """A line that is not a record: where it is and what is wrong with it."""

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.why}"


def append(path: Path, record: Record, unless: Callable[[list[Record]], bool] | None = None) -> bool:
    """Add a record; when this returns, it is on the disk. False, and nothing added, if `unless` says so.

    `unless` is asked of what the file holds by then. Other processes wait for their turn. What a killed process has
    left of its line stays, as a damaged line of its own.
    Raises `UserError` if the record is not valid, or the file cannot be written: the file is then as it was.
    """
    line = json.dumps(record).encode() + b"\n"
    validate(json.loads(line))
    if not path.parent.is_dir():  # the lock would make it
        raise UserError(f"cannot write {path}: there is no such folder")
    with _locked(path), path.open("ab+", buffering=0) as file:
        if unless is not None and unless(read([path])[0]):
            return False
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise
        if not size:
            _sync_folder(path.parent)
    return True


def check_appendable(path: Path) -> None:
    """Raise `UserError` now if `append` would fail later, or if `read_folder` would not find what it adds."""
    if path.suffix != ".jsonl":
        raise UserError(f"cannot record into {path}: a ledger's name ends in .jsonl")
    check_writable(path)
    with _locked(path):
        if path.exists():
            path.open("ab").close()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. `UserError` where the ledger cannot be written, or its file system has no locks.

    Without the limit older versions of filelock would try for ever there.
    """
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=60):
            yield
    except (OSError, NotImplementedError) as error:
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _sync_folder(folder: Path) -> None:
    """A new file is not safe on the disk before its folder's entry is. Some file systems cannot be asked for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                os.fsync(handle)
        finally:
            os.close(handle)


def read(paths: Iterable[Path]) -> tuple[list[Record], list[Damaged]]:
    """The records in these files, and the lines that are no records. Raises `UserError` where a file cannot be read."""
    records: list[Record] = []
    damaged: list[Damaged] = []
    for path in paths:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    content = json.loads(line)
                    validate(content)
                    records.append(content)
                except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a thousand brackets of it
                    damaged.append(Damaged(path, number, f"not JSON ({error})"))
                except UserError as error:
                    damaged.append(Damaged(path, number, f"not a record: {error}"))
    return records, damaged


def own_runs(plan: Path) -> dict[Setting, set[Key]]:
    """The runs that were made for a plan, by their settings, going by the names of the ledgers beside it.

    `NAME.jsonl` and `NAME_ANYTHING.jsonl` belong to `NAME.toml`; where several plans fit, to the one with the longest
    name. A folder's only plan has all its ledgers. Raises `UserError` where a file cannot be read.
    """
    plans = [path.stem for path in plan.parent.glob("*.toml")]

    def owner(ledger: Path) -> str:
        fit = [name for name in plans if len(plans) == 1 or f"{ledger.stem}_".startswith(f"{name}_")]
        return max(fit, key=len, default="")

    records, _ = read(path for path in sorted(plan.parent.glob("*.jsonl")) if owner(path) == plan.stem)
    own: dict[Setting, set[Key]] = {}
    for record in records:
        own.setdefault(setting_of(record), set()).add(key_of(record))
    return own


def readable(folder: Path) -> list[Record]:
    """The records of all ledgers in a folder; lines that are not records are named on stderr and left out."""
    records, damaged = read_folder(folder)
    for line in damaged:
        print(f"skipped {line}", file=sys.stderr)
    return records


def read_folder(folder: Path) -> tuple[list[Record], list[Damaged]]:
    """All the ledger files of a folder, in the order of their names."""
    return read(sorted(folder.glob("*.jsonl")))


def results_folder() -> Path:
    """Where the book's recorded runs and their plans lie: in the checkout, or installed with the package."""
    checkout = Path(__file__).parent.parent / "book" / "results"
    return checkout if checkout.is_dir() else Path(__file__).parent / "results"
