"""Dispatch, exit codes and messages of the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightning_kd._version import __version__
from lightning_kd.cli.dispatch import Group, find_command
from lightning_kd.cli.main import main

HEAVY = ("torch", "lightning", "torchmetrics", "torchvision", "numpy", "sklearn", "scipy", "pydantic", "kd_bench")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightning_kd.cli.main", *arguments], capture_output=True, text=True, check=False
    )


def leaves(group: Group) -> list[list[str]]:
    words: list[list[str]] = []
    for name in group.names():
        found, _ = find_command([*group.program.split()[1:], name])
        words += leaves(found) if isinstance(found, Group) else [[*group.program.split()[1:], name]]
    return words


def all_commands() -> list[list[str]]:
    root, _ = find_command([])
    assert isinstance(root, Group)
    return leaves(root)


def test_every_expected_command_is_found() -> None:
    found = {" ".join(words) for words in all_commands()}
    assert {"methods", "bench list", "bench run", "leaderboard build"} <= found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: lightning-kd {' '.join(words)}")


@pytest.mark.parametrize("group", ["", "bench", "leaderboard"])
def test_group_help_lists_its_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*group.split(), "--help"]) == 0
    output = capsys.readouterr().out
    found, _ = find_command(group.split())
    assert isinstance(found, Group)
    assert all(f"  {name}" in output for name in found.names())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lightning-kd {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bnech"], ["'bnech'", "did you mean 'bench'", "lightning-kd --help"]),
        (["bench", "rnu", "digits-v1"], ["'rnu'", "did you mean 'run'", "list, run", "lightning-kd bench --help"]),
        (["--verison"], ["'--verison'", "did you mean '--version'"]),
        (["bench", "--version"], ["'--version'", "lightning-kd bench --help"]),
        (["methods", "--markdwon"], ["--markdwon", "lightning-kd methods --help"]),
        (["bench", "run"], ["protocol", "lightning-kd bench run --help"]),
        (["bench", "run", "digits-v1", "--workers", "0"], ["workers", "0"]),
        (["bench", "run", "digits-v1", "--workers", "two"], ["workers", "two"]),
        (["bench", "run", "digits-v1", "--seeds", "4-0"], ["'4-0'", "backwards", "--seeds 0-4"]),
        (["leaderboard", "build", "--date", "yesterday"], ["'yesterday'", "YYYY-MM-DD"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_explained_with_exit_code_2(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    for part in expected:
        assert part in captured.err


@pytest.mark.parametrize("arguments", [[], ["bench"], ["leaderboard"]])
def test_a_group_alone_shows_its_help_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: lightning-kd")


def test_process_exit_code_and_streams() -> None:
    process = run("bench", "rnu")
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("error: unknown command 'rnu'")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bench", "run", "--help"]], ids=" ".join)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from lightning_kd.cli.main import main\n"
        f"assert main({arguments!r}) == 0\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("loaded: []\n")


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_kd.cli.commands.methods.main", interrupt)
    assert main(["methods"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from lightning_kd.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert errors == b""
