"""The memory of a process that trains on a CPU: kept when it is freed, and in large pages."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import platform
import sys

HEAP = 8 * 2**30
"""Bytes of address space to ask large pages for, half of the machine's memory at most; they cost nothing until used."""


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees instead of giving it back to the system, in large pages where Linux allows it.

    Every step on a CPU takes and frees the same large blocks; by default each is mapped and zeroed anew, which takes a
    good part of the step's time. And a step goes through gigabytes: in pages of 4 KiB the processor has to look up
    where each of them lies. Does nothing on other systems, nor where another allocator has been put in glibc's place.
    """
    replaced = "malloc" in os.environ.get("LD_PRELOAD", "")  # tcmalloc, as in Colab, or jemalloc
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc" and not replaced:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block by mmap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        _ask_for_large_pages()


@functools.cache
def _ask_for_large_pages() -> None:
    """Lengthen the heap by one block, tell the system that it may use large pages for it, and free it."""
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = min(HEAP, os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 2)
    if block := libc.malloc(size):  # not where a limit is set
        start = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(start, block + size - start, mmap.MADV_HUGEPAGE)  # an error where the kernel has none: no matter
        libc.free(block)
