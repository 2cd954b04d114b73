"""Write the leaderboard page: one self-contained HTML file made from results."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.page_options import add_results_and_reported
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import PAGE


def main(arguments: Sequence[str]) -> int:
    """Build the page and print its path."""
    parser = command_parser(__name__)
    add_results_and_reported(parser)
    parser.add_argument("--output", metavar="FILE", default=PAGE, help="HTML file to write.")
    parser.add_argument(
        "--export",
        action="store_true",
        help="Write results.csv and results.json beside the page as well, and link them.",
    )
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="Date to print on the page; by default none.")
    options = parser.parse_args(list(arguments))
    generated = None if options.date is None else _parse_date(options.date)

    with bench_extra():
        from kd_bench.entries import load_entries
        from kd_bench.leaderboard.export import write_exports
        from kd_bench.leaderboard.page import build_page
        from kd_bench.reported import load_reported, shipped_reported

        with _without_garbage_collection():
            entries = load_entries(options.results)
            path = build_page(
                entries,
                options.output,
                reported=shipped_reported() if options.reported is None else load_reported(options.reported),
                generated=generated,
                exports=options.export,
            )
            exports = write_exports(entries, path.parent) if options.export else ()
    for title, file in zip(("Page", "Table", "Data"), (path, *exports), strict=False):
        print(f"{title}: {file}")
    return 0


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """All that is read is kept to the end: looking for garbage takes a third of the time and finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"cannot read --date {text!r}. Give a date as YYYY-MM-DD.") from None
