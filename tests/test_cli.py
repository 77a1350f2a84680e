import errno
import gc
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from cifar_fast_utils import bench, cli, data, device, files, loop, network, optimiser, report, shares, train
from cifar_fast_utils.errors import UserError, memory_named, out_of_memory
from cifar_fast_utils.ledger import read
from cifar_fast_utils.network import count_flops, run_flops
from cifar_fast_utils.recipe import LADDER, MODERN, RECIPES, from_dict, get
from cifar_fast_utils.schema import validate
from cifar_fast_utils.shares import read_shares, shares_table
from cifar_fast_utils.weights import load_network, predict, read_picture

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the smoke scale narrower still: these tests are about words and files."""
    monkeypatch.setitem(device.SCALES, "smoke", device.Scale("smoke", 4, train_images=1024, test_images=100, epochs=2))


TRAIN = ["train", "--scale", "smoke", "--device", "cpu", "--quiet"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail: exit code 2, one line on stderr, which is returned."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as exit_:  # argparse's own
        code = int(exit_.code or 0)
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("cifar-fast")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


def test_help_answers_at_once_and_says_what_there_is() -> None:
    command = [sys.executable, "-m", "cifar_fast_utils", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for word in ("train", "predict", "recipes", "info", "bench", "CIFAR_FAST_DATA", "exit codes", "examples"):
        assert word in text
    probe = "import sys, cifar_fast_utils.cli as c; c.parser().format_help(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "False\n"


def test_without_a_folder_the_report_is_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "report", lambda folder, target: f"{(folder / 'schema.json').exists()} {target}\n")
    for options, target in (([], 0.94), (["--target", "0.85"], 0.85)):
        assert cli.main(["report", *options]) == 0
        assert capsys.readouterr().out == f"True {target}\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize(
    ("command", "code"), [("--help", 0), ("recipes nothing", 2), ("recipes", 0), ("recipes --json", 0)]
)
def test_a_reader_that_has_gone_changes_no_exit_code(command: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    told = [sys.executable, "-m", "cifar_fast_utils", *command.split()]
    done = subprocess.run(told, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert done.returncode == code
    assert done.stderr.count("\n") == code // 2  # the error's one line, and nothing else


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cifar_fast_utils", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("cifar-fast")
    done = subprocess.run([command, "recipes"], check=True, capture_output=True, text=True)
    assert "ghost_norm" in done.stdout


def test_train_writes_record_weights_and_plot_and_predict_reads_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    files = {"--json": out / "run.json", "--save": out / "net.safetensors", "--plot": out / "plot.png"}
    arguments = [*TRAIN, "--data", str(folder), *(str(a) for pair in files.items() for a in pair)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "final on noise, smoke scale, seed 0" in said
    assert said.count("%") >= 6  # two epochs' accuracies and the two results
    assert re.search(r"with TTA +\S+% on noise, 2 views", said)
    assert sorted(out.iterdir()) == sorted(files.values())

    record = json.loads(files["--json"].read_text())
    validate(record)
    assert record["cross_entropy"] > 0  # which the schema does not ask for: old records have none
    assert record["dataset"] == "noise"
    assert len(record["history"]) == 2

    with Image.open(files["--plot"]) as plot:
        assert plot.size[0] > 800
    Image.effect_noise((90, 60), 80).save(tmp_path / "a.png")
    assert cli.main(["predict", str(files["--save"]), str(tmp_path / "a.png"), str(tmp_path / "a.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    network, recipe, classes = load_network(files["--save"])
    assert classes == data.load(str(folder)).classes
    found = predict(network, read_picture(tmp_path / "a.png")[None], recipe)[0]
    best = ", ".join(f"{classes[k]} {found[k]:.0%}" for k in found.argsort(descending=True)[:3])
    assert lines[0] == f"{tmp_path / 'a.png'}: {best}"


def test_a_file_that_cannot_be_written_keeps_none_of_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "check_writable", lambda path: None)  # it was writable before the training
    (tmp_path / "run.json").mkdir()
    names = [f"--{kind}={tmp_path / name}" for kind, name in (("json", "run.json"), ("save", "w.safetensors"))]
    assert "run.json: it is a folder" in refused(
        capsys, *TRAIN, "--data", folder, *names, "--plot", tmp_path / "curves.svg"
    )
    assert load_network(tmp_path / "w.safetensors")
    assert (tmp_path / "curves.svg").stat().st_size > 0


def test_train_does_as_it_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "precisions", lambda on: ["bfloat16", "float32"])  # so that auto is another
    monkeypatch.setattr(device, "bfloat16_pays", lambda: True)
    monkeypatch.setattr("cifar_fast_utils.record.current_commit", lambda: "0123456789ab")
    torch.set_num_threads(1)  # so that two are not the default
    told = [
        "--seed",
        "3",
        "--threads",
        "2",
        "--batch-size",
        "256",
        "--epochs",
        "1.5",
        "--precision",
        "float32",
        "--test-at-end",
        "--json",
        str(tmp_path / "run.json"),
        "--ledger",
        str(tmp_path / "runs.jsonl"),
    ]
    (tmp_path / "runs.jsonl").write_text("{}\n")  # what is there stays
    assert cli.main([*TRAIN, "--data", str(folder), *told]) == 0
    assert "final@batch256" in capsys.readouterr().out
    record = json.loads((tmp_path / "run.json").read_text())
    records, damaged = read([tmp_path / "runs.jsonl"])
    assert (records, [one.line for one in damaged]) == ([record], [1])
    assert cli.main(["report", str(tmp_path)]) == 0
    assert re.search(r"^\| `final@batch256@1.5` \| +1.5 \| +1 \|", capsys.readouterr().out, re.MULTILINE)
    assert (record["seed"], record["threads"], record["recipe"]["batch_size"]) == (3, 2, 256)
    assert record["commit"] == "0123456789ab"
    assert (record["epochs"], record["recipe"]["name"]) == (1.5, "final@batch256@1.5")
    assert record["precision"] == "float32"
    assert [row["test_accuracy"] for row in record["history"]] == [None, record["accuracy"]]


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_bar_is_shown_unless_it_is_to_be_quiet(
    quiet: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.load(str(folder), quiet=True)
    told = ["train", "gpu_data", "--scale", "smoke", "--device", "cpu", "--data", str(folder), "--epochs", "0.5"]
    assert cli.main([*told, *quiet]) == 0
    assert ("image/s" in capsys.readouterr().err) == (not quiet)


def test_shares_prints_and_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "LADDER", LADDER[:2])  # of the others test_shares asks
    torch.set_num_threads(1)
    told = ["--scale", "smoke", "--device", "cpu", "--steps", "1", "--threads", "2", "--quiet"]
    assert cli.main(["shares", "--data", str(folder), *told, "--json", str(tmp_path / "shares.json")]) == 0
    figures = read_shares(tmp_path / "shares.json")
    assert (figures["threads"], figures["steps"], list(figures["rungs"])) == (2, 1, LADDER[:2])
    assert capsys.readouterr().out == shares_table(figures) + "\n"


def test_bench_measures_what_the_readme_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    took = {
        "ours": 2.0, "plain norm": 1.0, "port": 8.0, "port, memory kept": 4.0, "in groups": 1.0, "DataLoader": 5.0,
        f"Muon in {torch.bfloat16}": 3.0,
    }  # fmt: skip
    monkeypatch.setattr(bench, "median_seconds", lambda sides, repeats: {side: took.get(side, 2.0) for side in sides})
    monkeypatch.setattr(bench, "IMAGES", 2048)
    assert cli.main(["bench", "--json", str(tmp_path / "bench.json")]) == 0
    figures = json.loads((tmp_path / "bench.json").read_text())
    recorded = json.loads((ROOT / "benchmarks" / "epyc_avx2.json").read_text())
    assert set(figures) == set(recorded)
    assert (figures["train_speedup"], figures["ghost_cost"]) == (4, 2)
    assert figures["augment_speedup"] == pytest.approx(5)  # preparing takes its side's seconds here, too
    assert figures["train_images_per_second"] == 256
    assert figures["matmul_gflops"] == pytest.approx(4096**3 / 1e9)
    assert figures["muon_bfloat16_cost"] == 1.5
    assert figures["port_kept_images_per_second"] == 128
    assert figures["train_gflops"] == pytest.approx(count_flops(get("final"), 64) / 1e9 / 2)
    assert figures["fast_gflops"] == pytest.approx(run_flops(get("fast"), 64, 4) / (26 * 2.0) / 1e9)  # 6.5 × 4 steps
    assert figures["matmul_share"] == pytest.approx(figures["train_gflops"] / figures["matmul_gflops"])
    said = capsys.readouterr().out
    assert "medians of 5, sides taken in turn" in said
    assert "--repeats: must be a whole number of at least 5, not 4" in refused(capsys, "bench", "--repeats", "4")


def test_the_steps_that_bench_times_train(monkeypatch: pytest.MonkeyPatch) -> None:
    iterated_in: list[torch.dtype] = []
    networks: list[Any] = []
    build, iterate = network.build_network, optimiser.orthogonalise

    def built(*arguments: Any) -> Any:
        networks.append(build(*arguments))
        return networks[-1]

    def iterates(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        iterated_in.append(dtype)
        return iterate(matrix, dtype)

    monkeypatch.setattr(bench, "build_network", built)
    monkeypatch.setattr(optimiser, "orthogonalise", iterates)
    recipe = replace(get("muon"), batch_size=16)
    ways: list[dict[str, Any]] = [{}, {"channels_last": False}, {"side": 16}, {"iterate_in": torch.bfloat16}]
    for way in ways:
        step = bench.a_step(recipe, "float32", 4, **way)
        before = networks[-1].linear.weight.clone()
        step()
        assert not torch.equal(networks[-1].linear.weight, before)
        assert set(iterated_in) == {way.get("iterate_in", torch.float32)}
        iterated_in.clear()
    taken: list[str] = []
    monkeypatch.setattr(bench, "a_step", lambda *_, **__: partial(taken.append, "a step"))
    bench._start_port()
    bench._step_port()
    assert taken == ["a step"]


def test_both_augmentations_make_as_many_batches() -> None:
    images, labels = torch.zeros(1100, 32, 32, 3, dtype=torch.uint8), torch.zeros(1100, dtype=torch.int64)
    sides: dict[str, Callable[[], Any]] = dict(bench.augmentations(images, labels, torch.float32))
    assert {name: len(run()) for name, run in sides.items()} == {"in groups": 2, "DataLoader": 2}


def test_a_median_is_of_turns_and_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    spans = [part for turn in (100, 3, 1, 2) for part in (0, turn, 0, 10 * turn)]
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=itertools.accumulate(spans).__next__))
    sides: dict[str, Callable[[], object]] = {name: partial(called.append, name) for name in ("one", "other")}
    assert bench.median_seconds(sides, 3) == {"one": 2, "other": 20}
    assert called == ["one", "other"] * 4
    turns = {"eager": [9.0, 1.0, 2.0, 4.0], "compiled": [90.0, 2.0, 1.0, 6.0]}
    assert bench.compared(turns) == {"eager": 2000, "compiled": 2000, "ratio": 1.5}  # of pairs, not of medians


def test_recipes_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert all(f" {name} " in said for name in (*RECIPES, "airbench94"))
    assert cli.main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [from_dict(entry) for entry in listed] == [*RECIPES.values(), *MODERN.values()]
    assert cli.main(["recipes", "--diff", "celu", "ghost_norm"]) == 0
    assert "ghost_groups: 1 → 16" in capsys.readouterr().out


def test_files_are_written_even_if_nobody_reads_on(folder: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    arguments = [*TRAIN, "--data", str(folder), "--json", str(tmp_path / "run.json")]
    command = [sys.executable, "-m", "cifar_fast_utils", *arguments]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as run:
        os.close(writing)
        os.read(reading, 1)  # the head of the table is written before the first step
        os.close(reading)
        _, said = run.communicate(timeout=300)
    assert (run.returncode, said) == (0, "")
    assert json.loads((tmp_path / "run.json").read_text())["dataset"] == "noise"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_files_are_written_even_if_the_logs_disk_is_full(folder: Path, tmp_path: Path) -> None:
    arguments = [*TRAIN, "--data", str(folder), "--json", str(tmp_path / "run.json")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "cifar_fast_utils", *arguments], stdout=full, timeout=300)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run.json").read_text())["dataset"] == "noise"


def test_no_file_is_lost_with_the_reader_of_a_bar(folder: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    loud = [argument for argument in TRAIN if argument != "--quiet"]
    arguments = [*loud, "--data", str(folder), "--json", str(tmp_path / "run.json")]
    command = [sys.executable, "-m", "cifar_fast_utils", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=writing, timeout=300)
    os.close(writing)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run.json").read_text())["dataset"] == "noise"


@pytest.mark.skipif(sys.platform == "win32", reason="another shell")
def test_closed_streams_are_no_trouble() -> None:
    command = shlex.join([sys.executable, "-m", "cifar_fast_utils", "recipes"])
    assert subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True).stderr == ""
    assert "whitening" in subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, text=True).stdout


def test_a_character_that_the_terminal_lacks_is_no_trouble() -> None:
    command = [sys.executable, "-m", "cifar_fast_utils", "recipes", "--diff", "celu", "ghost_norm"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert b"ghost_groups: 1 ? 16" in done.stdout


def test_info_says_what_the_machine_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    said = capsys.readouterr().out
    on = device.choose_device()
    for word in (
        f"{on.type}: {device.device_name(on)}",
        f"{device.choose_precision('auto', on)} (what auto takes)",
        torch.__version__.split("+")[0],
        "built in: synthetic",
    ):
        assert word in said


def test_info_says_the_rest_where_one_thing_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_FAST_DEVICE", "tpu")
    monkeypatch.setattr("cifar_fast_utils.info.PACKAGES", ("torch", "no-such-package"))
    assert cli.main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("CIFAR_FAST_DEVICE: no device is called 'tpu'", "not installed", "instruction sets", "synthetic"):
        assert word in said


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean ghost_norm" in refused(capsys, "train", "gost_norm")
    assert "did you mean" in refused(capsys, "recipes", "--diff", "final", "whitenning")
    assert "no scale is called 'tiny'" in refused(capsys, "train", "--scale", "tiny", "--data", "synthetic")
    assert "invalid choice: 'trian'" in refused(capsys, "trian")
    for seed in ("-1", "1.5", "9" * 20):
        assert f"--seed: must be a whole number from 0 to 2^32 - 1, not {seed}" in refused(
            capsys, "train", "--seed", seed
        )
    assert "invalid float value: 'ten'" in refused(capsys, "train", "--epochs", "ten")


@pytest.mark.parametrize(("epochs", "says"), [("0", "not 0"), ("-3", "not -3"), ("nan", "not nan"), ("inf", "not inf")])
def test_lengths_that_make_no_sense(epochs: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(capsys, *TRAIN, "--epochs", epochs)


def test_batches_that_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be split into 16 equal ghost groups" in refused(capsys, *TRAIN, "--batch-size", "500")
    said = refused(capsys, *TRAIN, "--data", folder, "--batch-size", "4096")
    assert "a batch of 4096 is larger than the data: 1024 training images" in said
    assert "batch_size: Input should be greater than 0, not 0" in refused(capsys, *TRAIN, "--batch-size", "0")


def test_training_without_the_gpu_that_is_there_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "unused_gpu", lambda asked: "its driver is too old" if asked == "auto" else "")
    assert cli.main([*TRAIN, "--data", str(folder), "--device", "auto", "--epochs", "0.1"]) == 0
    assert "cifar-fast: its driver is too old\n" in capsys.readouterr().err
    assert cli.main([*TRAIN, "--data", str(folder), "--device", "cpu", "--epochs", "0.1"]) == 0
    assert "driver" not in capsys.readouterr().err


def test_devices_and_precisions_the_machine_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "instruction_sets", set)
    assert "no 'cuda' device" in refused(capsys, "train", "--device", "cuda")
    assert "no fast bfloat16, only float32" in refused(capsys, *TRAIN, "--precision", "bfloat16")
    assert "no precision is called 'half'" in refused(capsys, *TRAIN, "--precision", "half")
    assert "--threads: must be a whole number from 1 to 4096, not 0" in refused(capsys, *TRAIN, "--threads", "0")
    assert "from 1 to 4096, not 2147483647" in refused(capsys, *TRAIN, "--threads", "2147483647")


def test_folders_that_hold_no_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refused(capsys, *TRAIN, "--data", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, *TRAIN, "--data", tmp_path / "empty")
    copy = shutil.copytree(folder, tmp_path / "noise")
    file = next((copy / "plain_text").glob("train-*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert file.name in refused(capsys, *TRAIN, "--data", copy)


def test_results_that_cannot_be_written_are_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", lambda *_, **__: pytest.fail("trained"))
    for option in ("--json", "--save", "--plot"):
        assert "cannot write" in refused(capsys, *TRAIN, option, tmp_path / "no" / "file.png")
    assert "ends in .jsonl" in refused(capsys, *TRAIN, "--ledger", tmp_path / "run.json")
    assert "ending" in refused(capsys, *TRAIN, "--plot", tmp_path / "plot.xyz")


@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_a_write_that_really_fails_half_way(option: str, folder: Path, tmp_path: Path) -> None:
    data.load(str(folder), quiet=True)  # cached, so that what is left to write is the result
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "result.pdf"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"  # bytes a file may have
    command = ["train", "--scale", "smoke", "--device", "cpu", "--quiet", "--data", str(folder), option, str(file)]
    fonts = "import matplotlib.font_manager"  # whose cache is larger, and may not have been written yet
    script = f"import sys; {fonts}; {limit}; from cifar_fast_utils import cli; sys.exit(cli.main({command}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"cifar-fast: cannot write {file}: File too large\n"
    assert list(file.parent.iterdir()) == []


def test_a_loss_that_is_no_number(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = torch.tensor(float("nan")), torch.zeros(512, 10)
    monkeypatch.setattr(loop, "training_step", lambda *_: nothing)
    said = refused(capsys, *TRAIN, "--data", folder, "--json", tmp_path / "run.json")
    assert "the loss became nan at step 1 (epoch 0.50" in said
    assert "a larger batch or a recipe with a lower peak rate" in said
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU"),
        (RuntimeError("CUDA error: out of memory"), "the GPU"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "this machine"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "this machine"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "this machine"),
        (MemoryError(), "this machine"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine"),
        (RuntimeError("HIP error: out of memory"), "the GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "the GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), "this machine"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "the GPU"),
        (RuntimeError("Couldn't open shared file mapping, error code: <1455>"), "this machine"),
        (RuntimeError("unable to allocate shared memory(shm) for file"), "/dev/shm"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "this machine"),
        (RuntimeError("Bus error. It is possible that dataloader's workers are out of shared memory"), "/dev/shm"),
    ],
)
def test_which_memory_is_full(error: Exception, where: str) -> None:
    assert (out_of_memory(error) or "").startswith(where)


def test_what_filled_the_memory_is_let_go_of() -> None:
    """A notebook keeps the last exception."""
    made: list[weakref.ref[Tensor]] = []

    def fill() -> None:
        large = torch.zeros(10)
        made.append(weakref.ref(large))
        raise MemoryError

    with pytest.raises(UserError, match="out of memory: do with less") as kept, memory_named("do with less"):
        fill()
    gc.collect()
    assert kept.value.__cause__ is not None
    assert [one() for one in made] == [None]


def test_out_of_memory(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(loop, "training_step", grow)
    assert "the GPU is out of memory: lower --batch-size" in refused(capsys, *TRAIN, "--data", folder)
    monkeypatch.setitem(cli.COMMANDS, "info", grow)
    assert "the GPU is out of memory: close what else is running here" in refused(capsys, "info")


def test_what_a_device_cannot_do_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_: Any) -> None:
        raise NotImplementedError("'aten::index_copy.out' is not implemented for MPS.\nIf you want")

    monkeypatch.setattr(loop, "training_step", lacks)
    said = refused(capsys, *TRAIN, "--data", folder)
    assert "take another --device, or a newer PyTorch: 'aten::index_copy.out' is not implemented for MPS.\n" in said


def test_a_mistake_of_ours_is_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(loop, "training_step", wrong)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        cli.main([*TRAIN, "--data", str(folder)])


@pytest.mark.parametrize(
    ("at", "ends"),
    [(4, "stopped after step 3 of 4; the last whole pass ended at epoch 1"),
     (2, "stopped after step 1 of 4; no pass was finished")],
)  # fmt: skip
def test_ctrl_c_ends_with_what_was_reached(
    at: int, ends: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    steps, plain = itertools.count(1), train.training_step

    def stopping(*arguments: Any) -> Any:
        if next(steps) == at:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(loop, "training_step", stopping)
    assert cli.main([*TRAIN, "--data", str(folder), "--json", str(tmp_path / "run.json")]) == 130
    said = capsys.readouterr()
    assert ends in said.out
    assert ("\n      1  " in said.out) == (at == 4)  # the row of the first epoch
    assert "Traceback" not in said.err
    assert not (tmp_path / "run.json").exists()
