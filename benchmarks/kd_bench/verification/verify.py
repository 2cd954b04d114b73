"""Verify an entry: one level and those below it, and a record beside the entry if all of it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import lightning_kd
from kd_bench.entries import RESULTS, Entry, load_entries
from kd_bench.environment import describe_environment
from kd_bench.errors import UserError
from kd_bench.options import LaunchOptions
from kd_bench.results import Verification
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import file_sha256
from kd_bench.submission.problem import shown
from kd_bench.verification.author import author
from kd_bench.verification.checkpoint import verify_checkpoint
from kd_bench.verification.entry_protocol import protocol_of
from kd_bench.verification.findings import Findings
from kd_bench.verification.predictions import verify_predictions
from kd_bench.verification.record import SeedFinding, VerificationRecord, append_verification
from kd_bench.verification.retrain import Retraining, verify_retrained

Level = Literal["predictions", "checkpoint", "retrain"]

BADGES: dict[Level, Literal["predictions checked", "checkpoint re-evaluated", "retrained"]] = {
    "predictions": "predictions checked",
    "checkpoint": "checkpoint re-evaluated",
    "retrain": "retrained",
}
"""The badge that each level gives, lowest first."""

MAX_REMARKS, MAX_REMARK = 20, 500
"""What a record holds of the remarks, and of each."""


@dataclass(frozen=True)
class VerificationOutcome:
    """What was verified and what was found.

    Attributes:
        entry: the entry, as it was before.
        level: the level that the findings are of: the one that was asked for, or the lower one that failed.
        findings: what was found.
        record: what was recorded, or would be without ``dry_run``; ``None`` if the claim does not hold.
        written: the file that it was recorded in, if it was.
        badge: the badge of the entry from now on.
    """

    entry: Entry
    level: Level
    findings: Findings
    record: VerificationRecord | None
    written: Path | None
    badge: Verification

    @property
    def ok(self) -> bool:
        """Whether the claim holds."""
        return self.findings.hold

    @property
    def exit_code(self) -> int:
        """0 if the claim holds, 1 if something contradicts it, 2 if not all of it could be measured."""
        return 1 if self.findings.problems else 2 if self.findings.obstacles else 0


def verify(
    entry: Path | str,
    *,
    level: Level = "predictions",
    leaderboards: Path | str = "leaderboards",
    by: str | None = None,
    weights: Path | str | None = None,
    seeds: Sequence[int] | None = None,
    output: Path | str = "verify-runs",
    run_submitted_code: bool = False,
    launch: LaunchOptions | None = None,
    dry_run: bool = False,
) -> VerificationOutcome:
    """Verify an entry, and record it beside the entry if the claim holds; if not, nothing is written.

    The levels above ``predictions`` verify the predictions first.

    Args:
        entry: its folder, or ``<protocol>/<method>/<student>__<teacher>`` below the leaderboards' results.
        level: ``predictions``: recompute every score; ``checkpoint``: evaluate kept weights anew; ``retrain``: train
            the students again.
        leaderboards: where an entry is looked for that is no folder.
        by: who verifies; by default git's ``user.name``.
        weights: for ``checkpoint``, see :func:`kd_bench.verification.checkpoint.verify_checkpoint`.
        seeds: which seeds are evaluated or trained again; the predictions are always verified of all.
        output: for ``retrain``, the directory to train in.
        run_submitted_code: for ``retrain``, whether the file of a submitted method may be executed.
        launch: for ``retrain``, where and with how many workers.
        dry_run: whether nothing is recorded.

    Raises:
        UserError: if it cannot be verified.
    """
    found = find_entry(entry, Path(leaderboards))
    assert found.folder is not None
    name = "" if dry_run else author(by)
    protocol = protocol_of(found.run_set)
    done: Level = "predictions"
    findings = verify_predictions(found)
    if findings.hold and level != done:
        below, done = findings, level
        if level == "checkpoint":
            findings = verify_checkpoint(found, protocol, None if weights is None else Path(weights), seeds)
        else:
            how = Retraining(Path(output), seeds, run_submitted_code, launch or LaunchOptions())
            findings = verify_retrained(found, protocol, how)
        findings = replace(findings, remarks=(*below.remarks, *findings.remarks))
    if not findings.hold:
        return VerificationOutcome(found, done, findings, None, None, found.badge)
    record = _record(found, done, findings, name or "nobody")
    after = replace(found, verifications=(*found.verifications, record))
    if dry_run:
        return VerificationOutcome(found, done, findings, record, None, after.badge)
    if file_sha256(found.folder / RUN_SET_FILE) != found.sha256:
        raise UserError(f"{found.folder / RUN_SET_FILE} was changed meanwhile; start again.")
    written = append_verification(found.folder, record)
    return VerificationOutcome(found, done, findings, record, written, after.badge)


def find_entry(entry: Path | str, leaderboards: Path) -> Entry:
    """The entry that is meant.

    Args:
        entry: its folder, its ``run_set.json``, or its path below the leaderboards' results.
        leaderboards: where to look for the latter; with or without ``results``.

    Raises:
        UserError: if there is none, or it is corrupt.
    """
    given = Path(entry)
    if given.name == RUN_SET_FILE:
        given = given.parent
    places = [given, leaderboards / RESULTS / given, leaderboards / given]
    folder = next((place for place in places if (place / RUN_SET_FILE).is_file()), None)
    if folder is None:
        raise UserError(
            f"there is no entry {str(entry)!r}: expected a folder with a {RUN_SET_FILE}, or "
            f"<protocol>/<method>/<student>__<teacher> below {leaderboards / RESULTS}."
        )
    if inner := next((path for path in folder.iterdir() if path.is_dir()), None):
        raise UserError(f"{inner} is a folder, where only the files of an entry may be; remove it.")
    return load_entries(folder)[0]


def _record(entry: Entry, level: Level, findings: Findings, by: str) -> VerificationRecord:
    return VerificationRecord(
        level=BADGES[level],
        date=datetime.now(UTC).date().isoformat(),
        by=by,
        run_set_sha256=entry.sha256,
        seeds=tuple(
            SeedFinding(seed=each.seed, claimed=each.claimed, found=each.found)
            for each in findings.seeds
            if each.found is not None
        ),
        tolerance=findings.tolerance,
        mean_tolerance=findings.mean_tolerance,
        environment=describe_environment(),
        package_version=lightning_kd.__version__,
        # they repeat text of the entry
        remarks=tuple(normalize("NFC", shown(each, MAX_REMARK - 1)) for each in findings.remarks[:MAX_REMARKS]),
    )
