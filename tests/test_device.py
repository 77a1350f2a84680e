import io
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_fast_utils import device as d
from cifar_fast_utils.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "waits"), [("cpu", 0), ("cuda", 1), ("mps", 1)])
def test_what_works_on_its_own_is_waited_for(name: str, waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda *_: waited.append(name))
    d.synchronise(torch.device(name))
    assert len(waited) == waits


def test_auto_takes_the_full_scale_on_a_gpu_alone() -> None:
    assert d.choose_scale("auto", CPU).name == "small"
    assert d.choose_scale("auto", torch.device("cuda")).name == "full"


def test_auto_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(d, "gpu_fault", lambda: "")
    monkeypatch.delenv("CIFAR_FAST_DEVICE", raising=False)
    assert d.choose_device("auto").type == "cuda"
    monkeypatch.setenv("CIFAR_FAST_DEVICE", "cpu")
    assert d.choose_device("auto") == CPU
    assert d.choose_device("cuda").type == "cuda"
    monkeypatch.setenv("CIFAR_FAST_DEVICE", "gpu")
    with pytest.raises(UserError, match="no device is called 'gpu'"):
        d.choose_device("auto")


def test_a_macs_gpu_is_taken_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.delenv("CIFAR_FAST_DEVICE", raising=False)
    assert d.choose_device("auto") == CPU
    assert d.choose_device("mps").type == "mps"
    monkeypatch.setenv("CIFAR_FAST_DEVICE", "mps")
    assert d.choose_device("auto").type == "mps"


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no 'cuda' device"):
        d.choose_device("cuda")
    with pytest.raises(UserError, match="no device is called 'gpu'"):
        d.choose_device("gpu")
    monkeypatch.setenv(d.DEVICE_VARIABLE, "cuda:0")
    with pytest.raises(UserError, match=r"^CIFAR_FAST_DEVICE: no device is called 'cuda:0'"):
        d.choose_device()
    with pytest.raises(UserError, match="no scale is called 'huge'"):
        d.choose_scale("huge", CPU)
    with pytest.raises(UserError, match="no precision is called 'int8'"):
        d.choose_precision("int8", CPU)


@pytest.mark.parametrize(
    ("sets", "auto", "lacks"),
    [
        (set(), "float32", {"bfloat16", "float16"}),
        ({"avx2", "avx512_f"}, "float32", {"bfloat16", "float16"}),
        ({"avx512_bf16"}, "bfloat16", {"float16"}),
        ({"amx_bf16", "avx512_fp16"}, "bfloat16", {"float16"}),
    ],
)
def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch, sets: set[str], auto: str, lacks: set[str]) -> None:
    monkeypatch.setattr(d, "instruction_sets", lambda: sets)
    monkeypatch.setattr(d, "bfloat16_pays", lambda: True)
    assert d.choose_precision("auto", CPU) == auto
    assert d.choose_precision("float32", CPU) == "float32"
    for name in lacks:
        with pytest.raises(UserError, match=f"no fast {name}"):
            d.choose_precision(name, CPU)


def test_instructions_that_do_not_pay_are_not_used_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "instruction_sets", lambda: {"avx512_bf16"})
    monkeypatch.setattr(d, "bfloat16_pays", lambda: False)
    assert d.choose_precision("auto", CPU) == "float32"
    assert d.choose_precision("bfloat16", CPU) == "bfloat16"


def test_on_a_gpu_the_kernels_of_each_shape_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert d.choose_device("cpu") == CPU
    assert not torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(d, "gpu_fault", lambda: "")
    assert d.choose_device("cuda").type == "cuda"
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("capability", "auto"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")]
)
def test_the_gpu_is_asked(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], auto: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert d.choose_precision("auto", torch.device("cuda")) == auto
    if capability == (7, 5):  # a T4
        with pytest.raises(UserError, match="no fast bfloat16, only float16, float32"):
            d.choose_precision("bfloat16", torch.device("cuda"))


