"""Which process on which machine did something, and whether it still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def host_name() -> str:
    """Name of this machine."""
    return socket.gethostname() or "localhost"


def process_identity(pid: int) -> str | None:
    """Tells a process apart from all others, on any machine and at any time; ``None`` where that is impossible.

    Made of the machine's boot, the process namespace (containers may share their name with the machine that they run
    on, not its process numbers), the number, and the time when the process started, since numbers are used again.

    Args:
        pid: number of a process of this machine.
    """
    try:
        # the second field is the command, which may hold spaces and parentheses
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    here = _here()
    if here is None or fields[0] in "ZX":  # ended, and only waited for
        return None
    return f"{here}/{pid}/{fields[19]}"


def is_gone(pid: int, identity: str | None) -> bool:
    """Whether a process is known to have ended.

    Args:
        pid: its number.
        identity: its :func:`process_identity`; ``None`` where it had none.

    Returns:
        ``False`` also where that cannot be known, because it is another machine's.
    """
    here = _here()
    if identity is None or here is None or not identity.startswith(f"{here}/"):
        return False
    return process_identity(pid) != identity


@cache
def _here() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return None
