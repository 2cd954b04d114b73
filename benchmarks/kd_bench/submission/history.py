"""Rules about the history of an entry: what was verified, and what was corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from kd_bench.corrections import Correction
from kd_bench.submission.candidate import Candidate
from kd_bench.submission.finding import Finding
from kd_bench.submission.text_fields import text_problems
from kd_bench.verification.record import VERIFICATION_FILE


def verifications_match(candidate: Candidate, corrections: Sequence[Correction]) -> Iterator[Finding]:
    """What was verified is this run set, or one that a correction has replaced.

    Whether somebody may bring a record at all is decided against the published leaderboards.

    Args:
        candidate: the entry.
        corrections: those of the entry.
    """
    earlier = {one.before_sha256 for one in corrections if one.kind == "correction"}
    stated = {run.seed: run.last.headline for run in candidate.run_set.runs}
    for number, record in enumerate(candidate.verifications):
        which = f"record {number} ({record.level})"
        if problem := _date_problem(record.date):
            yield Finding("verification", f"{which} {problem}", file=VERIFICATION_FILE)
        if record.run_set_sha256 != candidate.sha256:
            if record.run_set_sha256 not in earlier:
                yield Finding(
                    "verification",
                    f"{which} is about another run_set.json ({record.run_set_sha256[:12]}…), which no correction tells "
                    "of. Remove it; `lightning-kd leaderboard verify` makes a new one",
                    file=VERIFICATION_FILE,
                )
            continue
        for finding in record.seeds:
            if stated.get(finding.seed) != finding.claimed:
                yield Finding(
                    "verification",
                    f"{which} says that seed {finding.seed} claims {finding.claimed}; the run set says "
                    f"{stated.get(finding.seed, 'nothing of it')}",
                    file=VERIFICATION_FILE,
                )
        if record.level == "predictions checked" and len(record.seeds) < len(stated):
            message = f"{which} leaves seeds out, all of which have predictions"
            yield Finding("verification", message, file=VERIFICATION_FILE)


def corrections_match(
    corrections: Mapping[str, Correction], entries: Mapping[str, Candidate]
) -> Iterator[tuple[str, Finding]]:
    """Corrections are about entries that are there, and follow from one another.

    Args:
        corrections: id → all corrections of the leaderboards.
        entries: path → all entries that are at hand.

    Yields:
        Id of a correction, and what is wrong with it.
    """
    for name, one in corrections.items():
        for problem in text_problems(one):
            yield name, Finding("text", problem)
        if wrong := _date_problem(one.date):
            yield name, Finding("correction", wrong)
        removed = one.kind == "withdrawal" and one.before_sha256 is not None
        if one.entry not in entries and not removed and not _removed_since(one, corrections):
            yield name, Finding("correction", f"is about {one.entry}, which is no entry")
        if one.answers is not None:
            asked = corrections.get(one.answers)
            if asked is None or asked.kind != "challenge" or asked.entry != one.entry:
                yield name, Finding("correction", f"answers {one.answers!r}, which is no challenge of {one.entry}")
            elif asked.date > one.date:
                yield name, Finding("correction", f"answers {one.answers!r}, which is younger")
    yield from _chains(corrections, entries)


def _chains(corrections: Mapping[str, Correction], entries: Mapping[str, Candidate]) -> Iterator[tuple[str, Finding]]:
    """The last correction of an entry leads to the file that is there."""
    before = {(one.entry, one.before_sha256) for one in corrections.values()}
    for name, one in corrections.items():
        if one.kind != "correction" or (one.entry, one.after_sha256) in before or one.entry not in entries:
            continue
        if entries[one.entry].sha256 != one.after_sha256:
            yield (
                name,
                Finding(
                    "correction",
                    f"leads to a run_set.json with the hash {str(one.after_sha256)[:12]}…; {one.entry} has "
                    f"{entries[one.entry].sha256[:12]}…",
                ),
            )


def _removed_since(one: Correction, corrections: Mapping[str, Correction]) -> bool:
    return any(
        other.entry == one.entry and other.kind == "withdrawal" and other.before_sha256 is not None
        for other in corrections.values()
    )


def _date_problem(text: str) -> str | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return f"has the date {text}, which no calendar has"
    # somewhere it is tomorrow already
    if day > datetime.now(UTC).date() + timedelta(days=1):
        return f"has the date {text}, which is in the future"
    return None
