"""Corrections in a pull request: added, never changed, and about something that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd_bench.corrections import CORRECTIONS, Correction, read_correction
from kd_bench.entries import RESULTS
from kd_bench.errors import UserError
from kd_bench.submission.problem import Problem, shown
from kd_bench.submission.published import Published

OF_MAINTAINERS = ("dismissal", "demotion")
"""Kinds that judge somebody's entry or challenge."""


def new_corrections(now: Published, before: Published) -> tuple[list[Correction], list[Problem]]:
    """The corrections that a pull request adds, and what is wrong with the files of all of them.

    Args:
        now: the leaderboards with the pull request.
        before: without.

    Returns:
        The new ones that can be read, and problems: changed, removed or unreadable files.
    """
    problems = [
        Problem(path, "correction-changed", "is part of the history and was changed or removed. Put it back")
        for path in sorted(before.corrections)
        if not now.same(path, before)
    ]
    added = []
    for path in sorted(now.corrections - before.corrections):
        if not now.is_file(path):
            problems.append(Problem(path, "correction-invalid", "is not a plain file"))
            continue
        try:
            added.append(read_correction(now.root / path))
        except UserError as error:
            problems.append(Problem(path, "correction-invalid", str(error).rstrip(".")))
    return added, problems


def check_corrections(
    added: Sequence[Correction], now: Published, before: Published, *, maintainer: bool
) -> Iterator[Problem]:
    """What new corrections say that is not so.

    Args:
        added: from :func:`new_corrections`.
        now: the leaderboards with the pull request.
        before: without.
        maintainer: whether a maintainer answers for it.

    Yields:
        Problems.
    """
    challenges = _challenges(added, before)
    for one in added:
        path = f"{CORRECTIONS}/{one.id}.json"
        old, new = before.run_set_sha256(one.entry), now.run_set_sha256(one.entry)
        if old is None and new is None:
            yield Problem(path, "correction-unmatched", f"is about {shown(one.entry)}, which is not below {RESULTS}/")
        if one.kind == "correction" and (one.before_sha256, one.after_sha256) != (old, new):
            yield Problem(path, "correction-unmatched", _mismatch("before", old, "after", new))
        if one.kind == "withdrawal" and one.before_sha256 not in (None, old):
            yield Problem(path, "correction-unmatched", _mismatch("before", old))
        if one.answers is not None and challenges.get(one.answers) != one.entry:
            yield Problem(
                path,
                "correction-unmatched",
                f"answers {shown(one.answers)}, which is no challenge of this entry. Give the id of one",
            )
        if one.kind in OF_MAINTAINERS and not maintainer:
            yield Problem(
                path,
                "correction-maintainer",
                f"is a {one.kind}, which is for a maintainer to decide. To doubt an entry, add a challenge",
            )


def _challenges(added: Sequence[Correction], before: Published) -> dict[str, str]:
    """Id → entry, of the challenges there are."""
    published = []
    for path in before.corrections:
        try:
            published.append(read_correction(before.root / path))
        except UserError:  # not for this pull request to mend
            continue
    return {one.id: one.entry for one in (*published, *added) if one.kind == "challenge"}


def _mismatch(*names_and_hashes: str | None) -> str:
    pairs = zip(names_and_hashes[::2], names_and_hashes[1::2], strict=True)
    expected = " and ".join(f"{name}_sha256 {found or '(there is no such file)'}" for name, found in pairs)
    return f"does not describe this change: expected {expected}, the hashes of run_set.json in base and pull request"
