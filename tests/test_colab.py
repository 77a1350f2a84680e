"""A rehearsal of Colab: one notebook alone, in an environment that has PyTorch and little else."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import address
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
THERE = ("torch", "torchvision", "numpy", "matplotlib")
KERNEL = ("ipykernel", "pip")  # without which no notebook runs, nor its %pip
RUN = """
import sys, nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[2]]), kernel_name="colab")
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, km=manager, timeout=600).execute()
nbformat.write(notebook, sys.argv[1])
"""


def needed(names: tuple[str, ...]) -> set[str]:
    """These distributions and all that they need here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # not for this machine
            continue
        if name not in found:
            found.add(name)
            waiting += [re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line]
    return found


def fresh_environment(folder: Path) -> Path:
    """A virtual environment of these alone, its files links to the ones here; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    for name in needed(THERE + KERNEL):
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and file.parts[:2] != ("torch", "include"):
                to = site / file
                to.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(file.locate(), to)
                except OSError:  # another file system; some gigabytes are not copied there
                    to.symlink_to(file.locate())
    return python


def installed(python: Path) -> dict[str, str]:
    """What is installed beside this Python, by name and version."""
    told = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
    return {one["name"].lower(): one["version"] for one in json.loads(told.stdout)}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What pip needs of this checkout, copied, so that building leaves nothing behind in it."""
    copy = tmp_path / "checkout"
    for name in ("cifar_fast_utils", "book/results"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "LICENSE-book"):
        shutil.copy(ROOT / name, copy)
    return copy


def test_a_notebook_alone_installs_the_package_and_leaves_torch_as_it_is(tmp_path: Path, checkout: Path) -> None:
    python = fresh_environment(tmp_path / "environment")
    ask = [str(python), "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path / "downloads"), "tqdm"]
    if "CI" not in os.environ and subprocess.run(ask, capture_output=True).returncode:
        pytest.skip("needs a package index")
    before = installed(python)
    assert set(THERE) <= set(before)
    assert not {"cifar-fast-utils", "tqdm", "scipy", "pyarrow"} & set(before)
    record = next((tmp_path / "environment").rglob("torch-*.dist-info/RECORD"))
    was = record.stat()

    alone = tmp_path / "alone"
    alone.mkdir()
    path = alone / "05_celu.ipynb"
    asked = f'"git+https://github.com/{address.slug()}"'
    source = (ROOT / "notebooks" / path.name).read_text(encoding="utf-8")
    assert json.dumps(asked)[1:-1] in source
    path.write_text(source.replace(json.dumps(asked)[1:-1], str(checkout)), encoding="utf-8")
    kernel = tmp_path / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "colab", "language": "python"}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"CIFAR_FAST_DATA": "synthetic", "CIFAR_FAST_SCALE": "smoke"}
    environment["PIP_NO_COMPILE"] = "0"  # which means: do not
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(kernel.parent)], cwd=alone, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    after = installed(python)
    assert {name: after[name] for name in before} == before
    now = record.stat()
    assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
    assert "cifar-fast-utils" in after
    said = json.dumps([cell.get("outputs", []) for cell in nbformat.read(path, as_version=4).cells])
    assert "at the smoke scale" in said
    assert "Which rungs of the ladder hold" in said
    package = record.parent.parent / "cifar_fast_utils"
    ledgers = {path.name for path in (ROOT / "book" / "results").glob("*.jsonl")}
    assert {path.name for path in (package / "results").glob("*.jsonl")} == ledgers
    assert (package / "py.typed").exists()
    assert [found.name for found in alone.iterdir()] == [path.name]
