"""What to do after `lightning-kd leaderboard submit`, line by line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from kd_bench.corrections import CORRECTIONS
from kd_bench.entries import RESULTS, entry_path
from kd_bench.layout import WEIGHTS
from kd_bench.submission.submit import Submission

from lightning_kd.cli.places import LEADERBOARDS

MAX_LISTED = 5


def next_steps(done: Submission, run_dir: str, leaderboards: str) -> Iterator[str]:
    """The commands that lead to a pull request, and to a higher badge.

    Args:
        done: what was written.
        run_dir: output of the benchmark, as it was given.
        leaderboards: the folder in the clone, as it was given.
    """
    methods = sorted({run_set.method.name for run_set in done.entries})
    protocols = sorted({run_set.protocol.id for run_set in done.entries})
    title = f"{'Correction' if done.corrected else 'Results'} of {_and(methods)} on {_and(protocols)}"
    words = ["correct" if done.corrected else "submit", *methods, *protocols]
    branch = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower())[:60].strip("-")
    folders = sorted({str(Path(leaderboards, RESULTS, *entry_path(one).split("/")[:2])) for one in done.entries})
    if done.corrected:
        folders.append(str(Path(leaderboards, CORRECTIONS)))
    where = "" if leaderboards == LEADERBOARDS else f" --leaderboards {shlex.quote(leaderboards)}"
    entries = [f"{entry_path(run_set)}{where}" for run_set in done.entries]
    yield "Written:"
    yield from (f"  {path}" for path in done.written)
    yield "Next:"
    yield f"  git switch -c {branch}"
    yield from (f"  lightning-kd leaderboard verify {entry}" for entry in entries[:MAX_LISTED])
    if len(entries) > MAX_LISTED:
        yield "  (and so on, for each entry)"
    yield from (f"  git add {shlex.quote(folder)}" for folder in folders)
    yield f"  git commit -m {shlex.quote(title)}"
    yield f"  lightning-kd leaderboard check {shlex.quote(leaderboards)} --base-ref origin/main"
    yield f"  git push -u origin {branch}"
    yield "and open a pull request. CI repeats the check, and a comment compares your rows with the"
    yield "others. The page is built when the pull request is merged; do not add it."
    yield from _badges(done, run_dir)


def _badges(done: Submission, run_dir: str) -> Iterator[str]:
    kept = all(run.weights_sha256 is not None for run_set in done.entries for run in run_set.runs)
    yield "Badges:"
    yield "  predictions checked      what `verify` records above"
    if kept:
        yield f"  checkpoint re-evaluated  keep {Path(run_dir, WEIGHTS)}, which does not go into the pull"
        yield "                           request; say there where a maintainer finds it, for example a"
        yield "                           release or the Hugging Face Hub"
    else:
        yield "  checkpoint re-evaluated  needs the weights, which these runs did not keep; `bench run"
        yield "                           --keep-weights` does"
    yield "  retrained                a maintainer trains your method again"


def _and(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
