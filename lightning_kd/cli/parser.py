"""The argument parser that every command starts from."""

from __future__ import annotations

import inspect
import sys

from jsonargparse import ArgumentParser

from lightning_kd.cli.dispatch import program_name


def command_parser(module_name: str) -> ArgumentParser:
    """A parser named and described after the command's module.

    Args:
        module_name: ``__name__`` of the command's module.
    """
    return ArgumentParser(
        prog=program_name(module_name),
        description=inspect.getdoc(sys.modules[module_name]),
        allow_abbrev=False,
    )
