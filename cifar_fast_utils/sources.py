"""The raw forms of CIFAR-10 on disk, read into plain tensors.

Torchvision's folder of pickled batches, and the parquet files of the Hugging Face hub. Nothing here is cached: `data`
sees to that.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .errors import UserError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)
"""Of CIFAR-10's training images, RGB, in bytes; as the article has them."""
COUNTS = (50_000, 10_000)
"""Of its training and its test images."""
BATCHES = "cifar-10-batches-py"  # the folder in torchvision's archive

Arrays = tuple[Tensor, Tensor, Tensor, Tensor]
"""Training images (n, 32, 32, 3) uint8, training labels (n,) int64, test images, test labels."""


def one_line(error: BaseException) -> str:
    """An exception's kind and text, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def no_torchvision(error: Exception) -> str:
    """What to say where it does not import."""
    return f"torchvision does not import ({one_line(error)}): was it built for PyTorch {torch.__version__}?"


def not_cifar10(arrays: Arrays) -> str:
    """Why these cannot be CIFAR-10's own images, by their numbers or colours; empty where nothing speaks against it."""
    counts = (len(arrays[0]), len(arrays[2]))
    if counts != COUNTS:
        return f"expected {COUNTS[0]} training and {COUNTS[1]} test images, found {counts[0]} and {counts[1]}"
    if not coloured_as_cifar10(arrays[0]):  # re-encoded, perhaps
        return "the images' colours do not have CIFAR-10's mean and spread"
    return ""


