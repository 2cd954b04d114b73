"""Distil one network into another, as a YAML file says.

Any LightningModule (or plain network with a task), any data module, any teacher, any methods; everything that
LightningCLI configures can be configured here. `lightning-kd fit --print_config` prints a commented starting point.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Train, or print a configuration."""
    given = list(arguments)
    if given == ["--print_config"]:
        from lightning_kd.cli.fit_template import template

        print(template(), end="")
        return 0
    from lightning_kd.cli.fit_run import run_fit

    run_fit(given)
    return 0
