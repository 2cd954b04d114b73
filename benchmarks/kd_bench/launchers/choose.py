"""From the name of a launcher to the launcher."""

from __future__ import annotations

from importlib import import_module

from kd_bench.errors import UserError
from kd_bench.launchers.base import Launcher
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol

PACKAGES = {"ray": "ray", "slurm": "submitit"}
"""What a launcher needs besides the suite's own dependencies; the extra has the launcher's name."""


def create_launcher(options: LaunchOptions, protocol: Protocol) -> Launcher:
    """The launcher that the options name, by the ``create`` of its module.

    Args:
        options: name and settings.
        protocol: what is run.

    Raises:
        UserError: if the options make no sense, or a package is missing that the launcher needs.
    """
    options.check()
    name = options.launcher
    try:
        module = import_module(f"kd_bench.launchers.{name}")
    except ModuleNotFoundError as error:
        package = PACKAGES.get(name)
        if package is None or error.name != package:
            raise
        raise UserError(
            f"the launcher {name} needs {package}, which is not installed: `pip install 'lightning-kd[{name}]'`"
        ) from error
    launcher: Launcher = module.create(options, protocol)
    return launcher
