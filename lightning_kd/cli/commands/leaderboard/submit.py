"""Put your results into the leaderboards of a clone, ready for a pull request.

By default these are the results that the leaderboards lack: methods of your own, and rows of a protocol that nobody has
run. Rows that they have, such as plain and KD, you ran to compare yours with; they are not submitted again. Everything
is checked first, as in CI; if anything is refused, nothing is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.lists import parse_names
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import LEADERBOARDS, RUNS

if TYPE_CHECKING:
    from kd_bench.submission.submit import Submission

REFUSED = 1


def main(arguments: Sequence[str]) -> int:
    """Check, write, and say what to do next."""
    parser = command_parser(__name__)
    parser.add_argument("run_dir", nargs="?", metavar="RUN_DIR", default=RUNS, help="Output of `bench run`.")
    parser.add_argument("--leaderboards", metavar="DIR", default=LEADERBOARDS, help="The folder in a clone.")
    parser.add_argument("--methods", metavar="NAMES", help="Rows to submit; by default what the leaderboards lack.")
    parser.add_argument("--contact", metavar="TEXT", help="Whom to ask: a name, an address or a GitHub handle.")
    parser.add_argument("--licence", metavar="SPDX", help="Licence of the method's file, such as Apache-2.0.")
    parser.add_argument(
        "--extra-data", action="store_true", help="Declare that more data than the protocol's was used."
    )
    parser.add_argument(
        "--correction", action="store_true", help="Replace published entries of --methods; needs a reason."
    )
    parser.add_argument("--reason", metavar="TEXT", help="What was wrong with what is replaced.")
    options = parser.parse_args(list(arguments))
    methods = None if options.methods is None else parse_names("--methods", options.methods)

    with bench_extra():
        from kd_bench.submission.report import report_lines
        from kd_bench.submission.selecting import Description
        from kd_bench.submission.submit import submit

        from lightning_kd.cli.submit_steps import next_steps

        done = submit(
            options.run_dir,
            options.leaderboards,
            methods=methods,
            about=Description(options.contact, options.licence, options.extra_data),
            correction=options.correction,
            reason=options.reason,
        )
        _print_left_out(done)
        for line in report_lines(done.report):
            print(line)
        if not done.report.ok:
            print("Nothing was written.", file=sys.stderr)
            return REFUSED
        for line in next_steps(done, options.run_dir, options.leaderboards):
            print(line)
    return 0


def _print_left_out(done: Submission) -> None:
    if done.left_out:
        print("Not submitted:")
        for path, why in done.left_out.items():
            print(f"  {path}\n    {why}")
        print()
