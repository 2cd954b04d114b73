"""What `lightning-kd leaderboard verify` shows: the verdict, a line a seed, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from kd_bench.submission.problem import shown
from kd_bench.verification.findings import Findings, SeedResult
from kd_bench.verification.tolerance import CHECKPOINT_AGREEMENT
from kd_bench.verification.verify import VerificationOutcome
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lightning_kd.cli.numbers import MISSING, percent

_MAX_MESSAGE = 1000
_LEVELS = {
    "predictions": "recomputed from the predictions",
    "checkpoint": "weights evaluated anew",
    "retrain": "trained again",
}


def verification_report(outcome: VerificationOutcome) -> Iterator[RenderableType]:
    """The parts to print.

    Args:
        outcome: of a verification.
    """
    yield Text(f"{outcome.entry.path}: {_LEVELS[outcome.level]}", style="bold")
    yield _seeds(outcome.findings)
    yield Text(_tolerance(outcome), style="dim")
    for problem in outcome.findings.problems:
        yield Text(f"Problem: {shown(problem, _MAX_MESSAGE)}", style="red")
    for obstacle in outcome.findings.obstacles:
        yield Text(f"Not measured: {shown(obstacle, _MAX_MESSAGE)}", style="red")
    for remark in outcome.findings.remarks:
        yield Text(f"Remark: {shown(remark, _MAX_MESSAGE)}", style="yellow")
    if outcome.ok:
        yield from _held(outcome)
    else:
        yield from _failed(outcome)


def _seeds(findings: Findings) -> Table:
    agreement = any(each.agreement is not None for each in findings.seeds)
    table = Table()
    for header in ("seed", "claimed %", "found %", "difference"):
        table.add_column(header, justify="right", no_wrap=True)
    if agreement:
        table.add_column("same class %", justify="right", no_wrap=True)
    for each in findings.seeds:
        same = [MISSING if each.agreement is None else percent(each.agreement)] if agreement else []
        beyond = each.difference is None or abs(each.difference) > findings.tolerance
        table.add_row(*_numbers(str(each.seed), each), *same, style="red" if beyond else None)
    if (mean := _mean(findings)) is not None and len(findings.seeds) > 1:
        table.add_section()
        table.add_row(*mean)
    return table


def _numbers(label: str, each: SeedResult) -> tuple[str, str, str, str]:
    found = MISSING if each.found is None else percent(each.found)
    return label, percent(each.claimed), found, MISSING if each.difference is None else _points(each.difference)


def _mean(findings: Findings) -> tuple[str, str, str, str] | None:
    difference, count = findings.mean_difference, len(findings.seeds)
    if difference is None:
        return None
    claimed = sum(each.claimed for each in findings.seeds) / count
    return "mean", percent(claimed), percent(claimed + difference), _points(difference)


def _points(difference: float) -> str:
    text = f"{100 * difference:+.2f}"
    # not a sign where nothing is to be seen
    return "0.00" if text in ("+0.00", "-0.00") else text


def _tolerance(outcome: VerificationOutcome) -> str:
    findings = outcome.findings
    if outcome.level == "predictions":
        return f"Every score has to be the same but for rounding ({findings.tolerance:g})."
    if outcome.level == "checkpoint":
        text = f"Accepted: {percent(findings.tolerance)} points"
        if any(each.agreement is not None for each in findings.seeds):
            text += f", and the same class on {100 * CHECKPOINT_AGREEMENT:g} % of the test set"
        return f"{text}."
    assert findings.mean_tolerance is not None
    return (
        f"Accepted: {percent(findings.mean_tolerance)} points of the mean, {percent(findings.tolerance)} of a seed: "
        "what chance explains, judged by how the claimed seeds differ (docs/verification.md)."
    )


def _held(outcome: VerificationOutcome) -> Iterator[Text]:
    before = outcome.entry.badge
    if outcome.written is None:
        yield Text(f"It holds. Nothing was recorded; its badge would be {outcome.badge!r}.", style="green")
        return
    change = f"stays {before!r}" if before == outcome.badge else f"rises from {before!r} to {outcome.badge!r}"
    yield Text(f"It holds: the badge {change}.", style="green")
    yield Text(f"Written: {outcome.written}")


def _failed(outcome: VerificationOutcome) -> Iterator[Text]:
    if not outcome.findings.problems:
        yield Text("It could not be verified. Nothing was recorded.", style="bold red")
        return
    yield Text("It does not hold. Nothing was recorded. If it is published, say so:", style="bold red")
    yield Text(
        f"  lightning-kd leaderboard correct {outcome.entry.path} \\\n"
        '    --kind challenge --reason "…" --by "…" --evidence https://…'
    )
    yield Text("A maintainer may then demote or withdraw it (--kind demotion, --kind withdrawal).")
