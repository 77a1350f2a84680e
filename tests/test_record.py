import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar_fast_utils import record
from cifar_fast_utils.recipe import RECIPES, from_dict
from cifar_fast_utils.run import Run


def a_run() -> Run:
    return Run(
        RECIPES["final"], "small", "noise", "0123", 7, "float32", "a machine", 2, "2026-01-01T00:00:00+00:00", 10
    )


def test_a_record_holds_the_recipe_and_survives_json() -> None:
    read = json.loads(json.dumps(record.to_record(a_run(), "abc")))
    assert from_dict(read["recipe"]) == RECIPES["final"]
    assert read["recipe"]["digest"] == RECIPES["final"].digest
    assert (read["commit"], read["seed"], read["epochs"], read["accuracy"]) == ("abc", 7, 10, None)


def test_the_commit_is_the_packages_own_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: Callable[..., str]
) -> None:
    module = tmp_path / "package" / "record.py"
    module.parent.mkdir()
    module.write_text("pass\n")
    monkeypatch.setattr(record, "__file__", str(module))
    commit = record.current_commit.__wrapped__  # asked each time
    assert commit() is None  # no checkout
    git(tmp_path, "init")
    assert commit() is None  # another project's checkout, which does not track the package
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "first")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert commit() == head
    (tmp_path / "notes.md").write_text("not the package\n")
    assert commit() == head
    module.write_text("changed\n")
    assert commit() == head + "+"


def test_the_commit_is_that_of_the_code_that_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is committed while a plan is carried out."""
    record.current_commit.cache_clear()
    before = record.current_commit()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    assert record.current_commit() == before


def test_installed_by_git_the_commit_is_the_one_that_pip_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "cifar_fast_utils" / "record.py"
    monkeypatch.setattr(record, "__file__", str(module))
    commit = record.current_commit.__wrapped__
    noted = json.dumps({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}})
    for folder, text, expected in (
        (tmp_path, noted, "0123456789ab"),
        (tmp_path / "elsewhere", noted, None),  # another copy than the one that runs
        (tmp_path, json.dumps({"url": "file:///x", "dir_info": {}}), None),
        (tmp_path, None, None),
    ):
        said = SimpleNamespace(read_text=lambda _, text=text: text, locate_file=folder.joinpath)
        monkeypatch.setattr(record, "distribution", lambda _, said=said: said)
        assert commit() == expected
