"""CIFAR-10 from the net: whatever a host does, the images come whole, or one line says why not."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from servers import Hosts, Reply, hosts, message, same

from cifar_fast_utils import download as net_of
from cifar_fast_utils import sources
from cifar_fast_utils.download import DownloadError, download
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.sources import BATCHES, Arrays, coloured_as_cifar10, one_order


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    with hosts(tmp_path / "served", monkeypatch) as served:
        yield served


def test_download_asks_the_hub_only(net: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert same(download(tmp_path), net.hub)
    assert all(path.startswith("/hub/") for path in net.asked)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


def test_quiet_download_says_nothing(net: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert same(download(tmp_path, quiet=True), net.hub)
    assert capsys.readouterr() == ("", "")
    net.spoil("hub", Reply(status=404))
    assert same(download(tmp_path, quiet=True), net.data)
    assert len(capsys.readouterr().err.splitlines()) == 1


BAD = {  # what a host may reply, made from what it should
    "not found": lambda whole: Reply(status=404),
    "server error": lambda whole: Reply(status=503),
    "silent": lambda whole: Reply(whole, silent=2.0),
    "cut off": lambda whole: Reply(whole[:-200], lost=200),
    "another file": lambda whole: Reply(b"<html>Please log in</html>"),
    "closed at once": lambda whole: Reply(b"", lost=1000),
}
SAID = {"not found": "HTTP Error 404", "server error": "HTTP Error 503", "silent": "timed out"}


@pytest.mark.parametrize("case", BAD)
def test_where_the_hub_fails_the_author_serves(
    case: str, net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if case == "silent":  # a good reply may take a while on a busy machine
        monkeypatch.setattr(net_of, "TIMEOUT", 1.0)
    name = "/hub/train-00000-of-00001.parquet" if case in ("cut off", "silent") else "/hub/test-00000-of-00001.parquet"
    net.replies[name] = BAD[case](net.replies[name].body)
    assert same(download(tmp_path, quiet=True), net.data)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "failed (" in err
    assert re.search(SAID.get(case, "not a readable parquet file|IncompleteRead"), err)
    assert "trying the author's host, 127.0.0.1" in err


@pytest.mark.parametrize("case", BAD)
def test_where_both_fail_both_reasons_are_given(
    case: str, net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "silent":
        monkeypatch.setattr(net_of, "TIMEOUT", 1.0)
    net.spoil("hub", Reply(status=410))
    net.spoil("author", BAD[case](net.replies["/author.tar.gz"].body))
    said = message(lambda: download(tmp_path, quiet=True), DownloadError)
    assert "HTTP Error 410" in said
    assert said.endswith("use --data FOLDER with a copy of your own, or --data synthetic")
    # http.client may notice that a body was cut off before the checksum does
    assert re.search(SAID.get(case, "checksum is wrong|IncompleteRead"), said)


def test_without_certificates_a_mac_is_told_where_they_are(
    net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unverified(*_: object) -> Arrays:
        raise OSError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate")

    monkeypatch.setattr(net_of, "_from_hub", unverified)
    monkeypatch.setattr(net_of, "_from_author", unverified)
    assert "Install Certificates.command" in message(lambda: download(tmp_path, quiet=True), DownloadError)


def test_unreachable_hosts(net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr(CIFAR10, "url", f"{address}/author.tar.gz")
        monkeypatch.setattr(net_of, "HUB", f"{address}/hub/")
        said = message(lambda: download(tmp_path, quiet=True), DownloadError)
    assert said.count("Connection refused") == 2
    assert net.asked == []


def test_the_hub_must_serve_all_images(net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "COUNTS", (50_000, 10_000))
    net.spoil("author", Reply(status=404))
    said = message(lambda: download(tmp_path, quiet=True), DownloadError)
    assert "expected 50000 training and 10000 test images, found 20 and 10" in said


def test_the_hub_must_serve_cifar10s_colours(net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "coloured_as_cifar10", coloured_as_cifar10)
    net.spoil("author", Reply(status=404))
    said = message(lambda: download(tmp_path, quiet=True), DownloadError)
    assert "the images' colours do not have CIFAR-10's mean and spread" in said


def test_a_torchvision_that_does_not_import_is_no_traceback(
    net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One made for another PyTorch raises even at the import. The hub needs none."""
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert len(download(tmp_path, quiet=True)[0]) == 20
    net.spoil("hub", Reply(status=404))
    said = message(lambda: download(tmp_path, quiet=True), DownloadError)
    assert "and torchvision does not import (ModuleNotFoundError" in said


def test_an_archive_with_a_wrong_checksum_is_not_unpacked(net: Hosts, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    net.spoil("hub", Reply(status=404))
    net.spoil("author", Reply(net.replies["/author.tar.gz"].body + b"\0"))
    message(lambda: download(tmp_path / "scratch", quiet=True), DownloadError)
    assert not (tmp_path / "scratch" / BATCHES).exists()


def test_the_socket_timeout_is_put_back(net: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []

    def look(*_: object) -> Arrays:
        seen.append(socket.getdefaulttimeout())
        raise UserError("only looking")

    monkeypatch.setattr(net_of, "_from_hub", look)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77.0)
    try:
        download(tmp_path, quiet=True)
        assert (seen, socket.getdefaulttimeout()) == ([30.0], 77.0)
    finally:
        socket.setdefaulttimeout(before)


def test_one_order_keeps_each_label_with_its_image(net: Hosts) -> None:
    ordered = one_order(net.data)
    assert same(ordered, one_order(net.hub))
    assert not same(ordered, net.data)
    pairs = [
        {(image.numpy().tobytes(), int(label)) for image, label in zip(*some, strict=True)}
        for some in (ordered[:2], net.data[:2], ordered[2:], net.data[2:])
    ]
    assert pairs[0] == pairs[1]
    assert pairs[2] == pairs[3]
    assert torch.equal(one_order(ordered)[0], ordered[0])
