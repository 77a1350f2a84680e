"""What the tests share: small datasets, and the real images where there are any."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cifar_fast_utils.data import Dataset, load, make_dataset


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the tests' own, so that they find nothing there and leave nothing behind."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CIFAR_FAST_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """What a test sets is not the next one's."""
    before = torch.get_num_threads()
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
