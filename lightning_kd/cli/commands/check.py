"""Check the distillation method in a Python file.

Runs the contract tests that every method of the library passes, then a short training on handwritten digits. The file
is only imported, from where it lies. Exit code 0: everything passed; 1: something failed; 2: nothing could be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Check every method in the file and print a report of each."""
    parser = command_parser(__name__)
    parser.add_argument("file", metavar="FILE[:CLASS]", help="my_method.py, or my_method.py:MyMethod for one class.")
    parser.add_argument("--init", metavar="JSON", help="""Constructor arguments, such as '{"temperature": 4}'.""")
    parser.add_argument(
        "--inputs",
        type=Literal["images", "tokens", "scenes"],
        default="images",
        help="What the tiny networks of the contract tests see; tokens for language models, scenes for object "
        "detectors (then no digits).",
    )
    parser.add_argument("--skip_digits", action="store_true", help="Only the contract tests, no training on digits.")
    options = parser.parse_args(list(arguments))

    from lightning_kd.cli.check_load import find_candidates
    from lightning_kd.cli.check_run import check_candidate

    candidates = find_candidates(options.file, options.init)
    digits = options.inputs == "images" and not options.skip_digits
    passed = [check_candidate(candidate, options.inputs, digits=digits) for candidate in candidates]
    return 0 if all(passed) else 1
