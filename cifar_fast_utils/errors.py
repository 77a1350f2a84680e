"""The one exception a user may see: bad input, said in one line; and how to recognise full memory."""

from __future__ import annotations

import contextlib
import reprlib
import traceback
from collections.abc import Iterator

from pydantic import ValidationError


class UserError(Exception):
    """Something the user can fix. Its text is one line; the shell prints it and exits with code 2."""


def in_a_line(error: ValidationError) -> str:
    """Where the first thing is wrong, what, and how many more are: on one line, whatever a key or a name holds."""
    first, *others = error.errors()
    where = ".".join(map(str, first["loc"])) or "record"
    found = f", not {reprlib.repr(first['input'])}" if first["msg"].startswith("Input") else ""
    more = f" (and {len(others)} more)" if others else ""
    return " ".join(f"{where}: {first['msg'].removeprefix('Value error, ')}{found}{more}".split())


def out_of_memory(error: BaseException) -> str | None:
    """Which memory an error says is full, in words; None if it is about something else."""
    import torch

    gpus = (
        "CUDA error: out of memory", "HIP error: out of memory",
        "_STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED",  # cuBLAS and cuDNN 8; cuDNN 9
        "unable to find an engine",  # cuDNN's, where no way to convolve gets its memory (`gpu_fault` has seen one work)
    )  # fmt: skip
    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in gpus):
        return "the GPU"
    if "out of shared memory" in str(error) or "shared memory(shm)" in str(error):  # a DataLoader's workers
        return "/dev/shm (`docker run --shm-size` enlarges it)"
    # Linux, Windows and its worker processes, Apple's GPUs
    said = (
        "can't allocate memory", "not enough memory", "error code: <1455>", "MPS backend out of memory",
        "HOST_ALLOCATION_FAILED",  # cuDNN 9
        "is killed by signal: Killed",  # a worker process
        "Cannot allocate memory",  # to start one, or for a file's image
    )  # fmt: skip
    here = isinstance(error, MemoryError) or any(words in str(error) for words in said)
    return "this machine" if here else None


@contextlib.contextmanager
def memory_named(advice: str) -> Iterator[None]:
    """Raise `UserError`, with what to do, where the block runs out of memory."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if where := out_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # a notebook keeps it, and with it what fills the memory
            raise UserError(f"{where} is out of memory: {advice}") from error
        raise
