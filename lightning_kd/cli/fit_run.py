"""Run `lightning-kd fit`: build everything, train, and tell mistakes in the configuration from defects."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_kd import DistillationModule
from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.fit_cli import FitCLI


def run_fit(arguments: Sequence[str]) -> None:
    """Train as the command line says.

    Args:
        arguments: the command line after ``lightning-kd fit``.

    Raises:
        CommandError: for a mistake in the configuration, found while parsing, building or preparing the training.
    """
    # Lightning's own use of names that jsonargparse is retiring
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    with _importable_here(), _explained():
        cli = FitCLI(list(arguments))
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config_init.ckpt_path)
        if cli.config_init.save_student:
            _save_student(cli, cli.config_init.save_student)


def _save_student(cli: FitCLI, path: str) -> None:
    """Save the student's own keys; every rank calls this."""
    if not isinstance(cli.model, DistillationModule):
        cli.trainer.save_checkpoint(path, weights_only=True)
    elif cli.trainer.is_global_zero:
        cli.model.save_student(path)
    if cli.trainer.is_global_zero:
        print(f"Student: {path}")


@contextmanager
def _importable_here() -> Iterator[None]:
    """Let ``class_path`` name modules of the working directory, as under ``python -m``."""
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except MisconfigurationException as error:
        raise CommandError(str(error)) from error
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if not _raised_by_the_library(error.__traceback__):
            raise
        raise CommandError(str(error.args[0]) if error.args else repr(error)) from error


def _raised_by_the_library(traceback: TracebackType | None) -> bool:
    """Whether this package itself refused something; its errors say what to do, others need their traceback."""
    module = ""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return module.partition(".")[0] == "lightning_kd"