@pytest.mark.parametrize(
    ("name", "major", "auto"),
    [
        ("gfx1030", 10, "float16"),
        ("gfx906:sramecc+", 9, "float16"),
        ("gfx90a", 9, "bfloat16"),
        ("gfx1100", 11, "bfloat16"),
    ],
)
def test_amds_gpus_are_told_apart_by_name(monkeypatch: pytest.MonkeyPatch, name: str, major: int, auto: str) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    about = SimpleNamespace(gcnArchName=name, multi_processor_count=60)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "AMD Radeon Graphics")
    assert d.choose_precision("auto", torch.device("cuda")) == auto
    assert d.device_name(torch.device("cuda")) == f"AMD Radeon Graphics ({name.split(':')[0]}, 60 units)"


def test_the_environment_may_choose_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "precisions", lambda device: ["bfloat16", "float32"])
    monkeypatch.setattr(d, "bfloat16_pays", lambda: True)
    assert d.choose_precision("auto", CPU) == "bfloat16"
    monkeypatch.setenv("CIFAR_FAST_PRECISION", "float32")
    assert d.choose_precision("auto", CPU) == "float32"
    assert d.choose_precision("bfloat16", CPU) == "bfloat16"  # asked for by name, the setting does not count
    monkeypatch.setenv("CIFAR_FAST_PRECISION", "float64")
    with pytest.raises(UserError, match="no precision is called 'float64'"):
        d.choose_precision("auto", CPU)


