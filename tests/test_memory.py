"""The memory of the process: each test in one of its own, for what is asked of glibc holds to the end."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or "malloc" in os.environ.get("LD_PRELOAD", ""),
    reason="asks glibc",
)


def said(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_freed_memory_is_kept() -> None:
    code = """
import resource, sys, torch
from cifar_fast_utils import memory
memory._ask_for_large_pages = lambda: None  # of which a few hold it all
if sys.argv[1] == "kept":
    memory.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(32):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {how: int(said(code, how)) for how in ("given back", "kept")}
    assert faults["kept"] < faults["given back"] / 2  # mapped anew until the heap has room, and not all 32 times


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages")
def test_large_pages_are_asked_for_once_and_hold_the_tensors() -> None:
    code = """
import torch
from cifar_fast_utils.memory import keep_freed_memory
def area(address):
    start = end = 0
    for line in open("/proc/self/smaps"):
        if "-" in line.split()[0]:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
        elif line.startswith("VmFlags:") and start <= address < end:
            return end - start, "hg" in line.split()
for _ in range(2):
    keep_freed_memory()
    print(*area(torch.ones(2**24).data_ptr() + 2**25))  # the middle, for the heap begins without
"""
    (size, marked), again = (line.split() for line in said(code).splitlines())
    assert marked == "True"
    assert int(size) >= 2**30
    assert again == [size, marked]


def test_a_limit_on_memory_is_no_fault() -> None:
    code = """
import resource, torch
from cifar_fast_utils.memory import keep_freed_memory
has = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (has + 2**29, has + 2**29))
keep_freed_memory()
print(torch.ones(2**24).sum().item())
"""
    assert float(said(code)) == 2**24
