import errno
import json
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import record

from cifar_fast_utils import schema
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.ledger import append, check_appendable, read, read_folder

ROOT = Path(__file__).parent.parent


def seeds(path: Path) -> list[int]:
    return [found["seed"] for found in read([path])[0]]


@pytest.mark.skipif(os.name == "nt", reason="a folder cannot be synced there")
def test_what_is_appended_is_synced_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, int]] = []
    real = os.fsync

    def noting(handle: int) -> None:
        found = os.fstat(handle)
        synced.append((stat.S_ISDIR(found.st_mode), found.st_size))
        real(handle)

    monkeypatch.setattr(os, "fsync", noting)
    append(tmp_path / "runs.jsonl", record())
    assert synced[0] == (False, (tmp_path / "runs.jsonl").stat().st_size)
    append(tmp_path / "runs.jsonl", record())
    assert [folder for folder, _ in synced] == [False, True, False]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    written = [record(name, seed, 0.1 * seed) for seed, name in enumerate(["baseline", "final@half", "tta"])]
    written[0]["cross_entropy"] = 0.3  # the first runs that were recorded lack it
    for one in written:
        append(path, one)
    assert read([path]) == (written, [])
    assert read_folder(tmp_path) == (written, [])
    assert len(path.read_bytes().splitlines()) == 3


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(0.001, 1e6), min_size=3, max_size=3).map(sorted),
)
def test_any_record_is_read_as_it_was_written(device: str, seed: int, clocks: list[float]) -> None:
    """A line is what ends in a newline, and nothing else that some programs take for an end of line."""
    seconds = dict(zip(("train", "train_eval", "cold"), clocks, strict=True))
    one = record("celu", seed, device=device, torch=device, seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.jsonl"
        append(path, one)
        append(path, one)
        assert read([path]) == ([one, one], [])


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("accuracy", {"accuracy": 1.2}),
    ("accuracy", {"accuracy": "0.9"}),
    ("accuracy", {"accuracy": None}),
    ("flops", {"flops": 0}),
    ("flops", {"flops": 1.5}),
    ("flops", {"flops": 10**400}),
    ("device", {"device": "a machine\n## of mine"}),
    ("device", {"device": ""}),
    ("device", {"device": "\ud800"}),
    ("seed", {"seed": -1}),
    ("seconds", {"seconds": {"train": 1.0}}),
    ("clocks", {"seconds": {"train": 10.0, "train_eval": 9.0, "cold": 12.0}}),
    ("history", {"history": []}),
    ("colour", {"colour": "red"}),
    ("epochs", {"epochs": 11.0}),
    ("tta", {"tta_accuracy": None}),
    ("cross_entropy", {"cross_entropy": -0.1}),
    ("time zone", {"started": "2026-01-01T00:00:00"}),
    ("isoformat", {"started": "yesterday"}),
    ("commit", {"commit": 3}),
    ("digest", {"recipe": {**record()["recipe"], "cutout": 8}}),
    ("colour: Unexpected", {"recipe": {**record()["recipe"], "colour": "red"}}),
    ("multiple values", {"recipe": {**record()["recipe"], "__dataclass_self__": 0}}),
    ("another type", {"recipe": {**record()["recipe"], "epochs": "10"}}),
    ("name", {"recipe": {**record()["recipe"], "name": 5}}),
    ("name is not allowed", {"recipe": {**record()["recipe"], "name": "a/b"}}),
    ("name is not allowed", {"recipe": {**record()["recipe"], "name": "a\ud800"}}),
    ("weight_decay: Input should be a valid number", {"recipe": {**record()["recipe"], "weight_decay": []}}),
    ("norm_eps: Input should be a valid number", {"recipe": {**record()["recipe"], "norm_eps": "abc"}}),
    ("whiten: Input should be a valid boolean", {"recipe": {**record()["recipe"], "whiten": 1}}),
    ("frozen", {"recipe": {**record()["recipe"], "frozen": []}}),
    ("lacks tta", {"recipe": {k: v for k, v in record("celu")["recipe"].items() if k != "tta"}}),
]


