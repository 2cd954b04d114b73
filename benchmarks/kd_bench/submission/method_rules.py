"""Rules about the method of an entry: that its name is its own, and its source the one that was run."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

import lightning_kd
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import PLAIN, MethodInfo
from kd_bench.rows import describe_method
from kd_bench.run_set_files import METHOD_FILE
from kd_bench.submission.candidate import Candidate
from kd_bench.submission.finding import Context, Finding
from kd_bench.submission.folder import bad_on_windows
from kd_bench.submission.problem import RefusedError
from kd_bench.submission.sources import (
    OURS,
    check_method_file,
    installed_sha256,
    library_methods,
    revision_sha256,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_LOOKALIKES = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "-": None, "_": None, ".": None})


def method_name(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """A name of a method stands for one class, and cannot be taken for another's."""
    method = candidate.run_set.method
    if (method.name == PLAIN) != (method.class_path is None):
        yield Finding("method-name", f"the row {PLAIN!r}, and only it, has no class")
        return
    if not _NAME.fullmatch(method.name):
        yield Finding("method-name", f"{method.name!r} must consist of letters, digits and . _ + -, at most 80 of them")
        return
    if problem := bad_on_windows(method.name):
        yield Finding("method-name", f"{method.name!r} {problem}")
    if method.class_path is None:
        return
    if expected := _of_table(candidate, context):
        if _identity(expected) != _identity(method):
            yield Finding(
                "method-name",
                f"{method.name!r} stands for {_what(expected)} in {candidate.run_set.protocol.id}, found "
                f"{_what(method)}; give the method a name of its own",
            )
        elif _settings(expected) != _settings(method):
            yield Finding(
                "hyper-parameters",
                f"differ from those of the row {method.name!r} of {candidate.run_set.protocol.id}: found "
                f"{_settings(method)}, expected {_settings(expected)}; a variant needs a name of its own",
                notice=True,
            )
        return
    for name, class_path in _taken(candidate, context):
        if _folded(name) == _folded(method.name) and (name != method.name or class_path != method.class_path):
            yield Finding(
                "method-name",
                f"{method.name!r} ({method.class_path}) can be taken for {name!r} ({class_path}), another method; "
                "give it a name of its own",
            )
            return


