"""Write a correction of a published entry: a challenge, an answer to one, or new facts.

It becomes a file in leaderboards/corrections, to be proposed in a pull request. Nothing is ever overwritten: the
history of an entry stays.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import LEADERBOARDS

KINDS = ("challenge", "dismissal", "correction", "demotion", "withdrawal")


def main(arguments: Sequence[str]) -> int:
    """Write the record and say what to do with it."""
    parser = command_parser(__name__)
    parser.add_argument("entry", metavar="ENTRY", help="<protocol>/<method>/<student>__<teacher>, or its folder.")
    parser.add_argument("--kind", choices=KINDS, required=True, help="What happened; CONTRIBUTING.md explains them.")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="What is wrong, in words.")
    parser.add_argument("--by", metavar="NAME", required=True, help="Who says so.")
    parser.add_argument("--evidence", metavar="URL", help="https address of an issue, log or reproduction.")
    parser.add_argument("--answers", metavar="ID", help="The challenge that this settles.")
    parser.add_argument("--badge", metavar="BADGE", help="Highest badge that is left; of a demotion.")
    parser.add_argument("--leaderboards", metavar="DIR", default=LEADERBOARDS, help="The folder in a checkout.")
    parser.add_argument(
        "--base-ref",
        metavar="REF",
        help="Branch with the published entry, for the hash before; by default origin/main.",
    )
    options = parser.parse_args(list(arguments))
    named = ("kind", "reason", "by", "evidence", "answers", "badge")

    with bench_extra():
        from kd_bench.submission.correct import correct

        path, correction = correct(
            options.leaderboards,
            options.entry,
            base_ref=options.base_ref,
            **{name: value for name in named if (value := options[name]) is not None},
        )
    print(f"Written: {path}")
    print("Next:")
    print(f"  git switch -c {correction.id}")
    print(f"  git add {shlex.quote(options.leaderboards)}")
    print(f"  git commit -m '{correction.kind.capitalize()} of {correction.entry}'")
    print(f"  git push -u origin {correction.id}")
    print("and open a pull request.")
    return 0
