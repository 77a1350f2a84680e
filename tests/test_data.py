"""Datasets: what each source gives, what the cache keeps, and in which order `auto` looks."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from servers import Hosts, Reply, arrays, hosts, message, same, write_batches, write_parquet

from cifar_fast_utils import data, download, sources, synthetic
from cifar_fast_utils.data import Dataset, load, make_dataset
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.info import found
from cifar_fast_utils.sources import BATCHES, CIFAR10_CLASSES, Arrays

GENERATE = synthetic.generate


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of our own: an empty current folder, an empty cache, no settings, a small synthetic set, no internet."""
    from torchvision.datasets import CIFAR10

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CIFAR_FAST_DATA", raising=False)
    monkeypatch.setenv("CIFAR_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(synthetic, "generate", partial(GENERATE, 30, 20))
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/author.tar.gz")
    monkeypatch.setattr(download, "HUB", "http://127.0.0.1:9/hub/")
    return tmp_path / "cache"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    with hosts(tmp_path / "served", monkeypatch) as served:
        yield served


def arrays_of(dataset: Dataset) -> Arrays:
    return dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels


def holds(dataset: Dataset, expected: Arrays) -> bool:
    """The same images with the same labels, in any order: CIFAR-10's, which is brought into one."""

    def contents(arrays: Arrays) -> list[list[tuple[bytes, int]]]:
        return [
            sorted((image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
            for images, labels in (arrays[:2], arrays[2:])
        ]

    got = arrays_of(dataset)
    return contents(got) == contents(expected) and [a.dtype for a in got] == [a.dtype for a in expected]


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on only the cache can answer."""

    def fail(*_: object) -> Arrays:
        raise AssertionError("this should have come from the cache")

    for module, name in ((sources, "read_parquet"), (sources, "read_torchvision"), (data, "download")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(synthetic, "generate", fail)


# Dataset


@given(seed=st.integers(0, 1000), which=st.integers(0, 3))
def test_digest_is_of_the_contents(seed: int, which: int) -> None:
    one = make_dataset("a", CIFAR10_CLASSES, *arrays(4, 3, seed))
    again = make_dataset("b", CIFAR10_CLASSES, *arrays(4, 3, seed))
    changed = [array.clone() for array in arrays(4, 3, seed)]
    changed[which].view(-1)[-1] = 9 - changed[which].view(-1)[-1]
    other = make_dataset("a", CIFAR10_CLASSES, *changed)
    assert len(one.digest) == 16
    assert one.digest == again.digest != other.digest


def test_the_digest_and_the_order_are_those_that_were_recorded() -> None:
    """By them recorded runs are told to be on the same images: with others none would be comparable any more."""
    (a, b), (c, d) = ((torch.full((1, 32, 32, 3), n, dtype=torch.uint8), torch.tensor([n + 1])) for n in (1, 3))
    assert make_dataset("x", CIFAR10_CLASSES, a, b, c, d).digest == "b790cfdc0565a0f5"
    images = torch.arange(8, dtype=torch.uint8)[:, None, None, None].repeat(1, 32, 32, 3)
    assert sources.one_order((images, torch.arange(8)) * 2)[1].tolist() == [7, 1, 3, 6, 5, 0, 2, 4]


def test_digest_counts_what_belongs_to_which_split() -> None:
    images, labels = torch.zeros(5, 32, 32, 3, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)
    digests = {make_dataset("a", ("x",), images[:n], labels[:n], images[n:], labels[n:]).digest for n in range(1, 5)}
    assert len(digests) == 4


def test_digest_does_not_depend_on_memory_layout() -> None:
    a, b, c, d = arrays(6, 4)
    turned = a.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert not turned.is_contiguous()
    assert (
        make_dataset("x", CIFAR10_CLASSES, turned, b, c, d).digest
        == make_dataset("x", CIFAR10_CLASSES, a, b, c, d).digest
    )


def test_dataset_is_frozen_and_shows_no_pixels() -> None:
    dataset = make_dataset("x", CIFAR10_CLASSES, *arrays())
    with pytest.raises(FrozenInstanceError):
        dataset.name = "y"  # type: ignore[misc]
    assert repr(dataset) == f"Dataset(name='x', classes={CIFAR10_CLASSES!r}, digest='{dataset.digest}')"


def test_subset_is_the_first_images() -> None:
    a, b, c, d = arrays(20, 10)
    whole = make_dataset("x", CIFAR10_CLASSES, a, b, c, d)
    part = whole.subset(7, 3)
    assert same(arrays_of(part), (a[:7], b[:7], c[:3], d[:3]))
    assert part.name == "x"
    assert part.digest == make_dataset("x", CIFAR10_CLASSES, a[:7], b[:7], c[:3], d[:3]).digest != whole.digest
    assert whole.subset(100, 10).digest == whole.digest
    for sizes in ((0, 3), (7, 0), (-1, 3)):
        assert "at least 1" in message(lambda sizes=sizes: whole.subset(*sizes))  # type: ignore[misc]


GOOD = arrays(4, 3)
BAD_ARRAYS = {
    "float images": ((GOOD[0].float(), *GOOD[1:]), "train: expected uint8 images"),
    "channels first": ((GOOD[0].permute(0, 3, 1, 2), *GOOD[1:]), "found torch.uint8 (4, 3, 32, 32)"),
    "64 pixels": ((*GOOD[:2], torch.zeros(3, 64, 64, 3, dtype=torch.uint8), GOOD[3]), "test: expected uint8 images"),
    "int32 labels": ((*GOOD[:3], GOOD[3].int()), "torch.int32 (3,)"),
    "labels in a column": ((*GOOD[:3], GOOD[3][:, None]), "torch.int64 (3, 1)"),
    "a label too few": ((GOOD[0], GOOD[1][:3], *GOOD[2:]), "found torch.uint8 (4, 32, 32, 3) and torch.int64 (3,)"),
    "no test images": ((*GOOD[:2], GOOD[2][:0], GOOD[3][:0]), "test: expected uint8 images (n, 32, 32, 3) and"),
    "label 10": (
        (GOOD[0], torch.tensor([0, 1, 10, 2]), *GOOD[2:]),
        "train: row 2: expected a label from 0 to 9, found 10",
    ),
    "label -1": ((*GOOD[:3], torch.tensor([-1, 1, 2])), "test: row 0: expected a label from 0 to 9, found -1"),
}


@pytest.mark.parametrize(("bad", "expected"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_make_dataset_refuses_bad_arrays(bad: Arrays, expected: str) -> None:
    said = message(lambda: make_dataset("mine", CIFAR10_CLASSES, *bad))
    assert said.startswith("mine: ")
    assert expected in said


# Folders


def test_parquet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_parquet(tmp_path / "my-images", arrays(), shards=2)
    first = load(str(folder))
    assert "30/30" in capsys.readouterr().err
    assert (first.name, first.classes) == ("my-images", CIFAR10_CLASSES)
    assert same(arrays_of(first), arrays())  # in the folder's order
    no_decoding(monkeypatch)
    again = load(str(folder))
    assert same(arrays_of(again), arrays())
    assert (again.name, again.classes, again.digest) == (first.name, first.classes, first.digest)
    monkeypatch.chdir(folder)
    assert load(".").name == "my-images"
    assert capsys.readouterr() == ("", "")


def test_what_is_called_cifar10_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = tuple(len(arrays()[k]) for k in (0, 2))
    monkeypatch.setattr(sources, "COUNTS", numbers)
    folder = write_parquet(tmp_path / "cifar10", arrays())
    assert load(str(folder), quiet=True).name == "cifar10-lookalike"
    for alike in ("CIFAR-10", "cifar_10"):
        assert load(str(write_parquet(tmp_path / alike, arrays())), quiet=True).name == f"{alike}-lookalike"
    assert load(str(folder), quiet=True).name == "cifar10-lookalike"  # from the cache
    assert load(str(write_parquet(tmp_path / "synthetic", arrays())), quiet=True).name == "synthetic-lookalike"
    cached = "\n".join(line for line in found() if line.startswith("cached: "))
    assert {"cifar10-lookalike", "synthetic-lookalike"} <= set(re.findall(r"^cached: ([\w-]+),", cached, re.MULTILINE))
    images = arrays()[0].double()
    mean, spread = images.mean((0, 1, 2)).numpy(), images.std((0, 1, 2), correction=0).numpy()
    for off, name in ((0.009, "cifar10"), (0.011, "cifar10-lookalike")):  # as if these were CIFAR-10's own
        for constant, value in (("MEAN", mean), ("STD", spread)):
            with monkeypatch.context() as patch:
                patch.setattr(sources, "MEAN", mean)
                patch.setattr(sources, "STD", spread)
                patch.setattr(sources, constant, value + off)
                folder = write_parquet(tmp_path / f"{constant}{off}" / "cifar10", arrays())  # not cached yet
                assert load(str(folder), quiet=True).name == name
    with monkeypatch.context() as patch:
        patch.setattr(sources, "coloured_as_cifar10", lambda images: True)
        for count, name in ((numbers, "cifar10"), ((numbers[0], numbers[1] + 1), "CIFAR10-lookalike")):
            patch.setattr(sources, "COUNTS", count)
            folder = write_parquet(tmp_path / f"{count[1]}" / "CIFAR10", arrays())
            assert load(str(folder), quiet=True).name == name


def test_a_link_to_a_folder_goes_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-images").symlink_to(write_parquet(tmp_path / "v3", arrays()))
    assert load(str(tmp_path / "my-images"), quiet=True).name == "my-images"
    assert load(str(tmp_path / "v3"), quiet=True).name == "v3"  # though its files are the same
    (tmp_path / "own").mkdir()
    real = write_batches(tmp_path / "own", arrays(), monkeypatch) / sources.BATCHES
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / sources.BATCHES
    link.symlink_to(real.rename(tmp_path / "c10"))
    for folder in (link, link.parent):
        assert load(str(folder), quiet=True).name == "cifar10"
    (tmp_path / "c10").rename(real)
    (tmp_path / "mine").symlink_to(real)
    assert load(str(tmp_path / "mine"), quiet=True).name == "cifar10"


def test_a_link_into_nowhere_is_one_line(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "images", arrays())
    file = next(folder.rglob("train-*.parquet"))
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=f"cannot read .*{file.name}: No such file"):
        load(str(folder), quiet=True)


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "home" / "images", arrays())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load("~/images", quiet=True).name == "images"


def test_a_file_of_the_same_size_but_another_time_is_read_again(tmp_path: Path) -> None:
    a, b, c, d = arrays()
    old, new = ((a, torch.full_like(b, label), c, d) for label in (3, 4))
    file = write_parquet(tmp_path / "images", old) / "plain_text" / "train-00000-of-00001.parquet"
    size = file.stat().st_size
    load(str(tmp_path / "images"), quiet=True)
    before = file.stat().st_mtime_ns
    write_parquet(tmp_path / "images", new)
    os.utime(file, ns=(before + 10**9, before + 10**9))  # some file systems count whole seconds
    assert file.stat().st_size == size
    assert same(arrays_of(load(str(tmp_path / "images"), quiet=True)), new)


@pytest.mark.parametrize("inside", ["", BATCHES])
def test_torchvision_folder(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_batches(tmp_path / "downloads", arrays(), monkeypatch) / inside
    first = load(str(folder))
    assert (first.name, first.classes) == ("cifar10", CIFAR10_CLASSES)
    assert holds(first, arrays())
    no_decoding(monkeypatch)
    assert load(str(folder)).digest == first.digest


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    assert message(lambda: load("/no/such")) == (
        "'/no/such' is not a dataset: expected auto, cifar10, synthetic or an existing folder"
    )
    for wrong, meant in (("cifar-10", "cifar10"), ("CIFAR10", "cifar10"), ("sinthetic", "synthetic")):
        assert message(lambda wrong=wrong: load(wrong)).endswith(f"(did you mean {meant}?)")  # type: ignore[misc]
    assert message(lambda: load("")).startswith("'' is not a dataset")
    assert message(lambda: load("x" * 5000)).endswith("or an existing folder")
    (tmp_path / "file").touch()
    assert message(lambda: load(str(tmp_path / "file"))).endswith(
        "expected a folder that holds the dataset, found a file"
    )
    (tmp_path / "empty").mkdir()
    assert message(lambda: load(str(tmp_path / "empty"))).startswith(f"{tmp_path / 'empty'}: expected ")


# The cache


def spoil_pixel(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-5000, os.SEEK_END)
        byte = opened.read(1)[0]
        opened.seek(-5000, os.SEEK_END)
        opened.write(bytes([byte ^ 1]))


DAMAGES = {
    "cut off": lambda file: os.truncate(file, 1000),
    "a pixel": spoil_pixel,
    "empty": lambda file: file.write_bytes(b""),
    "no digest": lambda file: save_file(load_file(file), file),
    "no arrays": lambda file: save_file({}, file, {"name": "x", "classes": "[]", "digest": ""}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cache_file_is_made_again(
    damage: Callable[[Path], None], cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load("synthetic")
    (file,) = cache.iterdir()
    damage(file)
    assert any(line.startswith("cached: damaged (") for line in found()) == (
        damage is not DAMAGES["a pixel"]
    )  # that, only reading shows
    assert load("synthetic").digest == first.digest
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith(f"cifar-fast: {file} is damaged (")
    no_decoding(monkeypatch)
    assert load("synthetic").digest == first.digest


def test_the_cache_folder_is_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CIFAR_FAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data.cache_folder() == tmp_path / "xdg" / "cifar-fast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_folder() == Path.home() / ".cache" / "cifar-fast"
    monkeypatch.setenv("CIFAR_FAST_CACHE", str(tmp_path / "x"))
    load("synthetic")
    assert len(list((tmp_path / "x").iterdir())) == 1
    assert not (tmp_path / "cache").exists()


def test_without_a_home_a_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_FAST_CACHE", "~no-such-user/cache")
    assert message(data.cache_folder).startswith("no cache folder: ")
    assert found() == ["built in: synthetic"]


def test_a_changed_generator_is_used(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("synthetic")
    changed = tmp_path / "synthetic.py"
    changed.write_text("# another generator\n")
    monkeypatch.setattr(synthetic, "__file__", str(changed))
    monkeypatch.setattr(synthetic, "generate", partial(GENERATE, 40, 20))
    assert len(load("synthetic").train_images) == 40
    monkeypatch.setattr(data, "__version__", "0.0.0")
    monkeypatch.setattr(synthetic, "generate", partial(GENERATE, 50, 20))
    assert len(load("synthetic").train_images) == 50


FULL = OSError(errno.ENOSPC, "No space left on device")
LIBRARY_FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("error", [FULL, LIBRARY_FULL], ids=["python", "safetensors"])
def test_a_full_disk_leaves_nothing_behind(error: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(data, "save_file", half)
    said = message(lambda: load("synthetic"))
    assert str(cache) in said
    assert "No space left on device" in said
    assert "CIFAR_FAST_CACHE" in said
    assert list(cache.iterdir()) == []


def test_a_file_appears_in_the_cache_whole_or_not_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(part: Path, file: Path) -> None:
        assert part.is_relative_to(cache)  # the same disk, or replacing would not be one step
        assert file.parent == cache
        raise FULL

    monkeypatch.setattr(os, "replace", refuse)
    assert "No space left on device" in message(lambda: load("synthetic"))
    assert list(cache.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("synthetic")
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("CIFAR_FAST_CACHE", str(place))
        said = message(lambda: load("synthetic"))
        assert said.startswith(f"cannot write to the cache folder {place} (")
    assert capsys.readouterr().err == ""  # nothing was there to be damaged


# Downloads


@pytest.mark.parametrize("hub", ["good", "bad"])
def test_cifar10_is_downloaded_once(
    hub: str, net: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if hub == "bad":
        net.spoil("hub", Reply(b"no parquet"))
    first = load("cifar10", quiet=True)
    assert ("trying the author's host" in capsys.readouterr().err) == (hub == "bad")
    assert first.name == "cifar10"
    assert holds(first, net.data)
    assert [file.name for file in cache.iterdir()] == ["cifar10-ordered.safetensors"]
    no_decoding(monkeypatch)
    assert load("cifar10").digest == load("auto").digest == first.digest


def test_from_wherever_it_comes_it_is_the_same(
    tmp_path: Path, net: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts serve the training images in different orders, and a run depends on the order."""
    from_hub = load("cifar10", quiet=True)
    assert not torch.equal(net.hub[0], net.data[0])
    (cache / "cifar10-ordered.safetensors").unlink()
    net.spoil("hub", Reply(status=404))
    from_author = load("cifar10", quiet=True)
    (tmp_path / "own").mkdir()
    folder = load(str(write_batches(tmp_path / "own", net.data, monkeypatch)), quiet=True)
    (tmp_path / "named").mkdir()
    parquet = load(str(write_parquet(tmp_path / "named" / "cifar10", net.hub)), quiet=True)
    assert {from_hub.digest, from_author.digest, folder.digest, parquet.digest} == {from_hub.digest}
    assert {from_hub.name, parquet.name} == {"cifar10"}
    assert holds(from_hub, net.data)


def test_a_failed_download_leaves_nothing_behind(net: Hosts, cache: Path) -> None:
    for host in ("author", "hub"):
        net.spoil(host, Reply(b"cut", lost=10))
    said = message(lambda: load("cifar10", quiet=True))
    assert "--data synthetic" in said
    assert net.asked[-1].startswith("/author")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("source", ["cifar10", "auto"])
def test_a_full_disk_is_not_blamed_on_a_host(
    source: str, net: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(url: str, path: str, progress: bool) -> None:
        Path(path).write_bytes(b"half a file")
        raise FULL

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    assert message(lambda: load(source, quiet=True)).startswith(f"cannot write to the cache folder {cache} (")
    assert list(cache.iterdir()) == []
    assert "SYNTHETIC" not in capsys.readouterr().err


# What `auto` takes


def test_auto_takes_the_setting_first(tmp_path: Path, net: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    load("cifar10", quiet=True)
    monkeypatch.setenv("CIFAR_FAST_DATA", str(write_parquet(tmp_path / "mine", arrays(seed=5))))
    assert load(quiet=True).name == "mine"
    assert load("cifar10").name == "cifar10"  # asked for by name, the setting does not count
    monkeypatch.setenv("CIFAR_FAST_DATA", "synthetic")
    assert load().name == "synthetic"
    for nothing in ("", "auto"):
        monkeypatch.setenv("CIFAR_FAST_DATA", nothing)
        assert load().name == "cifar10"
    monkeypatch.setenv("CIFAR_FAST_DATA", "/no/such")
    assert message(load).startswith("CIFAR_FAST_DATA: '/no/such' is not a dataset")


def test_auto_prefers_the_cache_then_the_data_folder(
    net: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    downloaded = load(quiet=True)
    assert holds(downloaded, net.data)
    asked = len(net.asked)
    write_batches(Path("data"), arrays(seed=9), monkeypatch)
    assert load(quiet=True).digest == downloaded.digest
    os.truncate(cache / "cifar10-ordered.safetensors", 100)
    here = load(quiet=True)
    assert here.name == "cifar10"
    assert holds(here, arrays(seed=9))
    assert len(net.asked) == asked
    assert capsys.readouterr().err.count("is damaged") == 1


def test_auto_ends_at_synthetic_under_a_banner(capsys: pytest.CaptureFixture[str]) -> None:
    assert load(quiet=True).name == "synthetic"
    out, err = capsys.readouterr()
    assert out == ""
    first, *banner = err.splitlines()
    assert "trying the author's host" in first
    assert len(banner) > 5
    assert {len(line) for line in banner} == {94}
    assert all(line.startswith("#") and line.endswith("#") for line in banner)
    for needed in ("SYNTHETIC DATA", "Connection refused", "--data FOLDER", "CIFAR_FAST_DATA=FOLDER"):
        assert needed in " ".join(line.strip("# ") for line in banner)


# What `info` lists


def test_found_lists_what_is_here(tmp_path: Path, net: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found() == ["built in: synthetic"]
    load("cifar10", quiet=True)
    monkeypatch.setenv("CIFAR_FAST_DATA", str(write_parquet(tmp_path / "mine", arrays(12, 3))))
    load(quiet=True)
    write_batches(Path("data"), arrays(), monkeypatch)
    first, cifar10, mine, local, last = found()
    assert first == f"CIFAR_FAST_DATA: {tmp_path / 'mine'}"
    assert cifar10 == f"cached: cifar10, 20 training and 10 test images ({cache / 'cifar10-ordered.safetensors'})"
    assert mine.startswith("cached: mine, 12 training and 3 test images (")
    assert local == f"folder: cifar10 in {Path('data', BATCHES).resolve()}"
    assert last == "built in: synthetic"
    monkeypatch.setenv("CIFAR_FAST_DATA", "/no/such")
    assert found()[0] == "CIFAR_FAST_DATA: /no/such (no such folder)"


def test_importing_data_imports_neither_torchvision_nor_pyarrow() -> None:
    code = "import sys, cifar_fast_utils.data; print({'torchvision', 'pyarrow'} & set(sys.modules))"
    root = Path(data.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "set()"
