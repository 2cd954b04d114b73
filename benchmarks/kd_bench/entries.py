"""Entries of the leaderboards: a run set, who verified it, and what was corrected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kd_bench.corrections import CORRECTIONS, Correction, load_corrections
from kd_bench.results import RunSet, Verification, pair_slug, slug
from kd_bench.run_set_files import find_run_sets
from kd_bench.storage import file_sha256
from kd_bench.verification.record import LEVELS, VerificationRecord, read_verifications

RESULTS = "results"


@dataclass(frozen=True)
class Entry:
    """One run set of a leaderboard with its history.

    Attributes:
        run_set: what was measured.
        folder: where its files are; ``None`` if it only exists in memory.
        sha256: hash of its file; empty if it only exists in memory.
        verifications: all records, oldest first, those of earlier states of the file included.
        corrections: all corrections, oldest first.
    """

    run_set: RunSet
    folder: Path | None = None
    sha256: str = ""
    verifications: tuple[VerificationRecord, ...] = ()
    corrections: tuple[Correction, ...] = ()

    @property
    def path(self) -> str:
        """``<protocol>/<method>/<student>__<teacher>``."""
        return entry_path(self.run_set)

    @property
    def badge(self) -> Verification:
        """The highest level that was verified for this very file, at most what a demotion leaves."""
        levels = [LEVELS.index(record.level) for record in self.verifications if record.run_set_sha256 == self.sha256]
        ceilings = [LEVELS.index(one.badge) for one in self.corrections if one.badge is not None]
        return LEVELS[min([max(levels, default=0), *ceilings])]

    @property
    def challenged(self) -> bool:
        """Whether a challenge has not been answered."""
        answered = {one.answers for one in self.corrections if one.answers is not None}
        return any(one.kind == "challenge" and one.id not in answered for one in self.corrections)

    @property
    def withdrawn(self) -> bool:
        """Whether it is no longer ranked."""
        return any(one.kind == "withdrawal" for one in self.corrections)


def entry_path(run_set: RunSet) -> str:
    """Where a run set belongs below ``results``: ``<protocol>/<method>/<student>__<teacher>``."""
    names = slug(run_set.protocol.id), slug(run_set.method.name)
    return "/".join([*names, pair_slug(run_set.student.name, run_set.teacher.name)])


def load_entries(directory: Path | str) -> list[Entry]:
    """Read all entries below a directory.

    Args:
        directory: ``leaderboards``, its ``results``, the output of a benchmark, or any folder below one of them. The
            corrections are looked for in ``corrections`` inside it or beside the ``results`` that it lies in.

    Raises:
        UserError: if there is none, or a file is corrupt.
    """
    root = Path(directory)
    by_entry: dict[str, list[Correction]] = {}
    for correction in load_corrections(corrections_folder(root)):
        by_entry.setdefault(correction.entry, []).append(correction)
    return [
        Entry(
            run_set,
            file.parent,
            file_sha256(file),
            read_verifications(file.parent),
            tuple(by_entry.get(entry_path(run_set), ())),
        )
        for file, run_set in find_run_sets(root)
    ]


def corrections_folder(root: Path) -> Path:
    """Where the corrections of what lies below a directory are; need not exist.

    Args:
        root: as for :func:`load_entries`.
    """
    if (root / CORRECTIONS).is_dir():
        return root / CORRECTIONS
    for folder in (root.absolute(), *root.absolute().parents):
        if folder.name == RESULTS:
            return folder.with_name(CORRECTIONS)
    return root / CORRECTIONS
