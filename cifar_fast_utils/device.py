"""What the machine is and has: device, precision, scale."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from .errors import UserError, out_of_memory
from .memory import keep_freed_memory as keep_freed_memory

DEVICE_VARIABLE = "CIFAR_FAST_DEVICE"
PRECISION_VARIABLE = "CIFAR_FAST_PRECISION"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scale:
    """How much of the article's experiment a run does; None: all of it."""

    name: str
    width: int
    """Channels after the ResNet-9's prep convolution; the unit of the lean network's `widths`."""
    train_images: int | None = None
    test_images: int | None = None
    epochs: float | None = None


SCALES = {
    "full": Scale("full", width=64),
    "small": Scale("small", width=16),
    "smoke": Scale("smoke", width=8, train_images=4096, test_images=1000, epochs=3),
}


def choose_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu`, `cuda` or `mps`; `auto` is what CIFAR_FAST_DEVICE says, else `cuda` where it works, else `cpu`.

    A Mac's GPU must be asked for: the package has not been tried on one, and older versions of PyTorch compute wrong
    gradients there in a batch norm whose images are channels-last (its issue 175189). Raises `UserError` where the
    machine lacks the device.
    """
    said = ""
    if name == "auto" and (setting := os.environ.get(DEVICE_VARIABLE)):
        name, said = setting, f"{DEVICE_VARIABLE}: "
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if has["cuda"] and name in ("auto", "cuda"):
        has["cuda"] = not gpu_fault()
    if name == "auto":
        name = "cuda" if has["cuda"] else "cpu"
    if name not in has:
        raise UserError(f"{said}no device is called '{name}': take auto, {', '.join(sorted(has))}")
    if not has[name]:
        there = ", ".join(kind for kind in has if has[kind])
        why = f": {reason}" if name == "cuda" and (reason := unused_gpu(name)) else ""
        raise UserError(
            f"{said}this machine has no '{name}' device that PyTorch {torch.__version__} can use, only {there}{why}"
        )
    if name == "cuda":
        torch.backends.cudnn.benchmark = True  # the shapes are few and recur: so try each one's kernels once
    return torch.device(name)


@cache
def gpu_fault() -> str:
    """Why the GPU that PyTorch finds cannot compute, in PyTorch's words; empty where it can.

    PyTorch also finds GPUs it has no kernels for: those from before 2018 in newer builds, the newest in older ones.
    """
    try:
        x = torch.ones(1, 1, 3, 3, device="cuda")
        F.conv2d(x, x).add_(1).item()  # cuDNN may lack a GPU that PyTorch has kernels for
    except RuntimeError as error:
        return "" if out_of_memory(error) else str(error).splitlines()[0]
    return ""


def unused_gpu(asked: str = "auto") -> str:
    """Where there is a GPU, or NVIDIA's driver for one, that PyTorch cannot use: why, or what to do. Else empty.

    Empty too where CUDA_VISIBLE_DEVICES hides the GPUs, or `asked` or CIFAR_FAST_DEVICE is for another device.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    wanted = os.environ.get(DEVICE_VARIABLE) or "auto" if asked == "auto" else asked
    if hidden or wanted not in ("auto", "cuda"):
        return ""
    if torch.cuda.is_available():
        there = f"PyTorch {torch.__version__} finds a GPU, {torch.cuda.get_device_name()}, but cannot use it"
        return f"{there}: {fault}" if (fault := gpu_fault()) else ""
    if not shutil.which("nvidia-smi"):
        return ""
    if torch.version.cuda is None:
        return "there is a driver for a GPU, but this PyTorch is for CPUs only: install one for CUDA"
    return (
        f"there is a driver for a GPU, but this PyTorch, for CUDA {torch.version.cuda}, can use none: `nvidia-smi` "
        "shows the newest CUDA that the driver supports; update the driver, or install a PyTorch for that"
    )


def instruction_sets() -> set[str]:
    """The processor's own names, lower case, of the extensions that matter here; empty where they are unknown."""
    known = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "neon", "sve", "bf16")
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask:
        return {name for name, there in ask().items() if there and name in known}
    about = _about_processor()  # older versions of PyTorch cannot say, but Linux can
    flags = {*about.get("flags", about.get("Features", "")).split()}
    return {name for name in known if {"avx512_f": "avx512f", "neon": "asimd"}.get(name, name) in flags}


def precisions(device: torch.device) -> list[str]:
    """The precisions that the device has instructions for, the one that should be fastest first.

    A processor without them emulates bfloat16, tens of times slower than float32, so there it does not count.
    """
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        half = ["bfloat16", "float16"] if major >= 8 else ["float16"] if major >= 7 else []
        if torch.version.hip and re.match("gfx(10|90[06])", torch.cuda.get_device_properties(device).gcnArchName):
            half = ["float16"]  # AMD numbers its GPUs differently: these have no instructions for bfloat16
        return [*half, "float32"]
    if device.type == "cpu":
        half = ["bfloat16"] if instruction_sets() & {"amx_bf16", "avx512_bf16"} else []
        return [*half, "float32"]  # float16 convolutions have no fast backward pass on any processor yet
    return ["float32"]


@cache
def bfloat16_pays() -> bool:
    """Whether this processor trains a convolution faster in bfloat16 than in float32: by trying it, in about 0.3 s.

    Having the instructions is not enough: with some of them bfloat16 is the slower one.
    """

    def seconds(dtype: torch.dtype) -> float:
        x = torch.ones(16, 64, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.ones(64, 64, 3, 3, dtype=dtype, requires_grad=True)
        start = time.perf_counter()
        F.conv2d(x, weight, padding=1).sum().backward()
        return time.perf_counter() - start

    # In turns, and the best of each, so that what else the machine does falls on both alike; and on one thread:
    # where the cores are busy, two wait for each other at every loop, which hides the difference.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [(seconds(torch.bfloat16), seconds(torch.float32)) for _ in range(10)]
    finally:
        torch.set_num_threads(threads)
    return min(half for half, _ in times) < min(full for _, full in times)


def choose_precision(name: str, device: torch.device) -> str:
    """`auto`, `float32`, `bfloat16` or `float16`; `auto` is what CIFAR_FAST_PRECISION says, else the fastest.

    Raises `UserError` where the device lacks it.
    """
    said = ""
    if name == "auto" and (setting := os.environ.get(PRECISION_VARIABLE)):
        name, said = setting, f"{PRECISION_VARIABLE}: "
    there = precisions(device)
    if name == "auto":
        return "float32" if device.type == "cpu" and "bfloat16" in there and not bfloat16_pays() else there[0]
    if name not in PRECISIONS:
        raise UserError(f"{said}no precision is called '{name}': take auto, {', '.join(PRECISIONS)}")
    if name not in there:
        raise UserError(f"{said}this machine's {device.type} has no fast {name}, only {', '.join(there)}: take auto")
    return name


def choose_scale(name: str, device: torch.device) -> Scale:
    """`auto` (full on a GPU, small on a CPU), `full`, `small` or `smoke`. Raises `UserError` on another name."""
    if name == "auto":
        name = "small" if device.type == "cpu" else "full"
    if name not in SCALES:
        raise UserError(f"no scale is called '{name}': take auto, {', '.join(SCALES)}")
    return SCALES[name]


def device_name(device: torch.device) -> str:
    """What a person would call it: the GPU's model, or the processor's and its number of cores."""
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name(device))
        if torch.version.hip:  # often "AMD Radeon Graphics", whatever the card
            about = torch.cuda.get_device_properties(device)
            name += f" ({about.gcnArchName.split(':')[0]}, {about.multi_processor_count} units)"
        return name
    if device.type == "mps":
        return f"{processor()} GPU (mps)"
    cores = os.cpu_count() or 1
    return f"{processor()}, {cores} core{'s' * (cores > 1)}"


def cores_of(name: str) -> int | None:
    """The number of cores of a processor that `device_name` named; None for a GPU."""
    cores = re.search(r"(\d+) cores?$", name)
    return int(cores[1]) if cores else None


def _about_processor() -> dict[str, str]:
    """What Linux says of the first processor; nothing on other systems."""
    if sys.platform != "linux":
        return {}
    with open("/proc/cpuinfo") as lines:
        pairs = [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]
    return dict(reversed(pairs))


def processor() -> str:
    """The processor's name as the system gives it; on Linux with its family and model, where it has them.

    Virtual machines call processors of several generations by one name, and hide instruction sets of some within one
    generation; such processors must not be compared as if they were one. So the name says where AVX2 is all there is,
    and where an Intel processor with bfloat16 has no tiles (AMX).
    """
    if about := _about_processor():
        if "model name" in about:
            if "cpu family" in about and "model" in about:
                flags = about.get("flags", "").split()
                sets = ", AVX2" if "avx2" in flags and "avx512f" not in flags else ""
                if about.get("vendor_id") == "GenuineIntel" and "avx512_bf16" in flags and "amx_bf16" not in flags:
                    sets = ", no AMX"
                return f"{about['model name']} (family {about['cpu family']}, model {about['model']}{sets})"
            return about["model name"]
        parts = [about[key] for key in ("CPU implementer", "CPU part", "CPU variant") if key in about]
        return " ".join([platform.machine(), *parts])  # ARM's processors have numbers in place of names
    if sys.platform == "darwin":
        ask = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def synchronise(device: torch.device) -> None:
    """Wait for the device to finish, so that a clock read after it tells the truth."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