@pytest.mark.parametrize(("says", "change"), WRONG)
def test_no_record_gets_in_and_a_foreign_one_is_named_and_skipped(
    tmp_path: Path, says: str, change: dict[str, Any]
) -> None:
    path = tmp_path / "runs.jsonl"
    wrong = {**record(), **change}
    with pytest.raises(UserError, match=says) as error:
        append(path, wrong)
    assert "\n" not in str(error.value)
    assert not path.exists()
    path.write_text("\n".join(json.dumps(one) for one in (record(seed=1), wrong, record(seed=2))) + "\n")
    before = path.read_bytes()
    records, damaged = read([path])
    assert [one["seed"] for one in records] == [1, 2]
    (line,) = damaged
    assert line.line == 2
    assert says in str(line)
    assert str(line).startswith(f"{path}, line 2: ")
    append(path, record(seed=3))
    assert path.read_bytes().startswith(before)  # never lost
    assert seeds(path) == [1, 2, 3]


JUNK = st.one_of(
    st.binary(min_size=1, max_size=60), st.text(min_size=1).map(str.encode), st.just(b"[" * 100_000), st.just(b"NaN")
)


@settings(max_examples=60, deadline=None)
@given(junk=st.lists(JUNK, max_size=4), ending=st.sampled_from([b"", b"\n"]))
def test_whatever_else_a_file_holds_records_are_found(
    tmp_path_factory: pytest.TempPathFactory, junk: list[bytes], ending: bytes
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "runs.jsonl"
    append(path, record(seed=1))
    with path.open("ab") as file:
        file.write(b"\n".join(junk) + ending)
    append(path, record(seed=2))
    assert seeds(path) == [1, 2]
    lines = path.read_bytes().split(b"\n")
    assert [one.line for one in read([path])[1]] == [
        k for k, line in enumerate(lines, 1) if line.strip() and not line.startswith(b'{"recipe"')
    ]


def test_half_a_line_stays_a_damaged_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append(path, record(seed=1))
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole + whole[:cut])
        append(path, record(seed=2))
        records, damaged = read([path])
        assert [one["seed"] for one in records] == [1, 2]
        assert [one.line for one in damaged] == [2]


def append_some(path: Path, first: int, count: int, together: Barrier | None = None) -> None:
    if together:
        together.wait(60)
    for seed in range(first, first + count):
        append(path, record(seed=seed))


