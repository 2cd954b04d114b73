"""What the leaderboards were before a pull request: read from git's objects, without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kd_bench.errors import UserError
from kd_bench.submission.problem import shown

SYMLINK, SUBMODULE, EXECUTABLE, ABSENT = "120000", "160000", "100755", "000000"
"""Modes of git that mean something other than a plain file."""

_TIMEOUT = 300
_OBJECT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_ELSEWHERE = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
"""What a hook or an alias leaves in the environment; it would lead to another repository than the one asked for."""


@dataclass(frozen=True)
class Change:
    """A path that is not what it was; a file that was renamed is one that is gone and one that is new.

    Attributes:
        path: below the top of the repository, with slashes.
        before: git's mode before; :data:`ABSENT` if the path is new.
        after: git's mode now; :data:`ABSENT` if the path is gone.
    """

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class BaseTree:
    """The state that a pull request starts from.

    Attributes:
        commit: the merge base; content and list of changes are both taken from it.
        folder: the leaderboards as they were then, written out; without links and submodules.
        prefix: path of the leaderboards below the top of the repository.
        changes: what differs from that commit in the working tree, also outside the leaderboards; files below them that
            git does not know yet are among them.
    """

    commit: str
    folder: Path
    prefix: str
    changes: tuple[Change, ...]


@contextmanager
def base_tree(leaderboards: Path | str, ref: str) -> Iterator[BaseTree]:
    """The leaderboards before the commits and changes that are not on another branch; gone when the block ends.

    Nothing is checked out: no hook, filter or attribute of the pull request has a say in what is written.

    Args:
        leaderboards: the folder in a working tree.
        ref: branch, tag or commit that the pull request goes to, such as ``origin/main``.

    Raises:
        UserError: if there is no git, no repository, no such reference or no common ancestor.
    """
    folder = Path(leaderboards)
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{shown(folder)} is not a folder. Give the leaderboards folder of a checkout.")
    top = Path(_text(folder, "rev-parse", "--show-toplevel"))
    prefix = _text(folder, "rev-parse", "--show-prefix").rstrip("/")
    if not prefix:
        raise UserError(f"{shown(folder)} is the top of a repository; give its leaderboards folder.")
    commit = merge_base(top, ref)
    with tempfile.TemporaryDirectory(prefix="kd-bench-base-") as place:
        base = Path(place) / "leaderboards"
        base.mkdir()
        _write_tree(top, commit, prefix, base)
        yield BaseTree(commit, base, prefix, tuple(changes_since(top, commit, prefix)))


def merge_base(repository: Path, ref: str) -> str:
    """The commit that the branch of the working tree and another one have in common.

    Args:
        repository: folder in a working tree.
        ref: the other branch, tag or commit.

    Raises:
        UserError: if there is no such reference or no common ancestor.
    """
    advice = "Fetch it first, with its history: git fetch origin main (in CI: fetch-depth: 0)."
    try:
        # a name that begins with a dash is no option behind --end-of-options
        other = _text(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except UserError as error:
        raise UserError(f"there is no branch, tag or commit {shown(ref)!r} here. {advice}") from error
    if _OBJECT.fullmatch(other) is None:
        raise UserError(f"{shown(ref)!r} does not name one commit. Give a branch, such as origin/main.")
    try:
        return _text(repository, "merge-base", "HEAD", other)
    except UserError as error:
        raise UserError(f"the working tree and {shown(ref)!r} have no commit in common. {advice}") from error


def changes_since(repository: Path, commit: str, folder: str) -> list[Change]:
    """All paths that differ between a commit and the working tree.

    Args:
        repository: top of the working tree.
        commit: hash of the commit.
        folder: below which files count that git does not know yet; elsewhere they are not about to be committed.
    """
    options = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-relative", "--ignore-submodules=none")
    raw = _git(repository, "diff", "--raw", "-z", "--no-abbrev", *options, commit, "--").split(b"\0")
    found = {}
    for head, path in zip(raw[0::2], raw[1::2], strict=False):
        before, after = head.decode().lstrip(":").split(" ")[:2]
        found[os.fsdecode(path)] = Change(os.fsdecode(path), before, after)
    for path in _git(repository, "ls-files", "-z", "--others", "--exclude-standard", "--full-name", "--", folder).split(
        b"\0"
    ):
        if name := os.fsdecode(path).rstrip("/"):
            mode = SYMLINK if (repository / name).is_symlink() else "100644"
            # known before and not now: taken out of the index, but still in the folder
            before = found[name].before if name in found else ABSENT
            found[name] = Change(name, before, mode)
    return [found[name] for name in sorted(found)]


def _write_tree(repository: Path, commit: str, prefix: str, target: Path) -> None:
    """Write the plain files of a folder of a commit; the bytes of the objects, without any conversion."""
    listing = _git(repository, "ls-tree", "-r", "-z", "--full-tree", commit, "--", f"{prefix}/").split(b"\0")
    wanted: list[tuple[bytes, Path]] = []
    for line in filter(None, listing):
        head, _, name = line.partition(b"\t")
        mode, kind, hash_ = head.split(b" ")
        if kind == b"blob" and mode.decode() != SYMLINK:
            wanted.append((hash_, target / _relative(os.fsdecode(name), prefix)))
    for path, content in _contents(repository, wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            raise UserError(
                f"{shown(path.name)} is in the base twice, in upper and lower case, which this file system cannot keep "
                "apart. Check on one that can, such as that of Linux."
            ) from None


def _contents(repository: Path, wanted: list[tuple[bytes, Path]]) -> Iterator[tuple[Path, bytes]]:
    with tempfile.TemporaryFile() as asked:
        asked.write(b"".join(hash_ + b"\n" for hash_, _ in wanted))
        asked.seek(0)
        command = _command(repository, "cat-file", "--batch")
        with subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE, env=_environment()) as git:
            assert git.stdout is not None
            for hash_, path in wanted:
                found, kind, size = (*git.stdout.readline().split(), b"", b"")[:3]
                if found != hash_ or kind != b"blob":
                    raise UserError(f"git has no content for {shown(path.name)} of the base. Fetch the whole history.")
                yield path, git.stdout.read(int(size))
                git.stdout.read(1)


def _relative(name: str, prefix: str) -> PurePosixPath:
    path = PurePosixPath(name).relative_to(prefix)
    if path.is_absolute() or any(part in ("..", "") or "\\" in part or ":" in part for part in path.parts):
        raise UserError(f"the base holds a path that cannot be written here: {shown(name)}")
    return path


def _text(folder: Path, *arguments: str) -> str:
    return os.fsdecode(_git(folder, *arguments)).strip("\n")


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            _command(folder, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            timeout=_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = shown(os.fsdecode(error.stderr).strip() or "no output", limit=300)
        raise UserError(f"git {arguments[0]} failed in {shown(folder)}: {said}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"cannot run git in {shown(folder)}: {shown(error)}. Install git, or leave the base out."
        ) from error
    return done.stdout


def _command(folder: Path, *arguments: str) -> list[str]:
    # a file system monitor would be a program of the repository's choosing
    return ["git", "-C", str(folder), "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return kept | {
        "LC_ALL": "C",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
