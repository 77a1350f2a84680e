import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_fast_utils import cli, device, experiment, loop, ray_engine, train
from cifar_fast_utils import record as record_module
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.experiment import Here, Job, Tick, Work, carry_out, uncommitted, validation
from cifar_fast_utils.ledger import Record, append, read, read_folder
from cifar_fast_utils.plan import read_plan
from cifar_fast_utils.recipe import Recipe, get
from cifar_fast_utils.run import Run

ROOT = Path(__file__).parent.parent
NARROW = Scale("smoke", 4, train_images=1024, test_images=100, epochs=1)
TOML = """
question = "?"
dataset = "noise"
scale = "smoke"
seeds = 2
rungs = ["pool_before_norm", "ema", "tta"]
"""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about which runs are made, not about what they learn."""
    monkeypatch.setitem(device.SCALES, "smoke", NARROW)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(TOML)
    return path


def job(tiny: Dataset) -> Job:
    return Job(tiny, NARROW, device="cpu", precision="float32", threads=1)


RUNS = [("pool_before_norm@1", 0), ("tta@1", 0), ("pool_before_norm@1", 1), ("tta@1", 1)]


def names(path: Path) -> list[tuple[str, int]]:
    records, damaged = read([path])
    assert damaged == []
    return [(one["recipe"]["name"], one["seed"]) for one in records]


def test_a_job_passes_on_what_it_is_told_and_notes_the_commit(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    real = train.train

    def spy(recipe: Recipe, dataset: Dataset, **settings: Any) -> Run:
        told.update(settings, threads=torch.get_num_threads())
        return real(recipe, dataset, **settings)

    torch.set_num_threads(1)
    monkeypatch.setattr(experiment, "train", spy)
    monkeypatch.setattr(experiment, "current_commit", lambda: "0123456789ab")
    made = replace(job(tiny), threads=2)(get("pool_before_norm@0.5"), 7)
    assert [told[key] for key in ("device", "precision", "seed", "threads")] == ["cpu", "float32", 7, 2]
    assert (made["commit"], made["threads"]) == ("0123456789ab", 2)


def test_it_says_first_where_the_runs_are_made(plan: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--precision", "float32", "--list"]
    assert cli.main(command) == 0
    here = device.device_name(torch.device("cpu"))
    said = [line for line in re.split(r"[\r\n]+", capsys.readouterr().err) if not line.startswith("cifar-fast: ")]
    assert said[0] == f"smoke scale on {here} in float32"  # before the images are looked for


@pytest.mark.parametrize("committed", [True, False])
def test_a_plan_or_code_that_is_not_committed_is_said_to_be(
    committed: bool, plan: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "uncommitted", lambda path: not committed)
    monkeypatch.setattr(record_module, "current_commit", lambda: "0123456789ab" + "+" * (not committed))
    assert cli.main(["record", str(plan), "--data", str(folder), "--device", "cpu", "--list"]) == 0
    said = capsys.readouterr().err
    assert ("plan.toml is not committed: a plan should be, before its runs" in said) != committed
    assert ("the code has uncommitted changes" in said) != committed


def test_a_plan_for_a_gpu_is_not_carried_out_without_one(
    plan: Path, tiny: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(f"gpu = true\n{plan.read_text()}")
    with pytest.raises(UserError, match="the plan is for a GPU"):
        carry_out(read_plan(plan), plan.with_suffix(".jsonl"), tiny, Here(job(tiny)), progress=False)
    for more in ([], ["--list"]):
        command = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--quiet", *more]
        assert cli.main(command) == 2
        assert "the plan is for a GPU, and its runs would be made on " in capsys.readouterr().err
    assert not plan.with_suffix(".jsonl").exists()


def test_the_shell_makes_a_plans_runs_once(
    plan: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--quiet"]
    (tmp_path / "before.jsonl").write_text('{"half a li')
    assert cli.main([*command, "--list"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{name} seed {seed}" for name, seed in RUNS]
    assert "before.jsonl, line 1: not JSON" in said.err
    assert not (tmp_path / "plan.jsonl").exists()
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "4 runs added" in said.out
    assert "before.jsonl, line 1: not JSON" in said.err
    assert names(tmp_path / "plan.jsonl") == RUNS
    assert cli.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path / "plan.jsonl")]) == 0
    assert "tta@1 × 2" in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "| `tta@1`" in capsys.readouterr().out


def test_what_another_file_of_the_folder_holds_is_not_run_again(plan: Path, tiny: Dataset, tmp_path: Path) -> None:
    ledger = tmp_path / "plan.jsonl"
    assert carry_out(read_plan(plan), ledger, tiny, Here(job(tiny)), progress=False) == 4
    moved = read([ledger])[0]
    ledger.unlink()
    append(tmp_path / "before.jsonl", moved[1])
    append(tmp_path / "before.jsonl", {**moved[0], "precision": "bfloat16"})  # another setting
    assert carry_out(read_plan(plan), ledger, tiny, Here(job(tiny)), progress=False) == 3
    assert names(ledger) == [RUNS[0], *RUNS[2:]]
    again = read([ledger])[0]
    assert [one["accuracy"] for one in again] == [moved[0]["accuracy"], moved[2]["accuracy"], moved[3]["accuracy"]]


def test_a_warm_up_comes_first_and_is_thrown_away(
    plan: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = train.train

    def spy(recipe: Recipe, *args: object, **kwargs: object) -> object:
        trained.append(recipe.name)
        return real(recipe, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "train", spy)
    carry_out(read_plan(plan), tmp_path / "plan.jsonl", tiny, Here(job(tiny)), progress=False)
    assert trained == ["warm-up", *(name for name, _ in RUNS)]
    assert names(tmp_path / "plan.jsonl") == RUNS


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UserError("the loss became nan"), "the loss became nan"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU is out of memory"),
        (RuntimeError("DataLoader worker is killed"), "RuntimeError: DataLoader worker is killed"),
    ],
)
def test_a_run_that_fails_keeps_none_of_the_others_from_being_made(
    error: Exception,
    says: str,
    plan: Path,
    tiny: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = train.train

    def failing(recipe: Recipe, *args: object, **kwargs: object) -> object:
        if recipe.name in ("warm-up", RUNS[0][0]):
            raise error
        return real(recipe, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "train", failing)
    ledger = tmp_path / "plan.jsonl"
    with pytest.raises(UserError, match=f"2 of 4 runs failed; the first was {RUNS[0][0]}, seed 0: {says}"):
        carry_out(read_plan(plan), ledger, tiny, Here(job(tiny)), progress=False)
    assert names(ledger) == [RUNS[1], RUNS[3]]
    assert f"failed: {RUNS[2][0]}, seed 1: {says}" in capsys.readouterr().err


class Stopping(Here):
    """Ctrl-C in the third run."""

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        for done, record in enumerate(super().runs(work, tick)):
            if done == 2:
                raise KeyboardInterrupt
            yield record


class Elsewhere(Here):
    """A cluster whose nodes are not alike: all is made on another device than was planned."""

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        for record in super().runs(work, tick):
            yield record if isinstance(record, UserError) else {**record, "device": "another"}


def test_what_was_made_elsewhere_is_kept_once(
    plan: Path, tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "plan.jsonl"
    assert carry_out(read_plan(plan), ledger, tiny, Elsewhere(job(tiny)), progress=False) == 4
    assert "made elsewhere than planned, on another in float32" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"4 of 4 runs failed; .*: the folder holds it already, on another in float32"):
        carry_out(read_plan(plan), ledger, tiny, Elsewhere(job(tiny)), progress=False)
    assert names(ledger) == RUNS


class Beaten(Here):
    """An engine whose second run another process has recorded when it ends."""

    def __init__(self, its: Job, ledger: Path) -> None:
        super().__init__(its)
        self.ledger = ledger

    def runs(self, work: Work, tick: Tick) -> Iterator[Record | UserError]:
        for number, record in enumerate(super().runs(work, tick)):
            assert not isinstance(record, UserError)
            if number == 1:
                append(self.ledger, record)
            yield record


def test_what_another_process_made_meanwhile_is_not_added_again(plan: Path, tiny: Dataset, tmp_path: Path) -> None:
    ledger = tmp_path / "plan.jsonl"
    name, seed = RUNS[1]
    with pytest.raises(UserError, match=f"1 of 4 runs failed; .*{name}, seed {seed}: the folder holds it already"):
        carry_out(read_plan(plan), ledger, tiny, Beaten(job(tiny), ledger), progress=False)
    assert names(ledger) == RUNS


class Bar:
    """In the place of the bar: what it is told."""

    def __init__(self, **options: float) -> None:
        self.total, self.start, self.said = options["total"], options["initial"], list[str]()
        self.n = self.start
        bars.append(self)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def set_description(self, said: str) -> None:
        self.said.append(said)

    def update(self, epochs: float) -> None:
        self.n += epochs

    def write(self, *_: object, **__: object) -> None:
        """Nothing to show."""


bars: list[Bar] = []


def test_the_bar_is_over_the_whole_plan(
    plan: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "plan.jsonl"
    bars.clear()
    monkeypatch.setattr(experiment, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        carry_out(read_plan(plan), ledger, tiny, Stopping(job(tiny)))
    real = train.train

    def failing(recipe: Recipe, *args: object, **kwargs: object) -> object:
        if recipe.name == RUNS[2][0]:
            raise MemoryError
        return real(recipe, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "train", failing)
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        carry_out(read_plan(plan), ledger, tiny, Here(job(tiny)))
    first, second = bars
    assert first.said == ["0/4 runs", "1/4 runs", "2/4 runs"]
    assert second.said == ["2/4 runs", "3/4 runs", "4/4 runs"]
    assert second.start == pytest.approx(second.total / 2)
    assert second.n == pytest.approx(second.total)
    assert first.total == second.total == pytest.approx(4)


def test_ctrl_c_keeps_what_is_done_and_the_next_call_goes_on(plan: Path, tiny: Dataset, tmp_path: Path) -> None:
    ledger = tmp_path / "plan.jsonl"
    with pytest.raises(KeyboardInterrupt):
        carry_out(read_plan(plan), ledger, tiny, Stopping(job(tiny)), progress=False)
    assert names(ledger) == RUNS[:2]
    assert carry_out(read_plan(plan), ledger, tiny, Here(job(tiny)), progress=False) == 2
    assert names(ledger) == RUNS


def test_ctrl_c_within_a_run_ends_the_command_in_one_line(
    plan: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    command = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--quiet"]
    monkeypatch.setattr(experiment.Job, "warm_up", lambda *_: None)
    monkeypatch.setattr(loop.Training, "check_finite", pressed)  # of an epoch's end
    assert cli.main(command) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cifar-fast: stopped"
    assert not (tmp_path / "plan.jsonl").exists()
    monkeypatch.undo()
    monkeypatch.setitem(device.SCALES, "smoke", NARROW)
    assert cli.main(command) == 0
    assert names(tmp_path / "plan.jsonl") == RUNS


HANG_AFTER_TWO = """
import time
from cifar_fast_utils import experiment
append, kept = experiment.append, []
def hang(*arguments, **named):
    added = append(*arguments, **named)
    kept.append(arguments)
    if len(kept) == 2:
        time.sleep(600)
    return added