def coloured_as_cifar10(images: Tensor) -> bool:
    """Whether uint8 images (n, 32, 32, 3) have the mean and the spread of CIFAR-10's training images, to two decimals.

    Source: the constants of the article. The same images re-encoded as JPEG do not.
    """
    counts = np.stack([images[..., c].flatten().bincount(minlength=256).numpy() for c in range(3)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(1)
    spread = np.sqrt(counts @ values**2 / counts.sum(1) - mean**2)
    return bool((abs(mean - MEAN) < 0.01).all() and (abs(spread - STD) < 0.01).all())


def one_order(arrays: Arrays) -> Arrays:
    """The same images in the order of their hashes, a random one: the hosts serve the training images in two orders."""
    ordered: list[Tensor] = []
    for images, labels in (arrays[:2], arrays[2:]):
        rows = torch.cat([labels[:, None].to(torch.uint8), images.flatten(1)], 1).numpy()
        hashes = [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
        order = torch.tensor(sorted(range(len(hashes)), key=hashes.__getitem__))
        ordered += [images[order], labels[order]]
    return ordered[0], ordered[1], ordered[2], ordered[3]


def read_torchvision(folder: Path) -> Arrays:
    """CIFAR-10 from a folder that holds torchvision's `cifar-10-batches-py`.

    No file is unpickled before its md5 checksum is found right. Raises `UserError` naming the files that fail this,
    and where torchvision does not import.
    """
    try:
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import check_integrity
    except (ImportError, RuntimeError) as error:
        raise UserError(no_torchvision(error)) from None

    def whole(name: str, md5: str) -> bool:
        try:
            return bool(check_integrity(folder / BATCHES / name, md5))
        except OSError:  # it is there, but cannot be read
            return False

    try:
        train, test = (CIFAR10(str(folder), train=train) for train in (True, False))
    except (RuntimeError, OSError) as error:
        wanted = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
        bad = [name for name, md5 in wanted if not whole(name, md5)]
        raise UserError(
            f"{folder / BATCHES}: missing, unreadable, or md5 checksum wrong: {', '.join(bad) or one_line(error)}; "
            "expected the files of cifar-10-python.tar.gz, unchanged"
        ) from error
    images = [torch.from_numpy(np.ascontiguousarray(part.data)) for part in (train, test)]
    return images[0], torch.tensor(train.targets), images[1], torch.tensor(test.targets)


def parquet_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The training and the test shards, each in order of name, of `folder/plain_text` or of `folder` itself.

    Raises `UserError` where there are none, where one split is missing, or where shards of a split are.
    """
    for place in (folder / "plain_text", folder):
        splits = {split: sorted(place.glob(f"{split}-*.parquet")) for split in ("train", "test")}
        if any(splits.values()):
            break
    else:
        raise UserError(f"{folder}: expected {BATCHES}/, or train-*.parquet and test-*.parquet (also in plain_text/)")
    for split, files in splits.items():
        if not files:
            raise UserError(f"{place}: expected {split}-*.parquet, found only the other split")
        totals = {int(match[1]) for path in files if (match := re.search(r"-of-(\d+)$", path.stem))}
        if totals and totals != {len(files)}:
            said = " and ".join(map(str, sorted(totals)))
            raise UserError(f"{place}: the {split} files' names speak of a total of {said}, found {len(files)}")
    return splits["train"], splits["test"]


def read_parquet(folder: Path, quiet: bool = False) -> Arrays:
    """Images and labels from the hub's parquet layout, in any number of shards, with a progress bar on stderr.

    Columns: `img`, a struct whose `bytes` are a PNG or JPEG image of 32×32; `label`, an integer from 0 to 9. Raises
    `UserError` naming the file, and the row (counted from 0) where one is at fault.
    """
    splits = parquet_files(folder)
    counts = [sum(_count_rows(path) for path in paths) for paths in splits]
    for paths, count in zip(splits, counts, strict=True):
        if not count:
            raise UserError(f"{', '.join(map(str, paths))}: expected images, found no rows")
    with tqdm(total=sum(counts), desc=f"decoding {folder.name}", unit=" images", disable=quiet) as bar:
        return (*_read_split(splits[0], bar), *_read_split(splits[1], bar))


def _read_split(paths: list[Path], bar: Any) -> tuple[Tensor, Tensor]:
    images: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    for path in paths:
        for row, (image, label) in enumerate(_rows(path)):
            try:
                images.append(_decode(image))
            except UserError as error:
                raise UserError(f"{path}: row {row}: {error}") from error
            if label is None or not 0 <= label < len(CIFAR10_CLASSES):
                raise UserError(f"{path}: row {row}: expected a label from 0 to 9, found {label}")
            labels.append(label)
            bar.update()
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _decode(image: bytes | None) -> np.ndarray[Any, Any]:
    if image is None:
        raise UserError("expected an image, found None")
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
            if opened.size == (32, 32):
                return np.array(as_rgb(opened))
            width, height = opened.size
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise UserError(f"not a readable PNG or JPEG image ({one_line(error)})") from error
    raise UserError(f"expected an image of 32×32, found {width}×{height}")


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture in 8-bit RGB: deep grey scaled, where `convert` would cut it off at 255; what is transparent, white.

    Raises `UserError` for grey of more than 16 bits.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        grey = np.asarray(picture)
        if picture.mode == "F" or grey.min() < 0 or grey.max() > 65_535:
            raise UserError("expected 8 or 16 bits of grey, found more")
        picture = Image.fromarray((grey // 257).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _count_rows(path: Path) -> int:
    """The file's number of rows, once its columns are found to be what they must be."""
    import pyarrow.parquet as pq
    import pyarrow.types as kind

    with _arrow_errors(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = ", ".join(schema.names)
        if [schema.names.count(name) for name in ("img", "label")] != [1, 1]:
            raise UserError(f"{path}: expected the columns img and label, found {names or 'none'}")
        img, label = schema.field("img").type, schema.field("label").type
        inner = [field.type for field in img if field.name == "bytes"] if kind.is_struct(img) else []
        if not any(kind.is_binary(one) or kind.is_large_binary(one) for one in inner):
            raise UserError(f"{path}: column img: expected a struct with binary bytes, found {img}")
        if not kind.is_integer(label):
            raise UserError(f"{path}: column label: expected integers, found {label}")
        return int(file.metadata.num_rows)


def _rows(path: Path) -> Iterator[tuple[bytes | None, int | None]]:
    import pyarrow.parquet as pq

    with _arrow_errors(path), pq.ParquetFile(path) as file:
        seen = 0
        for batch in file.iter_batches(batch_size=1024, columns=["img.bytes", "label"]):
            seen += batch.num_rows
            yield from zip(batch.column("img").flatten()[0].to_pylist(), batch.column("label").to_pylist(), strict=True)
        if seen != file.metadata.num_rows:  # a damaged header can make Arrow stop early without a word
            raise OSError(f"expected {file.metadata.num_rows} rows, found {seen}")


@contextlib.contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable parquet file ({one_line(error)})") from error
