"""The raw forms: what is read is what was written, and whatever is wrong is said in one line."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from servers import (
    Pixels,
    Touch,
    arrays,
    encode,
    message,
    same,
    table,
    write_batches,
    write_parquet,
)

from cifar_fast_utils import sources
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.sources import BATCHES


@settings(max_examples=20, deadline=None)
@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(32), st.just(32), st.just(3))),
    label=st.integers(0, 9),
)
def test_png_parquet_gives_back_every_pixel(images: Pixels, label: int) -> None:
    data = (torch.from_numpy(images), torch.full((len(images),), label))
    with tempfile.TemporaryDirectory() as folder:
        assert same(sources.read_parquet(write_parquet(Path(folder), (*data, *data)), quiet=True), (*data, *data))


@settings(max_examples=20, deadline=None)
@given(shards=st.integers(1, 25))
def test_any_sharding_gives_the_same_dataset(shards: int) -> None:
    data = arrays(20, 10)  # with more shards than images, some hold no rows
    with tempfile.TemporaryDirectory() as folder:
        assert same(sources.read_parquet(write_parquet(Path(folder), data, shards), quiet=True), data)


def test_parquet_files_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    data = arrays()
    assert same(sources.read_parquet(write_parquet(tmp_path, data) / "plain_text", quiet=True), data)


def test_jpeg_is_read_as_close_as_jpeg_is(tmp_path: Path) -> None:
    flat = np.full((3, 32, 32, 3), (200, 100, 50), np.uint8)
    for split in ("train", "test"):
        pq.write_table(table(flat, [0, 1, 2], "JPEG"), tmp_path / f"{split}-0.parquet")
    images, labels, _, _ = sources.read_parquet(tmp_path, quiet=True)
    assert (images.int() - torch.from_numpy(flat).int()).abs().max() <= 3
    assert labels.tolist() == [0, 1, 2]


def test_a_set_saved_with_large_columns_is_read(tmp_path: Path) -> None:
    whole = table(np.zeros((3, 32, 32, 3), np.uint8), [0, 1, 2])
    img = pa.struct([pa.field(f.name, pa.large_binary() if f.name == "bytes" else f.type) for f in whole["img"].type])
    large = whole.set_column(whole.schema.get_field_index("img"), "img", whole["img"].cast(img))
    for split in ("train", "test"):
        pq.write_table(large, tmp_path / f"{split}-0.parquet")
    assert sources.read_parquet(tmp_path, quiet=True)[1].tolist() == [0, 1, 2]


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(1024, dtype=np.uint16).reshape(1, 32, 32).astype(np.uint8)
    for split in ("train", "test"):
        pq.write_table(table(grey, [7]), tmp_path / f"{split}-0.parquet")
    images = sources.read_parquet(tmp_path, quiet=True)[0]
    assert torch.equal(images, torch.from_numpy(grey)[..., None].expand(1, 32, 32, 3))


def test_deep_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    """16 bits of grey scaled, not cut off at 255; what is transparent white."""
    deep = Image.fromarray(np.full((32, 32), 30_000, np.uint16))
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    for picture, value in ((deep, 116), (clear, 255)):
        assert np.unique(np.asarray(sources.as_rgb(picture))).tolist() == [value]


def test_progress_is_on_stderr_and_can_be_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path, arrays())
    sources.read_parquet(tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")
    sources.read_parquet(tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "30/30" in err


def spoilt(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values: pa.Array) -> Callable[[Path], None]:
    return spoilt(lambda t: t.set_column(t.column_names.index(name), name, values))


def misname(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"label", b"\xff\xfebel"))  # no UTF-8


def labels_with(row: int, label: int | None) -> pa.Array:
    return pa.array([label if i == row else 1 for i in range(20)], pa.int64())


def images_with(row: int, image: bytes | None) -> pa.Array:
    good = encode(np.zeros((32, 32, 3), np.uint8))
    return pa.array([{"bytes": image if i == row else good} for i in range(20)])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil_middle(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(5000) + whole[5200:])


TALL = encode(np.zeros((64, 48, 3), np.uint8))
GIF = encode(np.zeros((32, 32, 3), np.uint8), "GIF")
HALF = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))[:1500]
BAD_TRAIN_FILES = {
    "empty file": (lambda path: path.write_bytes(b""), "not a readable parquet file"),
    "text file": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "not a readable"),
    "cut off": (cut, "not a readable parquet file"),
    "name not in UTF-8": (misname, "not a readable parquet file (UnicodeDecodeError"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "not a readable parquet file"),
    "no label": (spoilt(lambda t: t.drop_columns(["label"])), "expected the columns img and label, found img"),
    "other names": (
        spoilt(lambda t: t.rename_columns(["image", "y"])),
        "expected the columns img and label, found image, y",
    ),
    "no columns": (spoilt(lambda t: t.select([])), "expected the columns img and label, found none"),
    "twice img": (spoilt(lambda t: t.append_column("img", t["img"])), "expected the columns img and label, found img,"),
    "img a string": (with_column("img", pa.array(["x"] * 20)), "expected a struct with binary bytes, found string"),
    "img without bytes": (
        with_column("img", pa.array([{"path": "x"}] * 20)),
        "expected a struct with binary bytes, found struct<path: string>",
    ),
    "bytes a number": (with_column("img", pa.array([{"bytes": 1}] * 20)), "found struct<bytes: int64>"),
    "label a float": (with_column("label", pa.array([1.0] * 20)), "column label: expected integers, found double"),
    "label too great": (with_column("label", labels_with(7, 10)), "row 7: expected a label from 0 to 9, found 10"),
    "label below 0": (with_column("label", labels_with(19, -1)), "row 19: expected a label from 0 to 9, found -1"),
    "label null": (with_column("label", labels_with(0, None)), "row 0: expected a label from 0 to 9, found None"),
    "bytes null": (with_column("img", images_with(3, None)), "row 3: expected an image, found None"),
    "img null": (
        with_column("img", pa.array([None, *images_with(0, b"").to_pylist()[1:]])),
        "row 0: expected an image, found None",
    ),
    "image too big": (with_column("img", images_with(4, TALL)), "row 4: expected an image of 32×32, found 48×64"),
    "image cut off": (with_column("img", images_with(5, HALF)), "row 5: not a readable PNG or JPEG image"),
    "a GIF": (with_column("img", images_with(6, GIF)), "row 6: not a readable PNG or JPEG image"),
    "no rows": (spoilt(lambda t: t.slice(0, 0)), "expected images, found no rows"),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD_TRAIN_FILES.values(), ids=BAD_TRAIN_FILES.keys())
def test_a_bad_parquet_file_is_named(spoil: Callable[[Path], None], expected: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path, arrays()) / "plain_text" / "train-00000-of-00001.parquet"
    spoil(path)
    said = message(lambda: sources.read_parquet(tmp_path, quiet=True))
    assert said.startswith(f"{path}: ")
    assert expected in said


def test_a_file_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, arrays()) / "plain_text" / "train-00000-of-00001.parquet"
    spoil_middle(path)
    assert message(lambda: sources.read_parquet(tmp_path, quiet=True)).startswith(f"{path}: ")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_never_escapes_as_another_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = write_parquet(Path(name), arrays(3, 1)) / "plain_text" / "train-00000-of-00001.parquet"
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            whole[-data.draw(st.integers(1, 1500))] = data.draw(st.integers(0, 255))  # the file's own description
        path.write_bytes(whole)
        try:
            shape = sources.read_parquet(Path(name), quiet=True)[0].shape
        except UserError:
            return
        assert shape == (3, 32, 32, 3)


def test_rows_that_do_not_come_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged headers were seen to make Arrow end early without an error."""
    write_parquet(tmp_path, arrays())
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: iter(()))
    assert "expected 20 rows, found 0" in message(lambda: sources.read_parquet(tmp_path, quiet=True))


