"""How fast this machine and this package are, as ratios whose two sides run in turns.

Machines are shared and noisy, so a figure can only be compared with others of the same call. Each is the median of
several; the docstrings say what is on the clock.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from . import augment, host
from .device import PRECISIONS, SCALES, choose_precision, keep_freed_memory
from .network import build_network, count_flops, run_flops, stages
from .optimiser import build_optimiser
from .recipe import Recipe, get
from .record import here
from .step import training_step

CPU = torch.device("cpu")
WIDTH = 64
IMAGES = 50_000
EPOCHS = 24
"""Over which the once-per-run normalisation is spread."""
LATER = {"airbench94": "full", "fast": "full", "small_fast_60_ahead": "small", "small_fast_180_ahead": "small"}
"""The recipes after the article whose speed is measured, with the scale that each is made for."""


MUON = (torch.bfloat16, torch.float32)
"""The dtypes that its iterations can run in."""


def in_turns(sides: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """The seconds of each side, run in turns, with a progress bar; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _, name in tqdm(list(itertools.product(range(turns), sides)), desc=" / ".join(sides), leave=False):
        start = time.perf_counter()
        sides[name]()
        seconds[name].append(time.perf_counter() - start)
    return seconds


def median_seconds(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each side, run in turns after one unmeasured turn, with a progress bar."""
    return {name: statistics.median(seconds[1:]) for name, seconds in in_turns(sides, repeats + 1).items()}


def compared(seconds: dict[str, list[float]]) -> dict[str, float]:
    """For two sides `in_turns`, the first turn left out: each median in ms, and the median ratio, second over first."""
    one, other = (values[1:] for values in seconds.values())
    ratio = statistics.median(after / before for before, after in zip(one, other, strict=True))
    medians = {name: round(1000 * statistics.median(values[1:]), 1) for name, values in seconds.items()}
    return {**medians, "ratio": round(ratio, 3)}


def a_step(
    recipe: Recipe,
    precision: str,
    width: int = WIDTH,
    device: torch.device = CPU,
    channels_last: bool = True,
    side: int = augment.SIZE,
    iterate_in: torch.dtype | None = None,
    compiled: bool = False,
) -> Callable[[], object]:
    """One training step, forward, backward and optimiser, on a batch that is there already.

    Muon, where the recipe takes it, iterates in the images' dtype or in `iterate_in`. `compiled`: the network goes
    through `torch.compile`.
    """
    network = build_network(recipe, width, precision).to(device)
    images = torch.randn(recipe.batch_size, 3, side, side, device=device).to(PRECISIONS[precision])
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    else:
        network = network.to(memory_format=torch.contiguous_format)
    labels = torch.randint(10, (recipe.batch_size,), device=device)
    optimiser = build_optimiser(network, recipe, dtype=iterate_in or images.dtype)
    model: Any = torch.compile(network) if compiled else network
    return lambda: training_step(model, optimiser, recipe, 1e-3, 1.0, images, labels)


_port: Callable[[], object]  # in the port's process


def _start_port() -> None:
    global _port
    _port = a_step(get("final"), "float32", channels_last=False)


def _step_port() -> None:
    _port()


def augmentations(images: Tensor, labels: Tensor, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """An epoch of batches in the network's dtype and layout, in groups and by the baseline's DataLoader.

    Both start from normalised and padded images; making those is measured separately.
    """
    recipe = get("gpu_data")
    generator = torch.Generator().manual_seed(0)
    padded, on_host = (augment.prepare(images, kind, recipe.pad) for kind in (dtype, torch.float32))
    loader = host.loader(on_host, labels, recipe, generator)
    return {
        "in groups": lambda: [None for _ in augment.batches(padded, labels, recipe, generator)],
        "DataLoader": lambda: [None for _ in host.batches(loader, CPU, dtype)],
    }


def later_recipes(precision: str, repeats: int) -> dict[str, float]:
    """`NAME_gflops` of each of `LATER`, over the steps of all its stages; `NAME_share`: that over a matrix multiply's.

    And `muon_bfloat16_cost`: a step of the last one whose Muon iterates in bfloat16, over one that does in float32.
    """
    a, b = (torch.randn(4096, 4096).to(PRECISIONS[precision]) for _ in range(2))
    kinds: dict[str, Callable[[], object]] = {"matmul": lambda: a @ b}
    parts = {name: stages(get(name), IMAGES // get(name).batch_size) for name in LATER}
    assert not any(frozen for kinds_of in parts.values() for _, frozen, _ in kinds_of)  # nor in what is timed
    for name, scale in LATER.items():
        for side, _, _ in parts[name]:
            kinds[f"{name} {side}"] = a_step(get(name), precision, SCALES[scale].width, side=side)
    last = list(LATER)[-1]
    side = parts[last][-1][0]
    for dtype in MUON:
        kinds[f"Muon in {dtype}"] = a_step(get(last), precision, SCALES[LATER[last]].width, side=side, iterate_in=dtype)
    seconds = median_seconds(kinds, repeats)
    in_bfloat16, in_float32 = (seconds[f"Muon in {dtype}"] for dtype in MUON)
    rate = 2 * 4096**3 / seconds["matmul"]
    figures: dict[str, float] = {"muon_bfloat16_cost": in_bfloat16 / in_float32}
    for name, scale in LATER.items():
        took = sum(steps * seconds[f"{name} {side}"] for side, _, steps in parts[name])
        flops = run_flops(get(name), SCALES[scale].width, IMAGES // get(name).batch_size)
        figures |= {f"{name}_gflops": flops / took / 1e9, f"{name}_share": flops / took / rate}
    return figures


def bench(repeats: int) -> dict[str, Any]:
    """Measure on the CPU, print a line for each figure, and return them all."""
    keep_freed_memory()
    torch.manual_seed(0)
    precision = choose_precision("auto", CPU)
    dtype = PRECISIONS[precision]
    recipe = get("final")
    n, gflop = recipe.batch_size, count_flops(recipe, WIDTH) / 1e9
    figures: dict[str, Any] = {**here(CPU, precision), "repeats": repeats}
    print(f"{figures['device']}, {precision}, torch {torch.__version__}: medians of {repeats}, sides taken in turn\n")

    a, b = (torch.randn(4096, 4096).to(dtype) for _ in range(2))
    # A straightforward port leaves the allocator alone, and that is set for a whole process: so the port has its own.
    with ProcessPoolExecutor(1, get_context("spawn"), _start_port) as elsewhere:
        steps = median_seconds(
            {
                "ours": a_step(recipe, precision),
                "plain norm": a_step(replace(recipe, ghost_groups=1), precision),
                "port": lambda: elsewhere.submit(_step_port).result(),
                "port, memory kept": a_step(recipe, "float32", channels_last=False),
                "matmul": lambda: a @ b,
            },
            repeats,
        )
    ours, plain, port = (steps[side] for side in ("ours", "plain norm", "port"))
    kept = steps["port, memory kept"]
    matmul = 2 * 4096**3 / 1e9 / steps["matmul"]
    figures |= {
        "train_images_per_second": n / ours, "train_gflops": gflop / ours,
        "port_images_per_second": n / port, "port_gflops": gflop / port,
        "port_kept_images_per_second": n / kept, "port_kept_gflops": gflop / kept,
        "plain_norm_images_per_second": n / plain, "matmul_gflops": matmul,
        "train_speedup": port / ours, "matmul_share": gflop / ours / matmul, "ghost_cost": ours / plain,
    }  # fmt: skip
    speed = f"{n / ours:,.0f} images/s, {gflop / ours:,.0f} GFLOP/s"
    print(
        f"train_speedup   {port / ours:6.2f}  full-width training step of `final`: {speed}; the same network in eager"
    )
    print(f"{'':22}  float32, contiguous: {n / port:,.0f} images/s, {gflop / port:,.0f} GFLOP/s; keeping")
    print(f"{'':22}  freed memory as ours does: {n / kept:,.0f} images/s, {gflop / kept:,.0f} GFLOP/s")
    print(f"matmul_share    {gflop / ours / matmul:6.2f}  that step over the machine's {precision} matrix multiply "
          f"(4096 × 4096): {matmul:,.0f} GFLOP/s")  # fmt: skip
    print(f"ghost_cost      {ours / plain:6.2f}  that step over one with plain batch norm: {n / plain:,.0f} images/s")

    later = later_recipes(precision, repeats)
    figures |= later
    for name, scale in LATER.items():
        speed = f"{later[f'{name}_gflops']:,.0f} GFLOP/s"
        print(
            f"{name + '_share':27} {later[f'{name}_share']:.2f}  its steps at the {scale} scale over that rate: {speed}"
        )
    cost = f"{later['muon_bfloat16_cost']:.2f}"
    print(f"muon_bfloat16_cost          {cost}  a step of {list(LATER)[-1]} with Muon in bfloat16, over one in float32")

    images, labels = torch.randint(256, (IMAGES, 32, 32, 3), dtype=torch.uint8), torch.randint(10, (IMAGES,))
    kinds = {"in groups": dtype, "DataLoader": torch.float32}
    once = median_seconds({side: partial(augment.prepare, images, kind, 4) for side, kind in kinds.items()}, repeats)
    epochs = median_seconds(augmentations(images, labels, dtype), repeats)
    grouped, loaded = (IMAGES / (epochs[side] + once[side] / EPOCHS) for side in ("in groups", "DataLoader"))
    figures |= {
        "augment_images_per_second": grouped, "loader_images_per_second": loaded, "augment_speedup": grouped / loaded,
        "loader_workers": host.WORKERS,
    }  # fmt: skip
    print(f"augment_speedup {grouped / loaded:6.2f}  an epoch of 50,000 images to batches, in groups: {grouped:,.0f} "
          f"images/s; DataLoader, {host.WORKERS} worker{'s' * (host.WORKERS > 1)}: {loaded:,.0f} images/s")  # fmt: skip

    help_command = [sys.executable, "-m", "cifar_fast_utils", "--help"]
    answer = median_seconds({"--help": lambda: subprocess.run(help_command, check=True, capture_output=True)}, repeats)
    figures["help_seconds"] = answer["--help"]
    print(f"help_seconds    {answer['--help']:6.2f}  `cifar-fast --help`, a new process each time")
    return figures
