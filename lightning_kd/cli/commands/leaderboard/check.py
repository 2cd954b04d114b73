"""Check results before they are submitted: the very check that a pull request has to pass.

Nothing of what is checked is executed or followed, and nothing is written but the report that is asked for. Exit code
0: all is well; 1: something is refused; 2: nothing could be checked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Check, print what was found, and return the exit code."""
    parser = command_parser(__name__)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="An entry, results or a folder below, corrections, whole leaderboards, or the output of `bench run`.",
    )
    parser.add_argument(
        "--base",
        metavar="DIR",
        help="The leaderboards before the submission; what is published there may only be added to.",
    )
    parser.add_argument(
        "--leaderboards",
        metavar="DIR",
        help="The leaderboards that the submission is for; by default those it lies in, else ./leaderboards.",
    )
    parser.add_argument(
        "--base-ref",
        metavar="REF",
        help="The same from git: the branch that the pull request goes to, such as origin/main.",
    )
    parser.add_argument(
        "--maintainer",
        action="store_true",
        help="A maintainer answers for it, who may bring badges, judgements and teachers.",
    )
    parser.add_argument("--json", metavar="FILE", help="Write the report as JSON, too.")
    parser.add_argument("--comment", metavar="FILE", help="Write a comment for the reviewer as Markdown.")
    options = parser.parse_args(list(arguments))
    if options.base is not None and options.base_ref is not None:
        raise CommandError("--base and --base-ref name the same thing, as a folder or from git. Give one of them.")

    with bench_extra():
        from kd_bench.storage import write_atomic
        from kd_bench.submission.check import check
        from kd_bench.submission.comment import write_comment
        from kd_bench.submission.pull_request import check_pull_request
        from kd_bench.submission.report import report_json, report_lines
        from kd_bench.submission.targets import leaderboards_of

        common = {"leaderboards": options.leaderboards, "maintainer": options.maintainer}
        if options.base_ref is not None:
            report = check_pull_request(options.paths, options.base_ref, comment=options.comment, **common)
        else:
            report = check(options.paths, base=options.base, **common)
            if options.comment is not None:
                around = options.leaderboards or leaderboards_of(Path(options.paths[0])) or options.paths[0]
                write_comment(options.comment, report, around, options.base)
        for line in report_lines(report):
            _say(line)
        if options.json is not None:
            write_atomic(Path(options.json), report_json(report).encode())
    return report.exit_code


def _say(line: str) -> None:
    """Print a line also where the terminal does not know all of its letters."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))
