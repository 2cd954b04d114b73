"""Write a correction of a published entry: a challenge, its dismissal, a demotion, a withdrawal, new numbers."""

from __future__ import annotations

import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_bench.corrections import CORRECTIONS, Correction, load_corrections
from kd_bench.entries import RESULTS
from kd_bench.errors import UserError
from kd_bench.names import unknown
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import file_sha256, write_model
from kd_bench.submission.base_tree import base_tree
from kd_bench.submission.problem import shown
from kd_bench.submission.published import Published

BASE = "origin/main"
"""Where the published leaderboards are, from a clone."""

_MAX_ID = 100


def today() -> str:
    """The day, ``YYYY-MM-DD``, UTC."""
    return datetime.now(UTC).date().isoformat()


def correct(
    leaderboards: Path | str, entry: str, *, base_ref: str | None = None, **fields: Any
) -> tuple[Path, Correction]:
    """Add a record to ``leaderboards/corrections``; none is ever overwritten.

    Args:
        leaderboards: the folder.
        entry: ``<protocol>/<method>/<student>__<teacher>``, or the path of its folder.
        base_ref: branch with the published entry; for a correction, and for the withdrawal of an entry whose folder is
            gone: the hash before comes from there.
        fields: of the :class:`~kd_bench.corrections.Correction`: ``kind``, ``reason``, ``by``, and so on.

    Returns:
        The file and what is in it.

    Raises:
        UserError: if there is no such entry or challenge, or the fields do not make a correction.
    """
    root = Path(leaderboards)
    if not root.is_dir():
        raise UserError(f"no such directory: {shown(root)}. Give the leaderboards folder of a checkout.")
    name = entry_name(root, entry)
    hashes = _hashes(root, name, fields.get("kind"), base_ref)
    known = load_corrections(root / CORRECTIONS)
    challenges = [one.id for one in known if (one.kind, one.entry) == ("challenge", name)]
    if (answers := fields.get("answers")) is not None and answers not in challenges:
        raise unknown(f"challenge of {name}", answers, challenges)
    return write_new_correction(root, {"date": today(), "entry": name, **hashes, **fields})


def write_new_correction(
    leaderboards: Path, fields: dict[str, Any], known: Path | None = None
) -> tuple[Path, Correction]:
    """Write a correction under an id that nothing has yet; returns the file and what is in it.

    Args:
        leaderboards: the folder.
        fields: all but the id.
        known: other leaderboards, whose ids are taken, too.

    Raises:
        UserError: if the fields do not make a correction.
    """
    stem = _stem(fields)
    for number in range(1, 1000):
        correction = _correction(fields | {"id": stem if number == 1 else f"{stem}-{number}"})
        path = leaderboards / CORRECTIONS / f"{correction.id}.json"
        taken = any(os.path.lexists(root / CORRECTIONS / path.name) for root in (leaderboards, known or leaderboards))
        if not taken and _write_unless_there(path, correction):
            return path, correction
    raise UserError(f"there are a thousand corrections {stem} already; give another date")


def entry_name(leaderboards: Path, given: str) -> str:
    """The name of an entry, from its name or the path of its folder or ``run_set.json``.

    Args:
        leaderboards: the folder.
        given: what was typed.
    """
    results = (leaderboards / RESULTS).absolute()
    path = Path(given).absolute()
    if path.name == RUN_SET_FILE:
        path = path.parent
    return path.relative_to(results).as_posix() if path.is_relative_to(results) else given.strip("/")


def _hashes(root: Path, entry: str, kind: object, base_ref: str | None) -> dict[str, str]:
    run_set = root / RESULTS / entry / RUN_SET_FILE
    present = entry in Published(root).entries and run_set.is_file()
    if kind not in ("correction", "withdrawal") or (present and kind == "withdrawal"):
        if not present:
            raise unknown("entry", entry, sorted(Published(root).entries))
        return {}
    with base_tree(root, base_ref or BASE) as tree:
        before = Published(tree.folder).run_set_sha256(entry)
        if before is None:
            raise unknown(f"entry of {base_ref or BASE}", entry, sorted(Published(tree.folder).entries))
    if kind == "withdrawal":
        return {"before_sha256": before}
    if not present:
        raise UserError(f"{entry} is gone; a correction changes an entry. To take it away, give the kind 'withdrawal'.")
    after = file_sha256(run_set)
    if after == before:
        raise UserError(
            f"{entry} is as it is in {base_ref or BASE}. Put the corrected files in their place first, with "
            "`lightning-kd leaderboard submit --correction`, which writes this record, too."
        )
    return {"before_sha256": before, "after_sha256": after}


def _correction(fields: dict[str, Any]) -> Correction:
    try:
        return Correction(**fields)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'correction'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)[:3]
        ]
        raise UserError(f"this is no correction: {shown('; '.join(problems), limit=600)}.") from error


def _stem(fields: dict[str, Any]) -> str:
    words = "-".join([*str(fields["entry"]).split("/")[:2], str(fields.get("kind"))])
    return f"{fields['date']}-{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')}"[:_MAX_ID]


def _write_unless_there(path: Path, correction: Correction) -> bool:
    """Write a whole file or none, and never in place of another; whether it was written."""
    whole = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        write_model(whole, correction)
        os.link(whole, path)
    except FileExistsError:
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True
