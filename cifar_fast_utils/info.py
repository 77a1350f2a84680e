"""What this machine is and has, for `cifar-fast info`."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from . import __version__
from .data import DATA_VARIABLE, KEYWORDS, LOCAL, cache_folder, header
from .device import choose_device, choose_precision, choose_scale, device_name, instruction_sets, unused_gpu
from .errors import UserError
from .record import current_commit
from .sources import one_line

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "pyarrow", "safetensors")


def told(ask: Callable[[], str]) -> str:
    """The answer, or why there is none: then the rest is wanted all the more."""
    try:
        return ask()
    except PackageNotFoundError:
        return "not installed"
    except UserError as error:
        return str(error)


def describe() -> list[tuple[str, str]]:
    """Device, cores, instruction sets, what `auto` takes, versions and datasets: (label, text), a line each.

    Where one cannot be found out, the text says why.
    """
    return [
        ("device", told(lambda: f"{choose_device().type}: {device_name(choose_device())}")),
        *([("but", hint)] if (hint := unused_gpu()) else []),
        ("cores", f"{os.cpu_count()}, of which PyTorch uses {torch.get_num_threads()}"),
        ("instruction sets", ", ".join(sorted(instruction_sets())) or "not known to this PyTorch"),
        ("precision", told(lambda: f"{choose_precision('auto', choose_device())} (what auto takes)")),
        ("scale", told(lambda: f"{choose_scale('auto', choose_device()).name} (what auto takes)")),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, told(partial(version, name))) for name in PACKAGES),
        ("cifar-fast-utils", f"{__version__}, commit {current_commit() or 'unknown'}"),
        ("cache", told(lambda: str(cache_folder()))),
        *(("dataset", line) for line in found()),
    ]


def found() -> list[str]:
    """What is here without a download, a line each: CIFAR_FAST_DATA, cached sets, `data/`, the synthetic set."""
    lines = []
    if chosen := os.environ.get(DATA_VARIABLE):
        usable = chosen in KEYWORDS or os.path.isdir(os.path.expanduser(chosen))
        lines.append(f"{DATA_VARIABLE}: {chosen}" + ("" if usable else " (no such folder)"))
    try:
        cached = sorted(cache_folder().glob("*.safetensors"))
    except UserError:  # `describe` says why
        cached = []
    for file in cached:
        try:
            stated, (train, test) = header(file)
            lines.append(f"cached: {stated['name']}, {train:,} training and {test:,} test images ({file})")
        except Exception as error:  # listed all the same: `load` will make it again
            lines.append(f"cached: damaged ({one_line(error)}): {file}")
    if LOCAL.is_dir():
        lines.append(f"folder: cifar10 in {LOCAL.resolve()}")
    return [*lines, "built in: synthetic"]