@pytest.mark.parametrize(("half", "full", "pays"), [(1.0, 2.0, True), (2.0, 1.0, False)])
def test_bfloat16_pays_where_it_is_the_faster_one(
    monkeypatch: pytest.MonkeyPatch, half: float, full: float, pays: bool
) -> None:
    spans = itertools.accumulate(itertools.cycle([0.0, half, 0.0, full]))
    monkeypatch.setattr(d, "time", SimpleNamespace(perf_counter=spans.__next__))
    threads, used, conv2d = torch.get_num_threads(), set[int](), torch.nn.functional.conv2d

    def seen(*given: Any, **named: Any) -> torch.Tensor:
        used.add(torch.get_num_threads())
        return conv2d(*given, **named)

    monkeypatch.setattr(torch.nn.functional, "conv2d", seen)
    d.bfloat16_pays.cache_clear()
    torch.set_num_threads(2)
    try:
        assert d.bfloat16_pays() == pays
        assert used == {1}  # beside a training on the same cores, two found the slower one the faster half of the time
        assert torch.get_num_threads() == 2
    finally:
        d.bfloat16_pays.cache_clear()
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("driver", "usable", "made_for", "said"),
    [
        ("/usr/bin/nvidia-smi", False, "13.2", "for CUDA 13.2, can use none: `nvidia-smi` shows the newest CUDA"),
        ("/usr/bin/nvidia-smi", False, None, "this PyTorch is for CPUs only"),
        ("/usr/bin/nvidia-smi", True, "13.2", ""),
        (None, False, "13.2", ""),
    ],
)
def test_a_gpu_that_cannot_be_used_is_noticed(
    driver: str | None, usable: bool, made_for: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CIFAR_FAST_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    monkeypatch.setattr(d, "gpu_fault", lambda: "")
    monkeypatch.setattr(torch.version, "cuda", made_for)
    assert (said in d.unused_gpu()) if said else d.unused_gpu() == ""
    if said:
        with pytest.raises(UserError, match=r"this machine has no 'cuda' device .*: there is a driver for a GPU"):
            d.choose_device("cuda")
    assert d.unused_gpu("cpu") == ""
    for name, value in (("CUDA_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "-1"), ("CIFAR_FAST_DEVICE", "cpu")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert d.unused_gpu() == ""


def test_a_gpu_that_pytorch_has_no_kernels_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be"

    def ones(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    for name in ("CIFAR_FAST_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "ones", ones)
    d.gpu_fault.cache_clear()
    try:
        assert d.choose_device("auto") == CPU
        assert d.unused_gpu().endswith(
            "finds a GPU, Tesla P100, but cannot use it: CUDA error: no kernel image is available for execution on "
            "the device"
        )
        with pytest.raises(UserError, match=r"can use, only .*cpu: PyTorch .* finds a GPU, Tesla P100, but cannot"):
            d.choose_device("cuda")
        said = "CUDA error: out of memory"  # the GPU works; the run itself will say it
        d.gpu_fault.cache_clear()
        assert d.choose_device("auto").type == "cuda"
    finally:
        d.gpu_fault.cache_clear()


def test_pytorch_is_asked_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"avx2": True, "sse2": True, "avx512_bf16": False, "amx_bf16": False, "architecture": "x86_64"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: said, raising=False)
    assert d.instruction_sets() == {"avx2"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the processor")
def test_where_pytorch_cannot_tell_linux_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for key, value, sets in (
        ("flags", "sse avx2 avx512f avx512_bf16 amx_bf16", {"avx2", "avx512_f", "avx512_bf16", "amx_bf16"}),
        ("Features", "fp asimd bf16", {"neon", "bf16"}),
    ):
        said = f"processor\t: 0\n{key}\t: {value}\n"
        monkeypatch.setattr("builtins.open", lambda *_, said=said: io.StringIO(said))
        assert d.instruction_sets() == sets


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the processor")
def test_a_processors_name_tells_its_generation() -> None:
    told = Path("/proc/cpuinfo").read_text()
    found = {key: re.search(rf"^{key}\s*: (.*)$", told, re.MULTILINE) for key in ("model name", "cpu family", "model")}
    if not all(found.values()):
        pytest.skip("this processor has no family and model")
    name, family, model = (match.group(1) for match in found.values() if match)
    assert re.fullmatch(rf"{re.escape(name)} \(family {family}, model {model}(, AVX2|, no AMX)?\)", d.processor())


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the processor")
@pytest.mark.parametrize(("flags", "says"), [("sse avx avx2", ", AVX2"), ("avx2 avx512f", ""), ("sse avx", "")])
def test_a_processor_with_hidden_instructions_has_another_name(
    monkeypatch: pytest.MonkeyPatch, flags: str, says: str
) -> None:
    told = f"model name\t: AMD EPYC\ncpu family\t: 25\nmodel\t: 17\nflags\t: {flags}\n"
    monkeypatch.setattr("builtins.open", lambda *_: io.StringIO(told))
    assert d.processor() == f"AMD EPYC (family 25, model 17{says})"
    assert d.cores_of(d.device_name(torch.device("cpu"))) == os.cpu_count()


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the processor")
@pytest.mark.parametrize(
    ("vendor", "flags", "says"),
    [
        ("GenuineIntel", "avx512f avx512_bf16", ", no AMX"),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", ""),
        ("GenuineIntel", "avx512f", ""),
        ("AuthenticAMD", "avx512f avx512_bf16", ""),
    ],
)
def test_a_processor_with_hidden_tiles_has_another_name(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str, says: str
) -> None:
    told = f"vendor_id\t: {vendor}\nmodel name\t: X\ncpu family\t: 6\nmodel\t: 207\nflags\t: {flags}\n"
    monkeypatch.setattr("builtins.open", lambda *_: io.StringIO(told))
    assert d.processor() == f"X (family 6, model 207{says})"


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the processor")
def test_arm_processors_have_numbers_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: 0xd40\n"
    monkeypatch.setattr("builtins.open", lambda *_: io.StringIO(said + "\nprocessor\t: 1\nCPU part\t: 0xd41\n"))
    assert d.processor() == f"{platform.machine()} 0x41 0xd40 0x1"


def test_apples_processors_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", lambda ask, **_: subprocess.CompletedProcess(ask, 0, "Apple M3 Max\n"))
    assert d.processor() == "Apple M3 Max"
    assert d.device_name(torch.device("mps")) == "Apple M3 Max GPU (mps)"
