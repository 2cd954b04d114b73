"""What a stranger does with a method of their own, from one file to a row on the page, in a clone of the repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import chromium
from git_repository import MAIN, Repository

PYTHON = shlex.quote(sys.executable)
ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "runs", "build", "dist", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis"
)
ENTRY = "digits-v1/CertaintyWeightedKD/mini_cnn4__mini_resnet14"

METHOD = '''"""Distillation that trusts the teacher sample by sample: soft targets weigh as much as they are sure."""

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.methods import DistillationMethod
from lightning_kd.methods.checks import at_least_float32, check_same_logits


def certainty_weighted_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    check_same_logits(student_logits, teacher_logits)
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    soft_targets = (teacher / temperature).softmax(-1)
    divergence = F.kl_div((student / temperature).log_softmax(-1), soft_targets, reduction="none").sum(-1)
    certainty = teacher.softmax(-1).amax(-1)
    return temperature**2 * (certainty * divergence).mean()


class CertaintyWeightedKD(DistillationMethod):
    """KD in which every sample weighs as much as the teacher is sure of it."""

    def __init__(self, temperature: float = 4.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, exchange):
        return certainty_weighted_loss(exchange.student.logits, exchange.teacher.logits, self.temperature)
'''


class Terminal:
    """A shell in the clone, in which ``lightning-kd`` is that of the clone."""

    def __init__(self, clone: Path, programs: Path) -> None:
        self.clone = clone
        programs.mkdir()
        program = programs / "lightning-kd"
        program.write_text(f'#!/bin/sh\nexec {PYTHON} -m lightning_kd.cli.main "$@"\n')
        program.chmod(0o755)
        nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        packages = os.pathsep.join([str(clone), str(clone / "benchmarks")])
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.environment = os.environ | nothing | {"PYTHONPATH": packages, "PATH": path, "COLUMNS": "100"}

    def run(self, line: str) -> str:
        """Run a line as it is typed; returns what it printed. Fails if it does."""
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.clone, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    origin = Repository(tmp_path / "origin")
    _copy_tree(origin.folder)
    origin.commit("the project as it is")
    clone = tmp_path / "clone"
    origin.git("clone", "--quiet", "--no-hardlinks", ".", str(clone))
    terminal = Terminal(clone, tmp_path / "bin")
    terminal.run("git config user.name 'A Stranger' && git config user.email stranger@example.org")
    return terminal


def _copy_tree(target: Path) -> None:
    """The tree that the tests run in, changes that are not committed included; it need not be a repository."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, target, ignore=LEFT_OUT, dirs_exist_ok=True)
        return
    for name in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def _next_steps(printed: str) -> list[str]:
    """The commands that ``submit`` says to run, as they are to be typed."""
    after = printed[printed.index("\nNext:\n") :].splitlines()[2:]
    steps = []
    for line in after:
        if not line.startswith("  "):
            break
        steps.append(line.strip())
    return steps


@pytest.mark.slow
def test_from_a_file_to_a_row_that_was_trained_again(terminal: Terminal) -> None:
    clone, run = terminal.clone, terminal.run
    where = run(f"{PYTHON} -c 'import kd_bench, lightning_kd; print(kd_bench.__file__, lightning_kd.__file__)'")
    assert all(Path(file).is_relative_to(clone) for file in where.split())

    (clone / "my_method.py").write_text(METHOD, encoding="utf-8")
    assert re.search(r"all \d+ checks passed", run("lightning-kd check my_method.py"))
    select = "--methods plain,my_method.py --seeds 0-2 --keep-weights --workers 2"
    assert "CertaintyWeightedKD" in run(f"lightning-kd bench run digits-v1 {select} --output runs")
    assert run("git status --porcelain") == "?? my_method.py\n"

    submitted = run("lightning-kd leaderboard submit runs --licence Apache-2.0 --contact stranger@example.org")
    assert "digits-v1/plain" in submitted[: submitted.index("Written:")]  # is there already, and stays as it was
    steps = _next_steps(submitted)
    assert [step.split()[:2] for step in steps if step.startswith("git")][-1] == ["git", "push"]
    for step in steps:
        run(step)
    folder = clone / "leaderboards" / "results" / ENTRY
    files = {"run_set.json", "verification.json", "method.py", *(f"seed-{seed}.npz" for seed in range(3))}
    assert {path.name for path in folder.iterdir()} == files
    changed = run(f"git diff --name-only origin/{MAIN} HEAD").split()
    assert set(changed) == {f"leaderboards/results/{ENTRY}/{name}" for name in files}
    assert run("git status --porcelain") == "?? my_method.py\n"

    # what a maintainer does with the pull request
    verify = f"lightning-kd leaderboard verify {ENTRY}"
    assert "checkpoint re-evaluated" in run(f"{verify} --level checkpoint --weights runs")
    retrain = "--level retrain --run-submitted-code --workers 2 --output runs/verify"
    assert "retrained" in run(f"{verify} {retrain}")
    run("lightning-kd leaderboard check leaderboards --maintainer")
    run("lightning-kd leaderboard build leaderboards --output runs/site/index.html --export")
    changes = set(run("git status --porcelain").splitlines())
    assert changes == {"?? my_method.py", f" M leaderboards/results/{ENTRY}/verification.json"}

    page = clone / "runs" / "site" / "index.html"
    entries = json.loads((page.parent / "results.json").read_text(encoding="utf-8"))["entries"]
    (entry,) = (one for one in entries if one["entry"] == ENTRY)
    assert (entry["badge"], entry["family"], entry["licence"]) == ("retrained", "custom", "Apache-2.0")
    _check_page(page)


def _check_page(page: Path) -> None:
    with chromium() as browser:
        if browser is None:
            return
        tab = browser.new_page()
        tab.goto(page.as_uri())
        row = tab.locator(f"table#results tbody tr.row[data-entry='{ENTRY}']")
        assert "retrained" in row.inner_text()
