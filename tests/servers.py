"""Small raw datasets in every form, and a web server on this machine to fetch them from."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cifar_fast_utils.errors import UserError
from cifar_fast_utils.sources import BATCHES, Arrays

Pixels = npt.NDArray[np.uint8]


def arrays(n_train: int = 20, n_test: int = 10, seed: int = 0) -> Arrays:
    """Random images, and labels that run through the ten classes."""
    rng = np.random.default_rng(seed)
    images = [torch.from_numpy(rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)) for n in (n_train, n_test)]
    return images[0], torch.arange(n_train) % 10, images[1], torch.arange(n_test) % 10


def same(one: Arrays, other: Arrays) -> bool:
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


def message(call: Callable[[], object], kind: type[UserError] = UserError) -> str:
    """The text of the error that `call` must raise, which must be one line."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def encode(image: Pixels, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def table(images: Pixels, labels: Sequence[int], kind: str = "PNG") -> pa.Table:
    """The hub's columns; the images are stored without loss unless `kind` is JPEG."""
    rows = [{"bytes": encode(image, kind), "path": None} for image in images]
    img = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"img": pa.array(rows, img), "label": pa.array(list(labels), pa.int64())})


def write_parquet(folder: Path, data: Arrays, shards: int = 1) -> Path:
    """Both splits, each cut into `shards` files, in `folder/plain_text`. Returns `folder`."""
    (folder / "plain_text").mkdir(parents=True, exist_ok=True)
    for split, images, labels in (("train", *data[:2]), ("test", *data[2:])):
        parts = zip(np.array_split(images.numpy(), shards), np.array_split(labels.numpy(), shards), strict=True)
        for number, (some, their) in enumerate(parts):
            pq.write_table(
                table(some, their.tolist()), folder / "plain_text" / f"{split}-{number:05}-of-{shards:05}.parquet"
            )
    return folder


def write_batches(folder: Path, data: Arrays, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's folder with one training batch, and torchvision told to expect just that. Returns `folder`."""
    from torchvision.datasets import CIFAR10

    def rows(images: torch.Tensor) -> Pixels:
        return images.permute(0, 3, 1, 2).reshape(len(images), -1).numpy()

    contents = {
        "data_batch_1": {"data": rows(data[0]), "labels": data[1].tolist()},
        "test_batch": {"data": rows(data[2]), "labels": data[3].tolist()},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    (folder / BATCHES).mkdir(parents=True)
    md5 = {}
    for name, content in contents.items():
        (folder / BATCHES / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / BATCHES / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]})
    return folder


def archive(folder: Path) -> bytes:
    """`write_batches`' folder, packed as its author packs it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(folder / BATCHES, arcname=BATCHES)
    return file.getvalue()


class Touch:
    """Unpickling one creates a file: a stand-in for whatever a stranger's pickle might do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass(frozen=True)
class Reply:
    body: bytes = b""
    status: int = 200
    lost: int = 0  # bytes that Content-Length promises and that never come
    silent: float = 0.0  # seconds before the first byte


class Server(NamedTuple):
    address: str
    asked: list[str]


@contextmanager
def serve(replies: dict[str, Reply]) -> Iterator[Server]:
    """Serve each reply at its path, and a 404 anywhere else. `asked` lists the paths of all requests, in order."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            reply = replies.get(self.path, Reply(status=404))
            time.sleep(reply.silent)
            with suppress(ConnectionError):  # a client that waited no longer
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(reply.body) + reply.lost))
                self.end_headers()
                self.wfile.write(reply.body)

        def log_message(self, *args: object) -> None:
            """Say nothing: the tests read stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Hosts(NamedTuple):
    """Both of CIFAR-10's hosts, played by one local server, and what they should amount to."""

    replies: dict[str, Reply]
    asked: list[str]
    data: Arrays
    """In the author's order; the hub serves the training images in another."""
    hub: Arrays

    def spoil(self, which: str, reply: Reply) -> None:
        """Let the `author` or the `hub` (its test file) give this reply from now on."""
        self.replies["/author.tar.gz" if which == "author" else "/hub/test-00000-of-00001.parquet"] = reply


@contextmanager
def hosts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Point torchvision and `download` at two good hosts that serve a tiny CIFAR-10, made in `folder`."""
    from torchvision.datasets import CIFAR10

    from cifar_fast_utils import download, sources

    data = arrays()
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(0))
    hub = (data[0][order], data[1][order], data[2], data[3])
    packed = archive(write_batches(folder / "author", data, monkeypatch))
    parquet = write_parquet(folder / "hub", hub) / "plain_text"
    replies = {f"/hub/{name}": Reply((parquet / name).read_bytes()) for name in download.HUB_FILES}
    replies["/author.tar.gz"] = Reply(packed)
    with serve(replies) as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(CIFAR10, "url", f"{server.address}/author.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed).hexdigest())
        monkeypatch.setattr(download, "HUB", f"{server.address}/hub/")
        monkeypatch.setattr(sources, "COUNTS", (20, 10))
        monkeypatch.setattr(sources, "coloured_as_cifar10", lambda images: True)
        yield Hosts(replies, server.asked, data, hub)
