"""The training in turns of `benchmarks/turns.py`: when a training waits, and for how long."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import turns


@pytest.mark.parametrize(("steps", "waits"), [(200, 49), (130, 49), (20, 19)])
def test_it_waits_after_each_fiftieth_but_the_last(steps: int, waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [0.0]

    def waited() -> None:
        said.append("waited")
        now[0] += 7

    pipe: Any = SimpleNamespace(send=lambda _: said.append("done"), recv=waited)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    bar = turns.Turns(pipe, 512 * steps)
    for step in range(1, steps + 1):
        now[0] += 1
        bar.update(512)
        assert said.count("waited") == min(step, 50 * step // steps, waits)
    assert said == ["done", "waited"] * waits
    assert bar.waited == 7 * waits
