"""The leaderboard page: one static, self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kd_bench.errors import UserError
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page_boards import make_boards
from kd_bench.leaderboard.page_reliability import find_folders
from kd_bench.leaderboard.page_reported import unmeasured_pairs
from kd_bench.leaderboard.page_rows import TIE_RULE
from kd_bench.reported import Reported
from kd_bench.results import RunSet
from kd_bench.storage import write_atomic


def build_page(
    run_sets: Sequence[RunSet],
    output_path: Path | str,
    *,
    results: Path | str | None = None,
    reported: Reported | None = None,
    generated: date | None = None,
) -> Path:
    """Write the page. The same results give the same bytes.

    Args:
        run_sets: what to show, in any order.
        output_path: the HTML file to write; its directory is created.
        results: directory that ``run_sets`` were loaded from; the reliability diagrams are drawn from the predictions
            found there and left out without it.
        reported: figures from papers, to show beside the results of the protocols that have a table of them.
        generated: date to print on the page; none by default, so that the page depends on its data alone.

    Returns:
        ``output_path``.

    Raises:
        UserError: if there are no run sets, one is given twice, or a predictions file is missing or corrupt. Nothing
            is written then.
    """
    if not run_sets:
        raise UserError("there are no results to show. Run `lightning-kd bench run` first.")
    path = Path(output_path)
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the HTML file to write, for example {path / 'index.html'}.")
    folders = find_folders(Path(results)) if results is not None else {}
    figures = reported or Reported()
    boards, unmeasured = make_boards(run_sets, folders, figures), unmeasured_pairs(run_sets, figures)
    style, script = _asset("page.css"), _asset("page.js")
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            boards=boards,
            css=Markup(style),
            generated=generated,
            has_reported=bool(unmeasured) or any(board.reported for board in boards),
            policy=_policy(style, script, pictures=any(board.detections for board in boards)),
            script=Markup(script),
            tasks=[columns_of(task) for task in sorted({run_set.task for run_set in run_sets})],
            tie_rule=TIE_RULE,
            unmeasured=unmeasured,
        )
    )
    write_atomic(path, html.encode())
    return path


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kd_bench.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return resources.files("kd_bench.leaderboard").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str, *, pictures: bool) -> str:
    """A content security policy under which nothing is loaded and only our own style and script are obeyed."""
    rules = {
        "default-src": "'none'",
        **({"img-src": "data:"} if pictures else {}),
        "style-src": _hash_source(style),
        "script-src": _hash_source(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def _hash_source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
