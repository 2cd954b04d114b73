"""The guard around the benchmark suite."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest
from kd_bench.errors import UserError

from lightning_kd.cli.bench_extra import INSTALL, PACKAGES, bench_extra
from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.main import main


class NotInstalled(MetaPathFinder):
    """Makes Python believe that the suite is not there."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "kd_bench":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


@pytest.mark.parametrize("module", ["sklearn", "pydantic", "yaml"])
def test_a_missing_dependency_is_named_with_the_command_that_installs_it(module: str) -> None:
    with pytest.raises(CommandError) as error, bench_extra():
        raise ModuleNotFoundError(f"No module named '{module}.core'", name=f"{module}.core")
    assert PACKAGES[module] in str(error.value)
    assert INSTALL in str(error.value)


def test_without_the_suite_every_bench_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kd_bench"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    for arguments in (["bench", "list"], ["bench", "run", "digits-v1"], ["leaderboard", "build"]):
        assert main(arguments) == 2
        assert INSTALL in capsys.readouterr().err


def test_a_defect_in_the_suite_is_not_mistaken_for_a_missing_dependency() -> None:
    with pytest.raises(ModuleNotFoundError), bench_extra():
        raise ModuleNotFoundError("No module named 'kd_bench.gone'", name="kd_bench.gone")


def test_the_suites_own_errors_become_messages() -> None:
    with pytest.raises(CommandError, match="unknown protocol"), bench_extra():
        raise UserError("unknown protocol 'x'")
