"""From the name of a launcher to the launcher."""

from __future__ import annotations

import sys

import pytest
from kd_bench.errors import UserError
from kd_bench.launchers.choose import create_launcher
from kd_bench.launchers.local import LocalLauncher
from kd_bench.options import LAUNCHERS, LaunchOptions
from kd_bench.protocol import Protocol


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_name_has_a_launcher(name: str, tiny: Protocol) -> None:
    if name != "local":
        pytest.importorskip({"ray": "ray", "slurm": "submitit"}[name])
    launcher = create_launcher(LaunchOptions(name), tiny)
    assert callable(launcher.run)
    assert isinstance(launcher, LocalLauncher) == (name == "local")


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, package: str, tiny: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.startswith(f"kd_bench.launchers.{name}")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}, .*`pip install 'lightning-kd\[{name}\]'`"):
        create_launcher(LaunchOptions(name), tiny)
