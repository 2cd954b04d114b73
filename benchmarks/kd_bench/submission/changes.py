"""What a pull request does to what is already published: additions are free, everything else needs a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kd_bench.corrections import CORRECTIONS, Correction
from kd_bench.entries import RESULTS
from kd_bench.errors import UserError
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.submission.base_tree import ABSENT, EXECUTABLE, SUBMODULE, SYMLINK, BaseTree
from kd_bench.submission.new_corrections import check_corrections, new_corrections
from kd_bench.submission.problem import Problem
from kd_bench.submission.published import Published
from kd_bench.submission.teachers import REGISTRY, RegisteredTeacher, TeacherRegistry, read_registry
from kd_bench.verification.record import LEVELS, VERIFICATION_FILE, read_verifications

STRANGERS_LEVEL = LEVELS[1]
"""The highest badge that anybody can give an entry in a pull request: everybody can recompute it."""

_KINDS = {SYMLINK: "a symbolic link", SUBMODULE: "a submodule", EXECUTABLE: "an executable file"}


def compare_with_base(leaderboards: Path | str, base: Path | str, *, maintainer: bool = False) -> list[Problem]:
    """Refuse what a submission may not do to published entries and their history.

    Args:
        leaderboards: the folder with the submission in it.
        base: the same folder before; see :func:`kd_bench.submission.base_tree.base_tree`.
        maintainer: whether a maintainer answers for it, who may bring higher badges, dismissals and demotions.

    Returns:
        Everything that is refused; empty if only new entries, records and teachers came.
    """
    now, before = Published(Path(leaderboards)), Published(Path(base))
    added, unreadable = new_corrections(now, before)
    return [
        *unreadable,
        *check_corrections(added, now, before, maintainer=maintainer),
        *_removed_or_changed(added, now, before),
        *_verifications(now, before, maintainer=maintainer),
        *_same_but_for_case(now, before),
        *_registry(now, before, maintainer=maintainer),
    ]


def new_entries(leaderboards: Path | str, base: Path | str) -> list[str]:
    """Paths of the entries, ``<protocol>/<method>/<student>__<teacher>``, that are new or whose results changed."""
    now, before = Published(Path(leaderboards)), Published(Path(base))
    return [entry for entry in now.entries if now.run_set_sha256(entry) != before.run_set_sha256(entry)]


def refused_kinds(tree: BaseTree) -> list[Problem]:
    """Links, submodules and executable files among the changes below the leaderboards.

    Args:
        tree: from :func:`kd_bench.submission.base_tree.base_tree`.
    """
    problems = []
    for change in tree.changes:
        # a submodule in place of the whole folder has the folder's own path
        inside = change.path == tree.prefix or change.path.startswith(f"{tree.prefix}/")
        if inside and change.after in _KINDS:
            message = f"is {_KINDS[change.after]}; the leaderboards hold plain files only. Commit the file itself"
            problems.append(Problem(change.path, "file-kind", message))
    return problems


def other_changes(tree: BaseTree) -> list[Problem]:
    """Changes of anything but entries, corrections and the registry of teachers: notices for the reviewer.

    Args:
        tree: from :func:`kd_bench.submission.base_tree.base_tree`.
    """
    data = tuple(f"{tree.prefix}/{name}/" for name in (RESULTS, CORRECTIONS))
    registry = f"{tree.prefix}/{REGISTRY}"
    return [
        Problem(
            change.path,
            "other-change",
            f"this pull request also {'removes' if change.after == ABSENT else 'changes'} this file, which is not part "
            "of a submission: review as code",
        )
        for change in tree.changes
        if not change.path.startswith(data) and change.path != registry
    ]


def _removed_or_changed(added: Iterable[Correction], now: Published, before: Published) -> Iterator[Problem]:
    for path in before.loose:
        if not now.same(path, before):
            message = "is published and was changed or removed. Put it back"
            yield Problem(path, "file-changed", message)
    records = {(one.kind, one.entry, one.before_sha256, one.after_sha256) for one in added}
    for entry in before.entries:
        old, new = before.run_set_sha256(entry), now.run_set_sha256(entry)
        touched = sorted(
            name
            for name in before.files(entry) | now.files(entry)
            if name != VERIFICATION_FILE and not now.same(f"{RESULTS}/{entry}/{name}", before)
        )
        if not touched:
            continue
        if new is None:
            gone = not now.files(entry)
            if not gone or ("withdrawal", entry, old, None) not in records:
                yield Problem(
                    f"{RESULTS}/{entry}",
                    "entry-removed",
                    "is a published entry and was removed or renamed. Entries stay; to take one away, add a withdrawal "
                    f"to {CORRECTIONS}/ whose before_sha256 is {old}, and remove the whole folder",
                )
        elif ("correction", entry, old, new) not in records:
            yield Problem(
                f"{RESULTS}/{entry}",
                "entry-changed",
                f"is a published entry and was changed ({', '.join(touched[:5])}) without a record. Put it back, or "
                f"add a correction to {CORRECTIONS}/ with before_sha256 {old} and after_sha256 {new}: "
                "`lightning-kd leaderboard submit --correction --reason ...` writes both",
            )


def _verifications(now: Published, before: Published, *, maintainer: bool) -> Iterator[Problem]:
    for entry in sorted(now.entries | before.entries):
        path = f"{RESULTS}/{entry}/{VERIFICATION_FILE}"
        if now.same(path, before) or not now.files(entry):
            continue
        try:
            old = read_verifications(before.folder(entry))
            new = read_verifications(now.folder(entry)) if now.is_file(path) else ()
        except UserError:
            yield Problem(path, "verification-changed", "cannot be read as a log of verifications. Put it back")
            continue
        if new[: len(old)] != old or not now.is_file(path):
            yield Problem(
                path,
                "verification-changed",
                f"had {len(old)} records, which may not be changed or removed; new ones are added behind them",
            )
            continue
        for record in new[len(old) :]:
            if record.run_set_sha256 != now.run_set_sha256(entry):
                yield Problem(
                    path,
                    "verification-hash",
                    f"a new record ({record.level}) is about another {RUN_SET_FILE} than the one beside it. Run "
                    "`lightning-kd leaderboard verify` on the entry as it is",
                )
            elif LEVELS.index(record.level) > LEVELS.index(STRANGERS_LEVEL) and not maintainer:
                yield Problem(
                    path,
                    "verification-level",
                    f"brings the badge {record.level!r}, which only a maintainer can give, who has done the work. "
                    f"Submit without it; what is recomputed here is {STRANGERS_LEVEL!r}",
                )


def _same_but_for_case(now: Published, before: Published) -> Iterator[Problem]:
    known: dict[str, str] = {entry.casefold(): entry for entry in before.entries & now.entries}
    for entry in sorted(now.entries - before.entries):
        other = known.setdefault(entry.casefold(), entry)
        if other != entry:
            yield Problem(
                f"{RESULTS}/{entry}",
                "case",
                f"differs from {other} in upper and lower case only, which many file systems cannot keep apart, nor "
                "readers. Give the method a name of its own",
            )


def _registry(now: Published, before: Published, *, maintainer: bool) -> Iterator[Problem]:
    if now.same(REGISTRY, before):
        return
    try:
        old, new = read_registry(before.root), read_registry(now.root)
    except UserError as error:
        yield Problem(REGISTRY, "registry-changed", str(error).rstrip("."))
        return
    known, found = _teachers(old), _teachers(new)
    for protocol, name, teacher in sorted(known - found, key=str):
        yield Problem(
            REGISTRY,
            "registry-changed",
            f"the weights {teacher.weights_sha256[:12]} of {name} in {protocol} were changed or removed; results were "
            "made with them. Put them back",
        )
    for protocol, name, teacher in sorted(found - known, key=str):
        if not maintainer:
            yield Problem(
                REGISTRY,
                "registry-maintainer",
                f"the weights {teacher.weights_sha256[:12]} of {name} in {protocol} are new; a maintainer registers "
                "teachers. Leave the file as it is: a teacher that was trained on the spot need not be in it",
            )


def _teachers(registry: TeacherRegistry) -> set[tuple[str, str, RegisteredTeacher]]:
    return {
        (protocol, name, teacher)
        for protocol, by_name in registry.protocols.items()
        for name, known in by_name.items()
        for teacher in known
    }
