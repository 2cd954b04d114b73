"""`lightning-kd check`: what an author is told about a method."""

from __future__ import annotations

import importlib.abc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_kd.cli import check_digits, check_run
from lightning_kd.cli.bench_extra import INSTALL
from lightning_kd.cli.check_advice import BY_CHECK, advice_for
from lightning_kd.cli.check_load import find_candidates
from lightning_kd.cli.main import main
from lightning_kd.methods import DistillationMethod
from lightning_kd.testing import CHECKS, TRAINER_CHECKS, contract

HEAD = """
import random
import torch
import torch.nn.functional as F
from lightning_kd.methods import DistillationMethod


class Base(DistillationMethod):
    def forward(self, exchange):
        return self.loss(*self.logits(exchange))

    def logits(self, exchange):
        student, teacher = exchange.student.logits, exchange.teacher.logits.detach()
        if student.shape != teacher.shape:
            raise ValueError(f"logits of {tuple(student.shape)} and {tuple(teacher.shape)}; give equal classes")
        return student.float(), teacher.float()

    def loss(self, student, teacher):
        return F.mse_loss(student, teacher)
"""

GOOD = HEAD.replace("class Base", "class Mine")


class NotInstalled(importlib.abc.MetaPathFinder):
    """Finds no benchmark suite."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] == "kd_bench":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name="kd_bench")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An author's folder; modules and paths that a check adds are removed again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep some checks: each is tested elsewhere, and all of them take long."""

    def keep(*names: str) -> None:
        for module in (contract, check_run):
            for table in ("CHECKS", "TRAINER_CHECKS"):
                kept = {name: check for name, check in getattr(module, table).items() if name in names}
                monkeypatch.setattr(module, table, kept)

    return keep


def write(text: str, name: str = "my_method.py") -> str:
    Path(name).write_text(text)
    return name


