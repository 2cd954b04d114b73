"""How `lightning-kd check` prints its findings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_kd.cli.check_advice import advice_for
from lightning_kd.cli.check_digits import DigitsOutcome
from lightning_kd.testing import CheckResult

OK = "[green]ok[/green]"
FAILED = "[bold red]FAILED[/bold red]"


def contract_table(results: Sequence[CheckResult]) -> Table:
    """One row a check: name, question, outcome.

    Args:
        results: the checks' outcomes, in order.
    """
    table = Table(title="contract", title_justify="left")
    table.add_column("check", no_wrap=True, style="bold")
    table.add_column("what must hold")
    table.add_column("result", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for result in results:
        question = escape(result.question.replace("``", ""))
        table.add_row(result.name, question, OK if result.passed else FAILED, f"{result.seconds:.1f}")
    return table


def problem_text(problem: str, checks: Sequence[str], where: str) -> str:
    """A failure in words, with markup: what is wrong, where, what to do.

    Args:
        problem: the diagnosis.
        checks: names of the checks that fail because of it.
        where: the author's line, or ``""``.
    """
    lines = [f"[bold red]✗ {', '.join(checks)}[/bold red]", f"  problem: {escape(problem)}"]
    if where:
        lines.append(f"  where:   {escape(where)}")
    advice = advice_for(checks[0], problem)
    if advice:
        lines.append(f"  to do:   {escape(advice)}")
    return "\n".join(lines)


def print_digits(out: Console, outcome: DigitsOutcome) -> None:
    """Print the scores of teacher, plain student and student with the method, and what went wrong.

    Args:
        out: where to.
        outcome: of the training.
    """
    if outcome.scores:
        out.print(_digits_table(outcome))
    if outcome.trained:
        out.print(f"One seed, a few epochs: shows that the method trains, not how good it is.{_hint(outcome)}")
    if outcome.failed:
        out.print(problem_text(outcome.problem, ["digits"], outcome.where), soft_wrap=True, highlight=False)
    elif outcome.problem:
        out.print(f"not trained on digits: {escape(outcome.problem)}", soft_wrap=True, highlight=False)


def _digits_table(outcome: DigitsOutcome) -> Table:
    table = Table(title="handwritten digits (digits-v1, shortened)", title_justify="left")
    table.add_column("network", no_wrap=True, style="bold")
    for name in ("accuracy", "NLL", "ECE", "agreement"):
        table.add_column(name, justify="right", no_wrap=True)
    for network, score in outcome.scores.items():
        nll = "" if score.nll is None else f"{score.nll:.3f}"
        table.add_row(network, _percent(score.accuracy), nll, _percent(score.ece), _percent(score.agreement))
    return table


def _hint(outcome: DigitsOutcome) -> str:
    return " Here it does worse than the plain student: look at its weight." if outcome.hurts else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
