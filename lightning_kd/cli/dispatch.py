"""From the words of a command line to the module that answers them."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

import lightning_kd.cli.commands as commands
from lightning_kd.cli.errors import unknown

PROGRAM = "lightning-kd"
ROOT = commands.__name__


class Command(Protocol):
    """What a file under ``commands/`` must define."""

    def main(self, arguments: Sequence[str]) -> int:
        """Parse the rest of the command line, do the work, return the exit code."""


@dataclass(frozen=True)
class Group:
    """A command that only has sub-commands: a package under ``commands/``."""

    module: ModuleType

    @property
    def program(self) -> str:
        """How the group is typed, such as ``lightning-kd bench``."""
        return program_name(self.module.__name__)

    def names(self) -> list[str]:
        """The sub-commands, sorted."""
        return sorted(info.name for info in pkgutil.iter_modules(self.module.__path__) if info.name[0] != "_")

    def child(self, name: str) -> ModuleType:
        """Import the sub-command ``name``."""
        return import_module(f"{self.module.__name__}.{name}")

    def help(self) -> str:
        """Usage and one line a sub-command."""
        width = max(map(len, self.names()))
        lines = [f"  {name:<{width}}  {summary(self.child(name))}" for name in self.names()]
        options = ["", "options:", "  -h, --help  Show this message.", *self._extra_options()]
        more = f"`{self.program} COMMAND --help` explains a command."
        head = [f"usage: {self.program} COMMAND ...", "", summary(self.module), "", "commands:"]
        return "\n".join([*head, *lines, *options, "", more])

    def _extra_options(self) -> list[str]:
        return ["  --version   Print the version."] if self.module is commands else []


def find_command(arguments: Sequence[str]) -> tuple[Command | Group, list[str]]:
    """Walk down the command tree as far as the arguments name it.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The command, and the arguments left for it; or a group, where the words end before a command or an option
        follows.

    Raises:
        CommandError: if a word names no command.
    """
    group, rest = Group(commands), list(arguments)
    while rest and not rest[0].startswith("-"):
        word = rest.pop(0)
        if word not in group.names():
            raise unknown("command", word, group.names(), f"See `{group.program} --help`.")
        module = group.child(word)
        if not hasattr(module, "__path__"):
            return cast(Command, module), rest
        group = Group(module)
    return group, rest


def program_name(module_name: str) -> str:
    """How the command of a module is typed.

    >>> program_name("lightning_kd.cli.commands.bench.run")
    'lightning-kd bench run'
    """
    return " ".join([PROGRAM, *module_name.removeprefix(ROOT).strip(".").split(".")]).strip()


def summary(module: ModuleType) -> str:
    """The first line of a module's docstring."""
    return (inspect.getdoc(module) or "").partition("\n")[0]
