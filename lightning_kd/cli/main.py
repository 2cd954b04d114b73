"""Entry point of ``lightning-kd``: find the command, run it, turn mistakes into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lightning_kd.cli.dispatch import PROGRAM, Group, find_command
from lightning_kd.cli.errors import CommandError, unknown

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; by default that of the process.

    Returns:
        0 after success, 1 if some of the work failed, 2 after a mistake of the user's (explained on standard error),
        130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except SystemExit as leave:
        # Argument parsers leave by SystemExit, after --help as after an error.
        return leave.code if isinstance(leave.code, int) else USAGE_ERROR
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) left early; keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    command, rest = find_command(arguments)
    if not isinstance(command, Group):
        return command.main(rest)
    if not rest:
        print(command.help(), file=sys.stderr)
        return USAGE_ERROR
    if rest[0] in ("-h", "--help"):
        print(command.help())
        return 0
    if rest[0] == "--version" and command.program == PROGRAM:
        from lightning_kd._version import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    raise unknown("option", rest[0], ["--help", "--version"], f"See `{command.program} --help`.")


if __name__ == "__main__":
    sys.exit(main())