def test_folders_without_a_dataset_are_refused(tmp_path: Path) -> None:
    assert message(lambda: sources.parquet_files(tmp_path)).startswith(f"{tmp_path}: expected {BATCHES}/, or train-*")
    place = write_parquet(tmp_path, arrays()) / "plain_text"
    (place / "test-00000-of-00001.parquet").unlink()
    assert message(lambda: sources.parquet_files(tmp_path)).startswith(f"{place}: expected test-*.parquet")


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    place = write_parquet(tmp_path, arrays(), shards=3) / "plain_text"
    (place / "train-00001-of-00003.parquet").unlink()
    assert message(lambda: sources.parquet_files(tmp_path)).endswith("speak of a total of 3, found 2")


def test_torchvision_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = arrays()
    assert same(sources.read_torchvision(write_batches(tmp_path, data, monkeypatch)), data)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_no_pickle_is_opened_before_its_checksum(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap, mark = pickle.dumps(Touch(tmp_path / "mark")), tmp_path / "mark"
    pickle.loads(trap)
    assert mark.exists()  # the trap works
    mark.unlink()
    write_batches(tmp_path, arrays(), monkeypatch)
    (tmp_path / BATCHES / name).write_bytes(trap)
    said = message(lambda: sources.read_torchvision(tmp_path))
    assert f"or md5 checksum wrong: {name};" in said
    assert not mark.exists()


def test_a_torchvision_for_another_pytorch_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert "torchvision does not import" in message(lambda: sources.read_torchvision(tmp_path))


def test_torchvision_folder_with_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path, arrays(), monkeypatch)
    (tmp_path / BATCHES / "test_batch").unlink()
    said = "missing, unreadable, or md5 checksum wrong: test_batch;"
    assert said in message(lambda: sources.read_torchvision(tmp_path))


def test_torchvision_folder_with_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import utils

    def denied(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    write_batches(tmp_path, arrays(), monkeypatch)
    (tmp_path / BATCHES / "test_batch").unlink()
    monkeypatch.setattr(utils, "check_integrity", denied)
    assert "missing, unreadable, or md5 checksum wrong: data_batch_1" in message(
        lambda: sources.read_torchvision(tmp_path)
    )


def test_the_real_images_are_all_there(real: Dataset) -> None:
    if len(real.train_labels) != 50_000:
        pytest.skip("CIFAR_FAST_DATA names a part of CIFAR-10")
    assert real.train_images.shape == (50_000, 32, 32, 3)
    assert real.test_images.shape == (10_000, 32, 32, 3)
    assert real.train_labels.bincount().tolist() == [5_000] * 10
    assert real.test_labels.bincount().tolist() == [1_000] * 10
