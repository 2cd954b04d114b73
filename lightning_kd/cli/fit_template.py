"""The starting point that `lightning-kd fit --print_config` prints."""

from __future__ import annotations

from importlib import resources


def template() -> str:
    """A commented configuration, to be saved and edited."""
    return (resources.files("lightning_kd.cli") / "fit_template.yaml").read_text(encoding="utf-8")