experiment.append = hang
"""
RECORDER = """
import sys
from cifar_fast_utils import cli, device
device.SCALES["smoke"] = device.Scale("smoke", 4, train_images=1024, test_images=100, epochs=1)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_recorder_resumes_where_it_was(plan: Path, folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "plan.jsonl"
    arguments = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--quiet", "--threads", "1"]
    command = [sys.executable, "-c", f"{HANG_AFTER_TWO}{RECORDER}", *arguments]
    held: list[Record] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as recorder:
        until = time.monotonic() + 300
        while len(held) < 2 and recorder.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            held, _ = read([ledger] if ledger.exists() else [])  # while the other writes
        os.kill(recorder.pid, signal.SIGKILL)
    assert names(ledger) == RUNS[:2]
    assert cli.main(arguments) == 0
    assert names(ledger) == RUNS


def test_no_run_is_lost_with_the_reader_of_the_bar(plan: Path, folder: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["record", str(plan), "--data", str(folder), "--device", "cpu", "--threads", "1"]
    done = subprocess.run([sys.executable, "-m", "cifar_fast_utils", *arguments], stderr=writing, timeout=300)
    os.close(writing)
    assert done.returncode == 0
    assert len(names(tmp_path / "plan.jsonl")) == len(RUNS)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_bad_input_is_one_line(
    plan: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", folder, "--quiet")
    assert "the plan is for 'noise', but the images found are 'synthetic'" in refused(
        capsys, "record", plan, "--data", "synthetic", "--quiet"
    )
    assert "cannot read" in refused(capsys, "record", tmp_path / "none.toml", *data)
    assert "cannot write" in refused(capsys, "record", plan, "--ledger", tmp_path / "no" / "x.jsonl", *data)
    assert "name ends in .jsonl" in refused(capsys, "record", plan, "--ledger", tmp_path / "x.json", *data)
    assert "no device is called" in refused(capsys, "record", plan, "--device", "abacus", *data)
    assert "no folder" in refused(capsys, "report", tmp_path / "none")
    (tmp_path / "file").touch()
    assert "cannot write" in refused(capsys, "report", tmp_path, "--plots", tmp_path / "file")
    assert "--target" in refused(capsys, "report", tmp_path, "--target", "94")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "--engine ray needs Ray" in refused(capsys, "record", plan, "--engine", "ray", *data)


def test_a_plan_is_carried_out_by_ray_where_that_is_asked_for(
    plan: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "the_ray", lambda: None)
    monkeypatch.setattr(ray_engine, "OnRay", Here)  # a cluster has a test of its own
    command = [
        "record",
        str(plan),
        "--data",
        str(folder),
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--threads",
        "1",
    ]
    assert cli.main([*command, "--engine", "ray"]) == 0
    said = capsys.readouterr()
    assert f"smoke scale on {device.device_name(torch.device('cpu'))} in float32, by Ray" in said.err
    assert f"{len(RUNS)} runs added to" in said.out
    assert names(plan.with_suffix(".jsonl")) == RUNS


def test_a_plan_that_is_not_committed_is_noticed(tmp_path: Path, git: Callable[..., str]) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(TOML)
    assert not uncommitted(plan)  # no checkout: nothing to say
    git(tmp_path, "init")
    assert uncommitted(plan)
    git(tmp_path, "add", "plan.toml")
    git(tmp_path, "commit", "-m", "plan")
    assert not uncommitted(plan)
    plan.write_text(TOML + "\n")
    assert uncommitted(plan)


def test_a_ray_cluster_makes_the_same_runs(
    plan: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_fast_utils.ray_engine import OnRay, the_ray

    ray = the_ray()

    (tmp_path / "ray").mkdir()
    here, there = tmp_path / "plan.jsonl", tmp_path / "ray" / "plan.jsonl"
    with monkeypatch.context() as patched:
        patched.setenv("RAY_ADDRESS", "mycluster")
        with pytest.raises(UserError, match="Ray: ValueError"):
            OnRay(job(tiny))

    def given(its: Job) -> object:
        return ray.get_runtime_context().get_assigned_resources()

    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(ray_engine, "_setting", given)
            for its, needs in (
                (replace(job(tiny), threads=2), {"CPU": 2}),
                (replace(job(tiny), device="cuda", threads=None), {"CPU": 1, "GPU": 1}),
            ):
                assert ray.get(OnRay(its).remote_setting.remote(None)) == needs
        with pytest.raises(UserError, match="no node of the Ray cluster has 99 CPUs"):
            OnRay(replace(job(tiny), threads=99))
        monkeypatch.setenv("CIFAR_FAST_DEVICE", "cpu")
        assert OnRay(replace(job(tiny), device="auto")).job.device == "cpu"  # said here, and so to all nodes
        with monkeypatch.context() as patched:
            patched.setenv("CIFAR_FAST_PRECISION", "float32")  # not what a processor with bfloat16 would choose
            assert OnRay(replace(job(tiny), precision="auto")).job.precision == "float32"
        engine = OnRay(replace(job(tiny), precision="auto"))
        alike = [one.setting()._replace(precision="") for one in (engine, Here(replace(job(tiny), precision="auto")))]
        assert alike[0] == alike[1]  # but for the precision: a busy processor may try bfloat16 with another result
        assert engine.job.precision == engine.setting().precision  # chosen once, for all workers
        engine = OnRay(job(tiny))
        assert engine.setting() == Here(job(tiny)).setting()
        assert carry_out(read_plan(plan), there, tiny, engine, progress=False) == 4
        assert carry_out(read_plan(plan), there, tiny, engine, progress=False) == 0
        too_large = Recipe("too large", 1, ((0, 0.0),), batch_size=10**6)
        (failed,) = engine.runs([(too_large, 0)], lambda epochs: None)
        assert re.match("too large, seed 0: .* is larger than the data", str(failed))
        assert isinstance(failed, UserError)

        def lost(reference: object) -> None:
            raise ray.exceptions.WorkerCrashedError

        with monkeypatch.context() as patched:
            patched.setattr(ray, "get", lost)
            (failed,) = engine.runs([(too_large, 0)], lambda epochs: None)
        assert re.match("too large, seed 0: Ray: WorkerCrashedError: The worker died", str(failed))
        with monkeypatch.context() as patched:  # a cluster with GPUs, of which one node's has gone
            patched.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2, "GPU": 1}}])
            patched.delenv("CIFAR_FAST_DEVICE")
            assert OnRay(replace(job(tiny), device="auto")).job.device == "cuda"
    finally:
        ray.shutdown()
    assert sorted(names(there)) == sorted(RUNS)
    carry_out(read_plan(plan), here, tiny, Here(job(tiny)), progress=False)
    results = [
        {(r["recipe"]["name"], r["seed"]): r["accuracy"] for r in read_folder(p.parent)[0]} for p in (here, there)
    ]
    assert results[0] == results[1]


