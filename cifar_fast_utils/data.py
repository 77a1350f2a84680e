"""Datasets: found, downloaded or generated, decoded once, and cached.

`load` is the way in. Every dataset knows its name and a digest of its pixels, so that nothing measured on one is taken
for another's. Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import __version__, sources, synthetic
from .download import DownloadError, download
from .errors import UserError
from .files import remove_left_over, stamp

KEYWORDS = ("auto", "cifar10", "synthetic")
DATA_VARIABLE = "CIFAR_FAST_DATA"
CACHE_VARIABLE = "CIFAR_FAST_CACHE"
CIFAR10_FILE = "cifar10-ordered.safetensors"  # `sources.one_order`
LOCAL = Path("data", sources.BATCHES)  # where torchvision's own examples put it
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, eq=False)  # two datasets hold the same if their digests are the same
class Dataset:
    """Images and labels of a training and a test set, on the CPU. Make one with `make_dataset`.

    Images: uint8, 0 to 255, (n, 32, 32, 3): rows, columns, RGB. Labels: int64, (n,), each an index into `classes`.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    digest: str
    """First 16 hexadecimal digits of the SHA-256 of the four arrays and their shapes."""

    def subset(self, n_train: int, n_test: int) -> Dataset:
        """The first images of each split (all, where there are fewer), same name. `UserError` for a number below 1."""
        if min(n_train, n_test) < 1:
            raise UserError(f"a subset needs at least 1 training and 1 test image, asked for {n_train} and {n_test}")
        train, test = slice(n_train), slice(n_test)
        arrays = (self.train_images[train], self.train_labels[train], self.test_images[test], self.test_labels[test])
        return make_dataset(self.name, self.classes, *arrays)


def make_dataset(
    name: str,
    classes: Sequence[str],
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
) -> Dataset:
    """A `Dataset` with its digest, once the arrays are found to have the types and shapes that `Dataset` states.

    Raises `UserError` where they do not, where one is empty, or where a label is not an index into `classes`.
    """
    for split, images, labels in (("train", train_images, train_labels), ("test", test_images, test_labels)):
        types, shapes = (images.dtype, labels.dtype), (tuple(images.shape), tuple(labels.shape))
        n = labels.numel()
        if not n or types != (torch.uint8, torch.int64) or shapes != ((n, 32, 32, 3), (n,)):
            raise UserError(
                f"{name}: {split}: expected uint8 images (n, 32, 32, 3) and int64 labels (n,), n at least 1; "
                f"found {types[0]} {shapes[0]} and {types[1]} {shapes[1]}"
            )
        bad = torch.nonzero((labels < 0) | (labels >= len(classes)))
        if len(bad):
            wanted = f"expected a label from 0 to {len(classes) - 1}"
            raise UserError(f"{name}: {split}: row {int(bad[0])}: {wanted}, found {labels[bad[0]].item()}")
    sha = hashlib.sha256()
    for array in (train_images, train_labels, test_images, test_labels):
        sha.update(repr(tuple(array.shape)).encode())
        sha.update(array.contiguous().numpy().data)
    digest = sha.hexdigest()[:16]
    return Dataset(name, tuple(classes), train_images, train_labels, test_images, test_labels, digest)


