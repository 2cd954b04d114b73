"""`lightning-kd bench list` and `lightning-kd bench run`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import kd_bench.runner
import pytest
from kd_bench import variants
from kd_bench.items import Item
from kd_bench.launchers.events import Failure
from kd_bench.options import LaunchOptions, RayOptions, RunOptions
from kd_bench.protocol import list_protocols, load_protocol
from kd_bench.results import RunSet
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import RunReport
from kd_bench.weights import load_student, weights_path
from own_method import SOURCE, write_method
from synthetic_results import write_results

from lightning_kd.cli.main import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class FakeRunner:
    """Stands in for the benchmark: keeps what it was asked for, reports made-up results."""

    def __init__(self, run_sets: list[RunSet], failures: tuple[Failure, ...] = ()) -> None:
        self.run_sets, self.failures = run_sets, failures
        self.asked: dict[str, Any] = {}

    def __call__(self, protocol_id: str, **options: Any) -> RunReport:
        self.asked = {"protocol_id": protocol_id, **options}
        protocol = load_protocol(protocol_id)
        return RunReport(protocol, Path("runs/results"), tuple(self.run_sets), 1, 0, self.failures, 1.0)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    fake = FakeRunner(write_results(Path("runs/results"), seeds=(0, 1)))
    monkeypatch.setattr(kd_bench.runner, "run_benchmark", fake)
    return fake


def test_list_shows_every_protocol(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["bench", "list"]) == 0
    output = capsys.readouterr().out
    assert "digits-v1" in output
    for protocol in list_protocols():
        assert protocol.id in output
        assert protocol.hash[:12] in output


def test_run_passes_its_options_on_and_prints_table_and_place(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["--seeds", "0-2,4", "--methods", "plain,KD", "--pairs", "resnet14-cnn4", "--quick"]
    where = ["--launcher", "ray", "--workers", "3", "--threads", "2", "--retries", "4", "--ray.address", "head:6379"]
    how = ["--logger", "wandb,mlflow", "--checkpoint-every", "5", "--trainer.strategy", "ddp", "--trainer.devices", "8"]
    assert main(["bench", "run", "digits-v1", *what, *where, *how, "--output", "there"]) == 0
    assert runner.asked == {
        "protocol_id": "digits-v1",
        "output": Path("there"),
        "methods": ["plain", "KD"],
        "pairs": ["resnet14-cnn4"],
        "seeds": [0, 1, 2, 4],
        "quick": True,
        "miniature": False,
        "tune": False,
        "method_parameters": None,
        "task_weight": None,
        "trainer": {"strategy": "ddp", "devices": 8},
        "options": RunOptions(("wandb", "mlflow"), 5.0),
        "launch": LaunchOptions("ray", workers=3, threads=2, retries=4, ray=RayOptions("head:6379")),
    }
    output = capsys.readouterr().out
    assert all(run_set.method.name in output for run_set in runner.run_sets)
    assert output.endswith("Results: runs/results\n")


def test_run_leaves_what_is_not_given_to_the_protocol(runner: FakeRunner) -> None:
    assert main(["bench", "run", "digits-v1"]) == 0
    assert runner.asked == {
        "protocol_id": "digits-v1",
        "output": Path("runs"),
        "methods": None,
        "pairs": None,
        "seeds": None,
        "quick": False,
        "miniature": False,
        "tune": False,
        "method_parameters": None,
        "task_weight": None,
        "trainer": {},
        "options": RunOptions(),
        "launch": LaunchOptions(),
    }


def test_a_method_of_ones_own_gets_its_parameters(runner: FakeRunner) -> None:
    own = ["--method-parameters", '{"scale": 2, "layers": ["a"]}', "--task-weight", "0.5", "--keep-weights"]
    assert main(["bench", "run", "digits-v1", "--methods", "plain,a/my_method.py:Mine", *own]) == 0
    assert runner.asked["methods"] == ["plain", "a/my_method.py:Mine"]
    assert runner.asked["method_parameters"] == {"scale": 2, "layers": ["a"]}
    assert runner.asked["task_weight"] == 0.5
    assert runner.asked["options"] == RunOptions(keep_weights=True)


def test_parameters_of_slurm_are_passed_on(runner: FakeRunner) -> None:
    slurm = ["--slurm.partition", "gpu", "--slurm.timeout_min", "600"]
    assert main(["bench", "run", "digits-v1", "--launcher", "slurm", *slurm]) == 0
    assert runner.asked["launch"].slurm == {"partition": "gpu", "timeout_min": 600}


def test_all_rows_can_be_asked_for(runner: FakeRunner) -> None:
    assert main(["bench", "run", "digits-v1", "--methods", "all"]) == 0
    assert runner.asked["methods"] == ["all"]


def test_the_list_names_the_core_and_counts_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["bench", "list"]) == 0
    more = len(load_protocol("digits-v1").methods) - 6
    shown = capsys.readouterr().out
    assert f"plain, KD, DKD, PLD, AttentionTransfer, FitNet and {more} more (--methods all)" in shown
    assert "wrn_40_2-wrn_16_2 and 16 more" in shown


def test_failed_runs_are_listed_with_exit_code_1(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    item = Item(load_protocol("digits-v1"), "resnet14-cnn4", "KD", 3, Path("runs"))
    runner.failures = (Failure(item, "ValueError: no", Path("runs/logs/kd.log")),)
    assert main(["bench", "run", "digits-v1"]) == 1
    captured = capsys.readouterr()
    assert "Results: " in captured.out
    assert captured.err == f"failed: {item}: ValueError: no (log: runs/logs/kd.log)\n"
    runner.failures = (replace(runner.failures[0], attempts=3),)
    runner.run_sets = []
    assert main(["bench", "run", "digits-v1"]) == 1
    assert "ValueError: no (3 attempts, log: runs/logs/kd.log)" in capsys.readouterr().err
    assert main(["bench", "run", "digits-v1"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digit-v1"], ["protocol 'digit-v1'", "'digits-v1'"]),
        (["digits-v1", "--methods", "plain,DKKD"], ["'DKKD'", "DKD"]),
        (["digits-v1", "--pairs", "resnet14"], ["'resnet14'", "resnet14-cnn4"]),
        (["digits-v1", "--seeds", "0,77"], ["'77'", "0, 1, 2, 3, 4"]),
        (["digits-v1", "--seeds", "x"], ["'x'", "--seeds 0-4"]),
        (["digits-v1", "--methods", "plain,gone.py"], ["no file 'gone.py'"]),
        (["digits-v1", "--methods", "KD", "--task-weight", "2"], ["your own files", "my_method.py"]),
        (["digits-v1", "--method-parameters", "{}"], ["your own files"]),
        (["digits-v1", "--method-parameters", "4"], ["no JSON object", "--method-parameters '{"]),
        (["digits-v1", "--method-parameters", "{T: 4}"], ["as JSON", "--method-parameters '{"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_unknown_name_is_explained_and_nothing_is_written(
    arguments: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "run", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert all(part in captured.err for part in expected)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert main(["bench", "run", "digits-v1", "--output", "file"]) == 2
    assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "not a directory"


@pytest.mark.slow
def test_quick_run_to_table_and_page(tmp_path: Path) -> None:
    def lightning_kd(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lightning_kd.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    select = ["--quick", "--methods", "plain,KD", "--seeds", "0"]
    first = lightning_kd("bench", "run", "digits-v1", *select)
    assert first.returncode == 0, first.stderr
    assert "plain" in first.stdout
    again = lightning_kd("bench", "run", "digits-v1", *select)
    assert again.stdout == first.stdout
    page = lightning_kd("leaderboard", "build", "runs", "--output", "page.html")
    assert page.returncode == 0, page.stderr
    assert '"id":"digits-v1-quick/' in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_file_of_ones_own_is_run_by_two_workers(tmp_path: Path) -> None:
    write_method(tmp_path)
    command = [sys.executable, "-m", "lightning_kd.cli.main", "bench"]
    select = ["digits-v1", "--quick", "--methods", "plain,my_method.py", "--method-parameters", '{"weight": 2.0}']

    def bench(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = bench("run", *select, "--task-weight", "0.5", "--keep-weights", "--workers", "2")
    assert "LogitMatching" in first
    assert bench("run", *select, "--task-weight", "0.5", "--keep-weights") == first
    assert "LogitMatching" in bench("status")
    by_name = {run_set.method.name: run_set for run_set in load_run_sets(tmp_path / "runs")}
    assert set(by_name) == {"plain", "LogitMatching"}
    method = by_name["LogitMatching"].method
    assert (method.class_path, method.task_weight) == ("my_method.LogitMatching", 0.5)
    assert method.parameters == {"scale": 1.0, "weight": 2.0}
    (copy,) = (tmp_path / "runs" / "results").rglob("*.py")
    assert (copy.name, copy.read_text()) == ("method.py", SOURCE)
    protocol = variants.quick(load_protocol("digits-v1"))
    pair = protocol.pairs["resnet14-cnn4"]
    for name, run_set in by_name.items():
        assert run_set.protocol.hash == protocol.hash
        for run in run_set.runs:
            path = weights_path(tmp_path / "runs", protocol.id, name, pair.student, pair.teacher, run.seed)
            assert run.weights_sha256 is not None
            assert not load_student(protocol, pair, path, run.weights_sha256).training
    (tmp_path / "my_method.py").write_text(SOURCE.replace("self.scale *", "0.5 * self.scale *"))
    changed = bench("run", *select, "--task-weight", "0.5", "--keep-weights", "--seeds", "0")
    assert changed != first
    after = {run_set.method.name: run_set for run_set in load_run_sets(tmp_path / "runs")}
    assert after["plain"] == by_name["plain"]
    assert after["LogitMatching"].seeds == (0,)
    assert copy.read_text() == (tmp_path / "my_method.py").read_text()
