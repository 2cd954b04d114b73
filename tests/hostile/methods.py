"""Methods of one file whose file is missing, changed, or not what it looks like."""

from __future__ import annotations

from pathlib import Path

from hostile.edits import put_method
from hostile.table import case
from hostile.valid import (
    METHOD,
    own_entry,
)


@case("method's file is missing", "method-file", "needs its source", own_entry)
def _(entry: Path) -> None:
    (entry / "method.py").unlink()


@case("method's file for a method of the library", "method-file", "Remove it")
def _(entry: Path) -> None:
    (entry / "method.py").write_text(METHOD)


@case("method's file was changed", "source-hash", "another file", own_entry)
def _(entry: Path) -> None:
    (entry / "method.py").write_text(METHOD + "\nopen('executed', 'w')\n")


@case("method's file is large", "size", "200,000", own_entry)
def _(entry: Path) -> None:
    put_method(entry, METHOD.encode() + b"# padding\n" * 30_000)


METHOD_FILES = {
    "is not Python": (b"def (:\n", "not Python"),
    "has null bytes": (METHOD.encode() + b"\x00", "null bytes"),
    "has a byte order mark": (b"\xef\xbb\xbf" + METHOD.encode(), "byte order mark"),
    "is not UTF-8": (METHOD.encode() + b"# \xff\n", "UTF-8"),
    "declares another encoding": (b"# -*- coding: utf-7 -*-\n" + METHOD.encode(), "encoding"),
    "declares another encoding behind form feeds": (b"\f\f# coding: utf-7\n" + METHOD.encode(), "encoding"),
    "defines another class": (METHOD.replace("MyMethod", "Other").encode(), "does not define"),
    "defines the class out of sight": (b"if False:\n    class MyMethod: pass\n", "does not define"),
    "turns the reading direction": (METHOD.encode() + "# \u202e\u2066 if admin:\n".encode(), "U+202E"),
    "has invisible identifiers": (METHOD.encode() + "\u3164 = 1\n".encode(), "U+3164"),
    "nests endlessly": (METHOD.encode() + b"x = " + b"(" * 90_000 + b")" * 90_000, "Python"),
    "negates endlessly": (METHOD.encode() + b"x = " + b"-" * 150_000 + b"1", "Python"),
    "runs when it is imported": (b"import os\nos.system('touch executed')\n", "does not define"),
}
for what, (content, mention) in METHOD_FILES.items():

    @case(f"method's file {what}", "method-file", mention, own_entry)
    def _(entry: Path, content: bytes = content) -> None:
        put_method(entry, content)