def cache_folder() -> Path:
    """Where decoded datasets are kept: in what CIFAR_FAST_CACHE names, or cifar-fast in the user's cache folder.

    Raises `UserError` where there is neither.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(os.environ.get(CACHE_VARIABLE) or Path(base, "cifar-fast")).expanduser()
    except RuntimeError as error:  # no home folder, or no user of that name
        raise UserError(f"no cache folder: {sources.one_line(error)}; name one in {CACHE_VARIABLE}") from None


def load(source: str = "auto", *, quiet: bool = False) -> Dataset:
    """The dataset that `source` names, from the cache where it is there, else decoded and cached.

    - `cifar10`: downloaded, from the Hugging Face hub or from its author's host;
    - `synthetic`: the built-in set;
    - a folder: torchvision's (it holds `cifar-10-batches-py`), or parquet files as the Hugging Face hub serves them;
    - `auto`: what CIFAR_FAST_DATA says; else CIFAR-10 from the cache, from `data/`, or downloaded; else, under a
      banner, `synthetic`.

    CIFAR-10's images come in one order (`sources.one_order`), and so with one digest, wherever they are from; parquet
    files in a folder of another name go by that name and keep their order.
    `quiet` hides the progress bars; warnings go to stderr all the same. Raises `UserError` where the user must act.
    """
    store = cache_folder()
    if source == "auto":
        return _auto(store, quiet)
    if source == "cifar10":
        return _cached(store / CIFAR10_FILE, lambda: _download(store, quiet))
    if source == "synthetic":
        # The file is named after the generator, so that a set made by an older one is not taken for today's.
        maker = hashlib.sha256(__version__.encode() + Path(synthetic.__file__).read_bytes()).hexdigest()[:16]
        file = store / f"synthetic-{maker}.safetensors"
        return _cached(file, lambda: make_dataset("synthetic", synthetic.CLASSES, *synthetic.generate()))
    return _folder(source, store, quiet)


def _auto(store: Path, quiet: bool) -> Dataset:
    chosen = os.environ.get(DATA_VARIABLE, "")
    if chosen not in ("", "auto"):
        try:
            return load(chosen, quiet=quiet)
        except UserError as error:
            raise UserError(f"{DATA_VARIABLE}: {error}") from error
    if cached := _read(store / CIFAR10_FILE):
        return cached
    if LOCAL.is_dir():
        return _folder(str(LOCAL), store, quiet)
    try:
        return _keep(_download(store, quiet), store / CIFAR10_FILE)
    except DownloadError as error:
        _banner(str(error))
        return load("synthetic", quiet=quiet)


def _banner(why: str) -> None:
    text = (
        "SYNTHETIC DATA: this is not CIFAR-10, and results on it say nothing about CIFAR-10.",
        f"Why: {why}.",
        "To get the real data: connect to the internet and run again, or name a folder that holds it, with "
        f"--data FOLDER or {DATA_VARIABLE}=FOLDER.",
    )
    lines = [line for part in text for line in ("", *textwrap.wrap(part, 90))]
    print("#" * 94, *(f"# {line:<90} #" for line in [*lines, ""]), "#" * 94, sep="\n", file=sys.stderr)


def _download(store: Path, quiet: bool) -> Dataset:
    with _scratch(store) as scratch:
        return _cifar10(download(scratch, quiet))


def _cifar10(arrays: sources.Arrays) -> Dataset:
    return make_dataset("cifar10", sources.CIFAR10_CLASSES, *sources.one_order(arrays))


def _folder(source: str, store: Path, quiet: bool) -> Dataset:
    given = os.path.expanduser(source)
    if not source or not os.path.exists(given):
        hint = "".join(f" (did you mean {word}?)" for word in difflib.get_close_matches(source.lower(), KEYWORDS, n=1))
        raise UserError(f"{source!r} is not a dataset: expected {', '.join(KEYWORDS)} or an existing folder{hint}")
    if not os.path.isdir(given):
        raise UserError(f"{given}: expected a folder that holds the dataset, found a file")
    # A link goes by its own name, unless it leads right to the files.
    real, inner = Path(os.path.realpath(given)), (sources.BATCHES, "plain_text")
    folder = real if real.name in inner else Path(os.path.abspath(given))
    folder = folder.parent if folder.name in inner else folder
    batches = folder / sources.BATCHES
    if torchvision := os.path.isdir(batches):
        name, files, read = "cifar10", sorted(batches.glob("*")), partial(sources.read_torchvision, folder)
    else:
        train, test = sources.parquet_files(folder)
        name, files, read = folder.name, train + test, partial(sources.read_parquet, folder, quiet)
    plain = re.sub("[^a-z0-9]", "", name.lower())  # CIFAR-10, say
    file = store / f"{'ordered' if plain == 'cifar10' else 'folder'}-{stamp(folder, files)}.safetensors"

    def make() -> Dataset:
        arrays = read()
        if torchvision or (plain == "cifar10" and not sources.not_cifar10(arrays)):
            return _cifar10(arrays)
        return make_dataset(f"{name}-lookalike" if plain in KEYWORDS else name, sources.CIFAR10_CLASSES, *arrays)

    return _cached(file, make)


def _cached(file: Path, make: Callable[[], Dataset]) -> Dataset:
    return _read(file) or _keep(make(), file)


def _read(file: Path) -> Dataset | None:
    """The dataset in a cache file; None where there is none, or (a line on stderr says so) a damaged one."""
    try:
        stated, _ = header(file)
        arrays = load_file(file)
        dataset = make_dataset(stated["name"], json.loads(stated["classes"]), *(arrays[key] for key in ARRAYS))
        if dataset.digest != stated["digest"]:
            raise ValueError(f"its digest is {dataset.digest}, not {stated['digest']}")
        return dataset
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever is wrong with a cache file, the dataset can be made again
        print(f"cifar-fast: {file} is damaged ({sources.one_line(error)}); it will be made again", file=sys.stderr)
        return None


def header(file: Path) -> tuple[dict[str, str], list[int]]:
    """What a cache file states of itself, and its numbers of training and test images. Loads no image."""
    with safe_open(file, framework="pt") as opened:
        counts = [opened.get_slice(key).get_shape()[0] for key in ("train_labels", "test_labels")]
        return dict(opened.metadata()), counts


def _keep(dataset: Dataset, file: Path) -> Dataset:
    stated = {"name": dataset.name, "classes": json.dumps(dataset.classes), "digest": dataset.digest}
    with _scratch(file.parent) as scratch:
        part = scratch / file.name
        save_file({key: getattr(dataset, key).contiguous() for key in ARRAYS}, part, metadata=stated)
        os.replace(part, file)
    return dataset


@contextlib.contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """A temporary folder inside the cache folder, removed at the end. Raises `UserError` if the disk fails."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        remove_left_over(store, "tmp-")
        with tempfile.TemporaryDirectory(dir=store, prefix="tmp-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except (OSError, SafetensorError) as error:
        instead = f"free some space, or name another folder in {CACHE_VARIABLE}"
        raise UserError(f"cannot write to the cache folder {store} ({sources.one_line(error)}); {instead}") from error
