"""CIFAR-10 from the net: from the Hugging Face hub, or from its author's host.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch.hub

from .errors import UserError
from .sources import Arrays, no_torchvision, not_cifar10, one_line, read_parquet, read_torchvision

HUB = "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/main/plain_text/"
HUB_FILES = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
TIMEOUT = 30.0  # seconds that a host may keep silent
INSTEAD = "use --data FOLDER with a copy of your own, or --data synthetic"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class DownloadError(UserError):
    """No host could serve CIFAR-10."""


def download(folder: Path, quiet: bool = False) -> Arrays:
    """CIFAR-10 from the hub or, where that fails (one line on stderr says why), from the author's host.

    In this order, because the author's host has been seen to send less than 0.1 MB/s (torchvision's issue 9536), so
    that a download takes the better part of an hour. `folder` is for the raw files; the caller removes it. `quiet`
    hides the progress bars. Raises `DownloadError` where both fail, and lets an `OSError` of the disk (no space, no
    permission) through.
    """
    hub = urlsplit(HUB).netloc
    with _socket_timeout(TIMEOUT):
        try:
            return _from_hub(folder, quiet)
        except (OSError, HTTPException, RuntimeError, UserError) as error:
            first = _reason(error)
        try:
            from torchvision.datasets import CIFAR10
        except (ImportError, RuntimeError) as error:  # made for another PyTorch; only it knows the author's host
            raise DownloadError(
                f"cannot download CIFAR-10: {hub} failed ({first}), and {no_torchvision(error)} Otherwise {INSTEAD}"
            ) from None
        author = urlsplit(CIFAR10.url).netloc
        print(f"cifar-fast: {hub} failed ({first}); trying the author's host, {author}", file=sys.stderr)
        try:
            return _from_author(folder, quiet)
        except (OSError, HTTPException, RuntimeError, UserError) as error:
            second = _reason(error)
    no_certificates = "CERTIFICATE_VERIFY_FAILED" in first + second
    raise DownloadError(
        f"cannot download CIFAR-10: {hub} failed ({first}) and so did {author} ({second}); "
        + INSTEAD
        + "; on a Mac first open 'Install Certificates.command' in Python's folder" * no_certificates
    )


def _from_author(folder: Path, quiet: bool) -> Arrays:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    # torchvision has no switch for its bar, and unpacks nothing before the archive's checksum is right.
    with contextlib.redirect_stderr(io.StringIO() if quiet else sys.stderr):
        download_and_extract_archive(CIFAR10.url, str(folder), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
    return read_torchvision(folder)


def _from_hub(folder: Path, quiet: bool) -> Arrays:
    for name in HUB_FILES:
        torch.hub.download_url_to_file(HUB + name, str(folder / name), progress=not quiet)
    # A body that was cut off shows here: a parquet file ends with its table of contents.
    arrays = read_parquet(folder, quiet)
    if fault := not_cifar10(arrays):
        raise UserError(fault)
    return arrays


def _reason(error: Exception) -> str:
    """What to say of a host that failed. A full or read-only disk is not the host's fault: that error goes on up."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        raise error
    if type(error) is RuntimeError:  # of the archive; all that torchvision says is "File not found or corrupted."
        return "the archive arrived incomplete or altered: its md5 checksum is wrong"
    return str(error) if isinstance(error, UserError) else one_line(error)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every silent wait: neither torchvision nor torch.hub takes a timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
