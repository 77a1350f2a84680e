import errno
import os
import time
from pathlib import Path

import pytest

from cifar_fast_utils.errors import UserError
from cifar_fast_utils.files import check_writable, remove_left_over, whole


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # as readable as any other


def test_a_file_system_without_permissions_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_what_is_left_over_is_removed_after_a_day(tmp_path: Path) -> None:
    for name in ("tmp-old", "tmp-new", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").touch()
    for name in ("tmp-old", "other"):
        os.utime(tmp_path / name, (0, time.time() - 90_000))
    remove_left_over(tmp_path, "tmp-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tmp-new"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("mine")])
def test_or_not_at_all(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = UserError if isinstance(error, OSError) else ValueError

    def fail() -> None:
        with whole(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(expected, match=r"cannot write .*a.txt: No space left|mine"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json")
    (tmp_path / "there.json").write_text("kept")
    check_writable(tmp_path / "there.json")
    assert [p.name for p in tmp_path.iterdir()] == ["there.json"]
    assert (tmp_path / "there.json").read_text() == "kept"
    with pytest.raises(UserError, match=r"cannot write .*No such file or directory"):
        check_writable(tmp_path / "no" / "new.json")
    with pytest.raises(UserError, match="it is a folder"):
        check_writable(tmp_path)
    for function in (check_writable, lambda path: whole(path).__enter__()):
        with pytest.raises(UserError, match=r"cannot write .*File name too long"):
            function(tmp_path / ("x" * 300))


def test_of_a_link_the_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_text("old")
    (tmp_path / "latest.json").symlink_to(tmp_path / "real" / "a.json")
    with whole(tmp_path / "latest.json") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "latest.json").is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == "new"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a device that this system lacks")
def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(UserError, match="not an ordinary file"):
        check_writable(Path("/dev/null"))
    with pytest.raises(UserError, match="not an ordinary file"), whole(Path("/dev/null")):
        raise AssertionError("not reached")
    assert not Path("/dev/null").is_file()
    with pytest.raises(UserError, match="not an ordinary file"):
        check_writable(Path("/dev/stdout"))  # whatever it leads to
