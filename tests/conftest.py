"""What the tests share: small datasets, and the real images where there are any."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import records
import torch
from hypothesis import register_random, settings
from servers import write_parquet

from cifar_fast_utils.data import Dataset, load, make_dataset

if "CI" not in os.environ:  # where Hypothesis has a profile of its own; a busy machine is no error elsewhere either
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the tests' own, so that they find nothing there and leave nothing behind."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CIFAR_FAST_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def plain_git() -> None:
    """Whatever a user has told git, signed commits perhaps, it is git as it comes here.

    A hook, or a rebase that runs the tests, names its own repository: not the one for the tests to act on.
    """
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(scope="session", autouse=True)
def plain_precision() -> None:
    """What a user has set for the package's runs is not for its tests."""
    os.environ.pop("CIFAR_FAST_PRECISION", None)


@pytest.fixture(scope="session")
def git() -> Callable[..., str]:
    """Runs git in a folder, as nobody in particular, and gives what it says; a skip where there is no git."""
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def run(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    return run


@pytest.fixture(scope="session")
def tracked(git: Callable[..., str]) -> list[Path]:
    """The files of this checkout that git knows; a skip where it is none."""
    root = Path(__file__).parent.parent
    try:
        names = git(root, "ls-files", "-z").split("\0")
    except subprocess.CalledProcessError:
        pytest.skip("not a git checkout")
    return [root / name for name in names if (root / name).is_file()]


class Torch:
    """PyTorch's generator, which Hypothesis then sets before each example: one that fails is found again."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH = Torch()  # Hypothesis keeps no reference of its own
register_random(TORCH)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """What a test sets or draws is not the next one's."""
    before = torch.get_num_threads()
    torch.manual_seed(0)
    records.minutes = itertools.count()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real() -> Dataset:
    """The images that CIFAR_FAST_DATA names; without it, the tests that ask for them are skipped."""
    folder = os.environ.get("CIFAR_FAST_DATA")
    if not folder or not Path(folder).expanduser().is_dir():
        pytest.skip("needs real images: set CIFAR_FAST_DATA to a folder that holds some")
    return load(folder, quiet=True)


@pytest.fixture(scope="session")
def real_images(real: Dataset) -> torch.Tensor:
    return real.train_images


@pytest.fixture(scope="session")
def synthetic(cache: Path) -> Dataset:
    return load("synthetic", quiet=True)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Random pixels: for what depends on shapes alone."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (1300, 32, 32, 3), dtype=torch.uint8, generator=draw)
    labels = torch.randint(10, (1300,), generator=draw)
    return make_dataset("noise", tuple("abcdefghij"), images[:1100], labels[:1100], images[1100:], labels[1100:])


@pytest.fixture(scope="session")
def folder(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` as a folder in the hub's layout; not to be changed."""
    arrays = (tiny.train_images, tiny.train_labels, tiny.test_images, tiny.test_labels)
    return write_parquet(tmp_path_factory.mktemp("hub") / "noise", arrays)