def test_a_worker_of_the_cluster_warms_up_once(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []

    class Watched(Job):
        def warm_up(self, recipe: Recipe) -> None:
            done.append(("warm-up", 0))

        def __call__(self, recipe: Recipe, seed: int, tick: Tick = lambda epochs: None) -> Record:
            done.append((recipe.name, seed))
            return {}

    monkeypatch.setattr(ray_engine, "_warm", [])
    for seed in (0, 1):
        ray_engine._run(Watched(tiny, NARROW), get("final"), seed)
    assert done == [("warm-up", 0), ("final", 0), ("final", 1)]


def test_validation_images_are_training_images_set_aside(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "SET_ASIDE", 100)
    found = validation(tiny)
    assert found.name == "noise-validation"
    assert torch.equal(torch.cat([found.train_images, found.test_images]), tiny.train_images)
    assert torch.equal(torch.cat([found.train_labels, found.test_labels]), tiny.train_labels)
    assert len(found.test_labels) == 100
    monkeypatch.setattr(experiment, "SET_ASIDE", len(tiny.train_labels))
    with pytest.raises(UserError, match="cannot set"):
        validation(tiny)


def test_a_search_is_tested_on_images_set_aside(
    plan: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "SET_ASIDE", 200)
    plan.write_text(TOML.replace('"noise"', '"noise-validation"').replace("seeds = 2", "seeds = 1\nfirst_seed = 7"))
    assert cli.main(["record", str(plan), "--data", str(folder), "--device", "cpu", "--quiet"]) == 0
    records, _ = read([tmp_path / "plan.jsonl"])
    assert {(one["dataset"], one["seed"]) for one in records} == {("noise-validation", 7)}
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "noise" not in capsys.readouterr().out  # what was tried is no evidence
