"""What a check found, as text for a terminal and as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePath

from kd_bench.submission.check import CheckReport
from kd_bench.submission.problem import Problem, shown

_WIDTH = 100
_MOST_OK = 20


def report_lines(report: CheckReport) -> Iterator[str]:
    """Lines of at most 100 characters, in which nothing of a submission is more than text.

    Args:
        report: from :func:`kd_bench.submission.check.check`.
    """
    remarks = [(problem, "refused") for problem in report.problems]
    remarks += [(notice, "notice") for notice in report.notices]
    fine = []
    for entry in report.entries:
        name = shown(entry, limit=300)
        mine = [remark for remark in remarks if _is_in(remark[0], name)]
        remarks = [remark for remark in remarks if remark not in mine]
        if mine:
            verdict = "refused" if any(kind == "refused" for _, kind in mine) else "ok, but look at"
            yield f"{name}: {verdict}"
            for problem, kind in mine:
                yield from _described(problem, kind, problem.path[len(name) :].lstrip("/\\"))
        else:
            fine.append(name)
    if len(fine) <= _MOST_OK:
        yield from (f"{name}: ok" for name in fine)
    else:
        yield f"{len(fine)} {'other ' if len(fine) < len(report.entries) else ''}entries: ok"
    for problem, kind in remarks:
        yield f"{problem.path}: {kind}"
        yield from _described(problem, kind, "")
    yield ""
    yield _summary(report)


def report_json(report: CheckReport) -> str:
    """The report as JSON of ASCII characters.

    Args:
        report: from :func:`kd_bench.submission.check.check`.
    """
    content = {
        "ok": report.ok,
        "entries": [shown(entry, limit=300) for entry in report.entries],
        "files": report.files,
        "problems": [asdict(problem) for problem in report.problems],
        "notices": [asdict(notice) for notice in report.notices],
    }
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def _described(problem: Problem, kind: str, file: str) -> Iterator[str]:
    head = f"  {kind} by the rule {problem.rule}" if kind == "refused" else f"  {kind} of the rule {problem.rule}"
    yield f"{head}, {file}:" if file else f"{head}:"
    yield from textwrap.wrap(f"{problem.message}.", _WIDTH - 4, initial_indent="    ", subsequent_indent="    ")


def _is_in(problem: Problem, entry: str) -> bool:
    return PurePath(problem.path).is_relative_to(entry)


def _summary(report: CheckReport) -> str:
    checked = f"{len(report.entries)} {'entry' if len(report.entries) == 1 else 'entries'}"
    if report.files:
        checked += f" and {report.files} other {'file' if report.files == 1 else 'files'}"
    if report.problems:
        count = len(report.problems)
        found = "1 problem: mend it" if count == 1 else f"{count} problems: mend them"
        found += ", and check again"
    else:
        found = "nothing to refuse"
    notices = f"; {len(report.notices)} for a maintainer to confirm" if report.notices else ""
    return f"Checked {checked}: {found}{notices}."