def method_source(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """The file that defines the class is known, or part of the entry."""
    method = candidate.run_set.method
    if method.class_path is None:
        if method.source_sha256 is not None or method.parameters or candidate.method is not None:
            yield Finding("class-path", "the plain student has no class, so it has no source and no parameters")
    elif method.class_path.startswith(OURS):
        yield from _library_source(candidate)
    else:
        yield from _own_source(candidate)
    if method.fusion is not None and not method.fusion.class_path.startswith(f"{OURS}callbacks."):
        yield Finding("class-path", f"the fusion {method.fusion.class_path} does not come with lightning_kd")
    if method.git_dirty:
        yield Finding(
            "git-dirty",
            "lightning_kd itself was changed when this was run, or not all seeds were run with one revision of it. A "
            "method belongs into a file of its own; run the benchmark with an unchanged lightning_kd",
        )


def _library_source(candidate: Candidate) -> Iterator[Finding]:
    method = candidate.run_set.method
    assert method.class_path is not None
    if candidate.method is not None:
        message = f"{method.class_path} comes with lightning_kd, so the entry has no {METHOD_FILE}. Remove it"
        yield Finding("method-file", message, file=METHOD_FILE)
    installed = installed_sha256(method.class_path)
    if installed is None:
        yield Finding(
            "class-path",
            f"lightning_kd has no method {method.class_path}; run a method of your own from one file, with "
            "`lightning-kd bench run --methods my_method.py`",
        )
    elif installed == method.source_sha256:
        known = set(inspect.signature(library_methods()[method.class_path]).parameters)
        if wrong := set(method.parameters) ^ known:
            yield Finding("hyper-parameters", f"{method.class_path} has other parameters: {', '.join(sorted(wrong))}")
    elif method.git_revision is not None:
        then = revision_sha256(method.class_path, method.git_revision)
        if then is None:
            yield Finding(
                "source-hash",
                f"source_sha256 is not that of the installed {method.class_path}, and revision "
                f"{method.git_revision[:12]} is not in the history of this checkout: compare them by hand",
                notice=True,
            )
        elif then != method.source_sha256:
            yield Finding(
                "source-hash",
                f"source_sha256 is neither that of the installed {method.class_path} ({installed[:12]}…) nor that of "
                f"revision {method.git_revision[:12]} ({then[:12]}…)",
            )
    else:
        other = method.package_version != lightning_kd.__version__
        yield Finding(
            "source-hash",
            f"source_sha256 is not that of the installed {method.class_path} ({installed[:12]}…), and no revision is "
            f"stated; it was run with lightning_kd {method.package_version}, here is {lightning_kd.__version__}",
            notice=other,
        )


def _own_source(candidate: Candidate) -> Iterator[Finding]:
    method = candidate.run_set.method
    assert method.class_path is not None
    if candidate.method is None:
        yield Finding(
            "method-file",
            f"{method.class_path} does not come with lightning_kd, so the entry needs its source as {METHOD_FILE}",
        )
        return
    if hashlib.sha256(candidate.method).hexdigest() != method.source_sha256:
        yield Finding("source-hash", f"{METHOD_FILE} is another file than the one that was run: source_sha256 differs")
    try:
        check_method_file(candidate.method, method.class_path.rpartition(".")[2])
    except RefusedError as refusal:
        yield Finding(refusal.rule, str(refusal), file=METHOD_FILE)


def _of_table(candidate: Candidate, context: Context) -> MethodInfo | None:
    run_set = candidate.run_set
    protocol = context.protocols[run_set.protocol.id]
    if run_set.method.name not in protocol.methods:
        return None
    pair = next((name for name, pair in protocol.pairs.items() if _is_pair(candidate, pair)), "")
    return _described(protocol.id, run_set.method.name, pair)


def _is_pair(candidate: Candidate, pair: object) -> bool:
    names = candidate.run_set.student.name, candidate.run_set.teacher.name
    return (getattr(pair, "student", None), getattr(pair, "teacher", None)) == names


@cache
def _described(protocol: str, name: str, pair: str) -> MethodInfo | None:
    try:
        return describe_method(name, load_protocol(protocol).methods[name].on(pair))
    except (UserError, ImportError):  # a row that needs a package that is not here
        return None


def _identity(method: MethodInfo) -> tuple[str | None, str | None]:
    return method.class_path, None if method.fusion is None else method.fusion.class_path


def _what(method: MethodInfo) -> str:
    return f"{method.class_path}" + (f" with {method.fusion.class_path}" if method.fusion else "")


def _settings(method: MethodInfo) -> dict[str, object]:
    names = {"parameters", "task_weight", "teacher", "warmup", "warmup_steps"}
    settings = method.model_dump(mode="json", include=names)
    return settings | {"fusion": None if method.fusion is None else method.fusion.parameters}


def _taken(candidate: Candidate, context: Context) -> Iterator[tuple[str, str | None]]:
    """Names that stand for a class already, and the class."""
    protocol: Protocol = context.protocols[candidate.run_set.protocol.id]
    yield PLAIN, None
    for cls in library_methods().values():
        yield cls.__name__, f"{cls.__module__}.{cls.__qualname__}"
    for name in protocol.methods:
        described = _described(protocol.id, name, "")
        yield name, None if described is None else described.class_path
    for known in context.others.values():
        if known.run_set.protocol.id == protocol.id:
            yield known.run_set.method.name, known.run_set.method.class_path


def _folded(name: str) -> str:
    """A name as a hasty reader sees it."""
    return name.lower().translate(_LOOKALIKES)