def method(body: str) -> str:
    """A file with one method ``Mine``, derived from a proper one."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return write(f"{HEAD}\n\nclass Mine(Base):\n{lines}\n") + ":Mine"


# a proper method


@pytest.mark.slow
def test_a_proper_method_passes_everything(folder: Path) -> None:
    write(GOOD)
    process = subprocess.run(
        [sys.executable, "-m", "lightning_kd.cli.main", "check", "my_method.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    for name in [*CHECKS, *TRAINER_CHECKS, "teacher", "plain student", "with the method", "accuracy"]:
        assert name in process.stdout
    assert f"Mine: all {len(CHECKS) + len(TRAINER_CHECKS)} checks passed, trains on digits" in process.stdout
    # only imported: nothing is left beside it, and nothing was copied
    assert [path.name for path in folder.iterdir()] == ["my_method.py"]


def test_the_file_is_imported_from_where_it_lies(folder: Path) -> None:
    write("SCALE = 2.0\n", "neighbour.py")
    write(GOOD + "\n\nfrom neighbour import SCALE\n")
    (candidate,) = find_candidates("my_method.py")
    assert candidate.file == folder / "my_method.py"
    assert isinstance(candidate.make(), DistillationMethod)
    assert Path(sys.modules[candidate.cls.__module__].__file__ or "") == folder / "my_method.py"


def test_every_class_of_a_file_is_checked_or_the_named_one(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only("scalar")
    path = write(
        HEAD + "\n\nclass Second(Base):\n    def loss(self, student, teacher):\n        return student.sum(-1)\n"
    )
    assert main(["check", path, "--skip_digits"]) == 1
    output = capsys.readouterr().out
    assert "Base: all 1 checks passed" in output
    assert "Second: the check `scalar` failed" in output
    assert main(["check", f"{path}:Base", "--skip_digits"]) == 0
    assert "Second" not in capsys.readouterr().out


def test_a_language_method_is_tried_on_tokens(only: Any) -> None:
    only("scalar", "gradients")
    path = method(
        "def loss(self, student, teacher):\n    assert student.dim() == 3\n    return F.mse_loss(student, teacher)"
    )
    assert main(["check", path, "--inputs", "tokens"]) == 0
    assert main(["check", path, "--skip_digits"]) == 1


def test_a_detection_method_is_tried_on_scenes(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only("scalar", "gradients")
    path = method(
        "def logits(self, exchange):\n"
        "    student, teacher = exchange.student.output.dense, exchange.teacher.output.dense\n"
        "    return student.class_logits[0].float(), teacher.class_logits[0].detach().float()"
    )
    assert main(["check", path, "--inputs", "scenes"]) == 0
    assert "digits" not in capsys.readouterr().out
    assert main(["check", path, "--skip_digits"]) == 1
    assert "check it with --inputs scenes" in capsys.readouterr().out
    assert main(["check", method("pass"), "--inputs", "scenes"]) == 1
    output = capsys.readouterr().out
    assert "no logits found in the network's output of type DetectionOutput" in output
    assert "A method for classifiers is checked without --inputs scenes" in output


# constructors


def test_constructor_arguments_come_as_json(only: Any) -> None:
    only("scalar")
    path = method("def __init__(self, temperature: float):\n    super().__init__()\n    assert temperature == 4")
    assert main(["check", path, "--skip_digits", "--init", '{"temperature": 4}']) == 0


@pytest.mark.parametrize(
    ("body", "arguments", "expected"),
    [
        ("def __init__(self, temperature: float, steps: int): super().__init__()", [], ['"temperature": 4.0', "steps"]),
        ("def __init__(self, temperature: float): super().__init__()", ["--init", "4"], ["no JSON object"]),
        ("def __init__(self, temperature: float): super().__init__()", ["--init", "{T: 4}"], ["as JSON", "--init '{"]),
        ("def __init__(self): super().__init__()", ["--init", '{"tau": 1}'], ["cannot be made", "tau", "Mine()"]),
        (
            "def __init__(self): super().__init__(weight=-1.0)",
            [],
            ["weight must not be negative", "my_method.py, line"],
        ),
        ("def __init__(self): torch.nn.Module.__init__(self)", [], ["super().__init__(weight, layers)"]),
    ],
    ids=["required", "no object", "no json", "unknown", "raises", "no super"],
)
def test_a_class_that_cannot_be_made(
    body: str, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", method(body), *arguments]) == 2
    error = capsys.readouterr().err
    for part in expected:
        assert part in error


# files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class Mine(:\n    pass\n", ["my_method.py, line 1", "class Mine(:"]),
        ("x = 1\ndef f():\nreturn 1\n", ["line 3", "return 1"]),
        ("import no_such_library\n", ["'no_such_library', which is not installed", "line 1"]),
        ("x = 1\ny = x / 0\n", ["ZeroDivisionError", "line 2: y = x / 0"]),
        ("import sys\nsys.exit(0)\n", ["ends the process", "__main__"]),
        ("class Loss:\n    pass\n\nclass Other:\n    pass\n", ["no distillation method", "Loss, Other"]),
        ("from lightning_kd.methods import KD\n", ["classes found: none"]),
        ("", ["classes found: none"]),
    ],
    ids=["syntax", "indentation", "missing module", "raises", "exits", "no method", "only imported", "empty"],
)
def test_a_file_without_a_method(text: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(text)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    for part in expected:
        assert part in captured.err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gone.py", ["no file 'gone.py'"]),
        ("my_method", ["not a Python file", "my_method.py:ClassName"]),
        ("my_method.py:Mien", ["unknown class 'Mien'", "did you mean 'Mine'"]),
        ("my_method.py:F", ["is a module"]),
        ("my_method.py:Plain", ["a class derived from object"]),
    ],
)
def test_a_name_that_is_not_there(given: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD + "\n\nclass Plain:\n    pass\n")
    assert main(["check", given]) == 2
    error = capsys.readouterr().err
    for part in expected:
        assert part in error


# broken methods


@pytest.mark.parametrize(
    ("body", "failing", "expected"),
    [
        (
            "def loss(self, student, teacher): return (F.softmax(student * 1e4, -1).log() * 0.0).mean()",
            "scalar",
            ["the loss is nan", "log_softmax"],
        ),
        (
            "def loss(self, student, teacher): return (student - teacher).square().mean(-1)",
            "scalar",
            ["shape (8,)", ".mean()"],
        ),
        (
            "def loss(self, student, teacher): return F.mse_loss(student, teacher).item()",
            "scalar",
            ["float", ".item()"],
        ),
        (
            "def loss(self, student, teacher): return student.nothing",
            "scalar",
            ["no attribute", "where:   my_method.py"],
        ),
        (
            "def __init__(self): super().__init__(layers={'layer3': 'layer3'})\n"
            "def logits(self, exchange): return self.student_features(exchange) + self.teacher_features(exchange)",
            "scalar",
            ["must match the size", "connector", "where:   my_method.py, line"],
        ),
        (
            "def forward(self, exchange): return F.mse_loss(exchange.student.logits, exchange.teacher.logits)",
            "teacher untouched",
            ["gradient flows into the teacher", ".detach()"],
        ),
        (
            "def loss(self, student, teacher): return super().loss(student, teacher) * random.random()",
            "deterministic",
            ["equal seeds give", "torch functions"],
        ),
        ("def loss(self, student, teacher): return super().loss(student.detach(), teacher)", "gradients", ["grad"]),
        (
            "def loss(self, student, teacher):\n"
            "    loss = super().loss(student, teacher)\n"
            "    return 2 * loss.detach() - loss",
            "learns",
            ["twenty training steps took the loss from", ".detach()"],
        ),
        (
            "def logits(self, exchange): return exchange.student.logits, exchange.teacher.logits.detach()",
            "half precision",
            ["bfloat16", ".float()"],
        ),
        (
            "calls = 0\n"
            "def loss(self, student, teacher):\n"
            "    self.calls += 1\n"
            "    return super().loss(student, teacher) * self.calls",
            "state dict",
            ["after load_state_dict", "register_buffer"],
        ),
        (
            "def __init__(self):\n    super().__init__()\n    self.hook = lambda x: x",
            "copies",
            ["cannot be pickled", "lambdas"],
        ),
    ],
    ids=[
        "nan",
        "wrong shape",
        "a number",
        "attribute",
        "feature shapes",
        "no detach",
        "random",
        "student detached",
        "gradient",
        "half",
        "state",
        "pickle",
    ],
)
def test_a_broken_method_is_diagnosed(
    body: str, failing: str, expected: list[str], only: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    only("scalar", failing)
    assert main(["check", method(body), "--skip_digits"]) == 1
    output = capsys.readouterr().out
    assert f"✗ {failing}" in output
    for part in ["FAILED", "problem:", "to do:", *expected]:
        assert part in output


def test_what_follows_from_another_failure_is_not_explained_twice(
    only: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    only("scalar", "deterministic", "copies", "state dict")
    body = "def loss(self, student, teacher): return super().loss(student, teacher) * random.random()"
    assert main(["check", method(body), "--skip_digits"]) == 1
    output = capsys.readouterr().out
    assert output.count("problem:") == 1
    assert "✗ copies, state dict: see again when `deterministic` passes" in output


def test_one_reason_is_reported_once(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only("gradients", "perfect student", "learns")
    assert main(["check", method("def loss(self, student, teacher): return student.nothing"), "--skip_digits"]) == 1
    output = capsys.readouterr().out
    assert "✗ gradients, perfect student, learns" in output
    assert output.count("problem:") == 1


@pytest.mark.slow
def test_ranks_that_drift_apart_are_diagnosed(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only("scalar", "two ranks")
    body = (
        "def __init__(self):\n"
        "    super().__init__()\n"
        "    self.register_buffer('mean', torch.zeros(()))\n"
        "def loss(self, student, teacher):\n"
        "    self.mean.copy_(student.detach().mean())\n"
        "    return super().loss(student, teacher)"
    )
    assert main(["check", method(body), "--skip_digits"]) == 1
    assert "two ranks end with different values in ['Mine.mean']" in capsys.readouterr().out


def test_advice_exists_for_every_check() -> None:
    assert {*CHECKS, *TRAINER_CHECKS, "digits"} == set(BY_CHECK)
    assert advice_for("scalar", "the loss is inf on tiny networks").startswith("NaN and infinity")
    assert check_run.FOLLOW["deterministic"] < set(BY_CHECK)


# the digits


def test_training_on_digits_and_what_can_go_wrong(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only("scalar")
    # passes the check on five classes, and fails where there are ten
    body = "def loss(self, student, teacher):\n    return F.mse_loss(student.view(-1, 5), teacher)"
    assert main(["check", method(body)]) == 1
    output = capsys.readouterr().out
    assert "✗ digits" in output
    assert "plain student" in output
    assert "where:   my_method.py, line" in output
    assert "Mine: all 1 checks passed, the training on digits failed" in output


def test_divergence_and_slowness_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write(GOOD.replace("F.mse_loss(student, teacher)", "1e30 * F.mse_loss(student, teacher)"))
    (candidate,) = find_candidates("my_method.py")
    outcome = check_digits.train_on_digits(candidate)
    assert outcome.failed
    assert "training loss was" in outcome.problem
    write(GOOD, "slow.py")
    (candidate,) = find_candidates("slow.py")
    outcome = check_digits.train_on_digits(candidate, seconds=0.0)
    assert outcome.failed
    assert "too slow: 1 of" in outcome.problem


def test_what_the_suite_cannot_give_is_not_held_against_the_method() -> None:
    write("from lightning_kd.methods import CRD\n\nclass Mine(CRD):\n    pass\n")
    (candidate,) = find_candidates("my_method.py")
    assert not check_digits.train_on_digits(candidate).failed


def test_without_the_benchmark_suite_the_contract_is_still_checked(
    only: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only("scalar")
    for name in [name for name in sys.modules if name.partition(".")[0] == "kd_bench"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    assert main(["check", write(GOOD)]) == 0
    output = capsys.readouterr().out
    assert INSTALL in output
    assert "Mine: all 1 checks passed" in output
