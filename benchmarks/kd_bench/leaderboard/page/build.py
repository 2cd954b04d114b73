"""Writes the page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.export import CSV_FILE, JSON_FILE
from kd_bench.leaderboard.page.boards import make_boards
from kd_bench.leaderboard.page.data import json_for_script, table_data
from kd_bench.leaderboard.page.interning import Pool
from kd_bench.leaderboard.page.reported import unmeasured_pairs
from kd_bench.leaderboard.page.top_rows import top_rows
from kd_bench.reported import Reported
from kd_bench.storage import write_atomic

STYLES = ("page", "table", "detail", "figures", "reported", "narrow")
SCRIPTS = (
    "data",
    "text",
    "drawing",
    "filters",
    "columns",
    "table",
    "links",
    "curves",
    "reliability",
    "detail",
    "forest",
    "scatter",
    "ranks",
    "figures",
    "download",
    "start",
)

RANK_RULE = (
    "The places that the seeds leave open, such as 1\N{EN DASH}4: all pairs of rows of a board are compared by a "
    "moderated paired t test, adjusted by Holm for their number. Shaded rows are those that no other is shown to beat."
)


def build_page(
    entries: Sequence[Entry],
    output_path: Path | str,
    *,
    reported: Reported | None = None,
    generated: date | None = None,
    exports: bool = False,
) -> Path:
    """Write the page. The same entries give the same bytes.

    Args:
        entries: what to show, in any order. Diagrams are drawn from the predictions in their folders, and left out
            where there are none.
        output_path: the HTML file to write; its directory is created.
        reported: figures from papers, to show beside the results of the protocols that have a table of them.
        generated: date to print on the page; none by default, so that the page depends on its data alone.
        exports: whether to link the files of :func:`kd_bench.leaderboard.export.write_exports` beside the page.

    Returns:
        ``output_path``.

    Raises:
        UserError: if there are no entries, one is given twice, or predictions are corrupt. Nothing is written then.
    """
    if not entries:
        raise UserError("there are no results to show. Run `lightning-kd bench run` first.")
    path = Path(output_path)
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the HTML file to write, for example {path / 'index.html'}.")
    figures, pool = reported or Reported(), Pool()
    boards = make_boards(entries, figures, pool)
    unmeasured = unmeasured_pairs([entry.run_set for entry in entries], figures)
    style, script = _assets("style", STYLES, "css"), _assets("script", SCRIPTS, "js")
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            boards=boards,
            count=len(entries),
            css=Markup(style),
            data=json_for_script(table_data(boards, entries, pool)),
            details=[json_for_script(board.details) for board in boards],
            exports=[CSV_FILE, JSON_FILE] if exports else [],
            generated=generated,
            has_reported=bool(unmeasured) or any(board.reported for board in boards),
            newest=_newest(entries),
            policy=_policy(style, script, pictures=any(board.detections for board in boards)),
            rank_rule=RANK_RULE,
            script=Markup(script),
            tasks=[columns_of(task) for task in sorted({board.task for board in boards})],
            top=top_rows(boards),
            unmeasured=unmeasured,
        )
    )
    write_atomic(path, html.encode())
    return path


def _newest(entries: Sequence[Entry]) -> str:
    """Day of the newest verification or correction; empty if there is none."""
    days = [record.date for entry in entries for record in entry.verifications]
    return max([*days, *(one.date for entry in entries for one in entry.corrections)], default="")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kd_bench.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _assets(folder: str, names: Sequence[str], extension: str) -> str:
    """Small files in one: a page has one style and one script."""
    root = resources.files("kd_bench.leaderboard").joinpath("templates", folder)
    return "\n".join(root.joinpath(f"{name}.{extension}").read_text(encoding="utf-8") for name in names)


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
