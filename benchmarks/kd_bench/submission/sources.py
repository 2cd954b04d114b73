"""The file that a method was run from: what it may look like, and which revision of lightning_kd it belongs to."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import subprocess
import warnings
from functools import cache
from pathlib import Path

import lightning_kd
from kd_bench.construct import dotted_path, source_sha256
from kd_bench.submission.problem import RefusedError, is_invisible
from lightning_kd import DistillationMethod
from lightning_kd.methods import discover

OURS = "lightning_kd."
"""How the class paths of methods begin that come with lightning_kd."""


_ENCODING = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""How a Python file says in its first two lines what it is encoded in (PEP 263)."""


@cache
def library_methods() -> dict[str, type[DistillationMethod]]:
    """Dotted path → class of every method that comes with lightning_kd."""
    return {dotted_path(cls): cls for cls in discover().values()}


@cache
def installed_sha256(class_path: str) -> str | None:
    """Hash of the installed file that defines a method; ``None`` if lightning_kd has no such method.

    Args:
        class_path: the class.
    """
    cls = library_methods().get(class_path)
    return None if cls is None else source_sha256(cls)


@cache
def revision_sha256(class_path: str, revision: str) -> str | None:
    """Hash of a method's file at a revision; ``None`` where it is none of those that led to this checkout.

    A pull request brings commits of its own, which git then knows as well; what they did to a method proves nothing.

    Args:
        class_path: a method of lightning_kd.
        revision: hash of a commit, of hexadecimal digits.
    """
    package = Path(lightning_kd.__file__).parent
    file = Path(inspect.getfile(library_methods()[class_path])).relative_to(package.parent)
    if _git(package.parent, "merge-base", "--is-ancestor", revision, "HEAD") is None:
        return None
    content = _git(package.parent, "cat-file", "blob", f"{revision}:./{file.as_posix()}")
    return None if content is None else hashlib.sha256(content).hexdigest()


def check_method_file(content: bytes, class_name: str) -> None:
    """Make sure that a method's file is Python that a reader sees as Python does, and defines the class; it is not run.

    Args:
        content: of the file.
        class_name: the class.

    Raises:
        RefusedError: by the rule ``method-file``.
    """
    if b"\x00" in content or content.startswith(b"\xef\xbb\xbf"):
        raise RefusedError("method-file", "holds null bytes or begins with a byte order mark; save it as plain UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("method-file", f"is not UTF-8: {error}") from None
    for line in text.split("\n")[:2]:  # a form feed ends a line for splitlines, but not for Python
        if (declared := _ENCODING.match(line)) and declared[1].lower() not in ("utf-8", "utf8"):
            message = f"declares the encoding {declared[1]}, in which Python would read something else"
            raise RefusedError("method-file", message)
    for number, line in enumerate(text.split("\n"), 1):
        for character in line.removesuffix("\r"):
            if is_invisible(character) and character not in "\t\f\u00a0":
                raise RefusedError(
                    "method-file",
                    f"line {number:,} holds the invisible or unprintable character U+{ord(character):04X}; code must "
                    "be what it looks like",
                )
    if class_name not in _classes(text):
        raise RefusedError("method-file", f"does not define the class {class_name!r} that the run set names")


def _git(folder: Path, *arguments: str) -> bytes | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _classes(text: str) -> set[str]:
    try:
        with warnings.catch_warnings():  # the parser's remarks would print lines of the file
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        raise RefusedError("method-file", f"is not Python: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise RefusedError("method-file", f"cannot be parsed as Python: {type(error).__name__}") from None
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
