"""A clock that takes what it is told, for tests of what is timed."""

from collections.abc import Iterable

import torch


def taking(spans: Iterable[float]) -> type:
    """In the place of `run.Clock`: each `with` block takes the next of these seconds."""
    left = iter(spans)

    class Taking:
        def __init__(self, device: torch.device) -> None:
            self.seconds = 0.0

        def __enter__(self) -> "Taking":
            return self

        def __exit__(self, *_: object) -> None:
            self.seconds += next(left)

    return Taking
