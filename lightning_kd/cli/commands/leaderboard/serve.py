"""Look at the leaderboard page in a browser on this machine; it is built again when a result file has changed.

Ctrl-C ends it. Nothing is written, and nobody else on the network can reach it.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.page_options import add_results_and_reported
from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Build the page and serve it until Ctrl-C."""
    parser = command_parser(__name__)
    add_results_and_reported(parser)
    parser.add_argument("--port", type=int, metavar="NUMBER", default=8000, help="0 for any that is free.")
    parser.add_argument("--open", action="store_true", help="Open the page in the browser.")
    options = parser.parse_args(list(arguments))
    reported = None if options.reported is None else Path(options.reported)

    with bench_extra():
        from kd_bench.leaderboard.serve import Preview, address_of, preview_server

        preview = Preview(Path(options.results), reported, tell=partial(print, flush=True))
        with preview_server(preview, options.port) as server:
            preview.files()
            print(f"Page: {address_of(server)} (Ctrl-C ends it)", flush=True)
            if options.open:
                webbrowser.open(address_of(server))
            server.serve_forever()
    return 0