def many_writers(path: Path, processes: int, each: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(processes)
    writers = [spawn.Process(target=append_some, args=(path, k * each, each, together)) for k in range(processes)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(seeds(path)) == list(range(processes * each))
    assert read([path])[1] == []


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    many_writers(tmp_path / "runs.jsonl", 3, 20)


def append_when_ready(path: Path, ready: Any) -> None:
    ready.set()
    append_some(path, 0, 1)


def test_a_process_waits_while_another_holds_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    writer = spawn.Process(target=append_when_ready, args=(path, ready))
    with filelock.FileLock(tmp_path / ".runs.jsonl.lock"):
        writer.start()
        assert ready.wait(60)
        writer.join(1)
        assert writer.is_alive()
        assert not path.exists()
    writer.join(60)
    assert (writer.exitcode, seeds(path)) == (0, [0])


@pytest.mark.soak
def test_hundreds_of_records_from_many_processes(tmp_path: Path) -> None:
    many_writers(tmp_path / "runs.jsonl", 8, 100)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from records import record
from cifar_fast_utils.ledger import append
seed = int(sys.argv[2])
while True:
    append(Path(sys.argv[1]), record(seed=seed))
    print(seed, flush=True)
    seed += 1
"""


def killed_writers(path: Path, kills: int) -> None:
    """Kill a process that records, at a random moment, again and again: what it said is done must be there."""
    done: list[int] = []
    draw = random.Random(0)
    for kill in range(kills):
        command = [sys.executable, "-c", WRITER.format(tests=str(Path(__file__).parent)), str(path), str(kill * 10**6)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline()]  # it runs
            time.sleep(draw.uniform(0, 0.05))
            os.kill(writer.pid, signal.SIGKILL)
            said += writer.stdout.readlines()
        done += [int(line) for line in said if line.endswith("\n")]
    found, damaged = seeds(path), read([path])[1]
    assert set(done) <= set(found)
    assert len(found) == len(set(found))
    assert len(set(found) - set(done)) <= kills  # on the disk, but killed before it said so
    assert len(damaged) <= kills
    append(path, record(seed=999))
    assert seeds(path)[-1] == 999


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_loses_at_most_the_run_in_progress(tmp_path: Path) -> None:
    killed_writers(tmp_path / "runs.jsonl", 5)


@pytest.mark.soak
def test_hundreds_of_kills(tmp_path: Path) -> None:
    killed_writers(tmp_path / "runs.jsonl", 300)


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from records import record
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.ledger import append
path = Path(sys.argv[1])
append(path, record(seed=1))
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    append(path, record(seed=2))
except UserError as error:
    print(error)
assert path.stat().st_size == size
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    command = [sys.executable, "-c", FULL_DISK.format(tests=str(Path(__file__).parent)), str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert said.startswith(f"cannot write {path}")
    assert seeds(path) == [1]


def test_a_ledger_that_cannot_be_read_or_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read([tmp_path / "none.jsonl"])
    with pytest.raises(UserError, match="cannot write"):
        append(tmp_path / "no" / "folder.jsonl", record())
    with pytest.raises(UserError, match="cannot write"):
        check_appendable(tmp_path / "no" / "folder.jsonl")
    with pytest.raises(UserError, match=r"a ledger's name ends in \.jsonl"):  # else it would never be read again
        check_appendable(tmp_path / "runs.json")
    check_appendable(tmp_path / "runs.jsonl")
    assert not (tmp_path / "runs.jsonl").exists()
    (tmp_path / ".other.jsonl.lock").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        check_appendable(tmp_path / "other.jsonl")


def test_whether_to_add_a_run_is_asked_while_the_others_wait(tmp_path: Path) -> None:
    path, asked = tmp_path / "runs.jsonl", list[int]()
    append(path, record(seed=3))

    def held(records: list[dict[str, Any]]) -> bool:
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / ".runs.jsonl.lock", timeout=0).acquire()
        asked.append(len(records))
        return any(one["seed"] == 3 for one in records)

    assert not append(path, record(seed=3), unless=held)
    assert asked == [1]
    assert append(path, record(seed=4), unless=lambda records: len(records) > 1)
    assert seeds(path) == [3, 4]


def test_a_ledger_that_is_read_only_is_known_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "runs.jsonl", Path.open
    append(path, record())
    check_appendable(path)

    def denied(self: Path, *how: Any, **named: Any) -> Any:  # as its permissions would, were it not for root
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, *how, **named)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"cannot write .*runs\.jsonl: Permission denied"):
        check_appendable(path)


@pytest.mark.parametrize("refusal", [NotImplementedError("no flock"), filelock.Timeout("runs.jsonl.lock")])
def test_a_file_system_without_locks_is_one_line(
    refusal: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    path = tmp_path / "runs.jsonl"
    with pytest.raises(UserError, match=r"cannot write .*runs\.jsonl: .*lock"):
        append(path, record())
    with pytest.raises(UserError, match=r"cannot write .*runs\.jsonl: .*lock"):
        check_appendable(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_synced_keeps_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def files_alone(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", files_alone)
    append(tmp_path / "runs.jsonl", record())
    assert seeds(tmp_path / "runs.jsonl") == [0]


def test_the_published_schema_is_the_packages() -> None:
    assert (ROOT / "book" / "results" / "schema.json").read_text(encoding="utf-8") == schema.as_json()
