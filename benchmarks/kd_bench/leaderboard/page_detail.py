"""What unfolds under a row: settings, single seeds, environment, and the command that reproduces it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import quote

from kd_bench.errors import UserError
from kd_bench.leaderboard.page_format import MISSING, number, percent, seed_list, setting
from kd_bench.protocol import load_protocol
from kd_bench.results import CitationInfo, DetectionScores, FusionInfo, MethodInfo, Run, RunSet

_EFFORT = ("seconds", "memory (MiB)", "device")
_PRECISIONS = {
    "ap": "AP",
    "ap_50": "AP50",
    "ap_75": "AP75",
    "ap_small": "AP S",
    "ap_medium": "AP M",
    "ap_large": "AP L",
    "ar_1": "AR1",
    "ar_10": "AR10",
    "ar_100": "AR100",
}


@dataclass(frozen=True)
class Detail:
    """The unfolded part of a row; every value is text, to be escaped where it is shown.

    Attributes:
        citation: the paper, or an empty string.
        arxiv_url: its address, or an empty string.
        parameters: name and value of every setting.
        seed_columns: headings of the single seeds.
        seed_lines: one line a seed.
        environment: name and value of what it ran on.
        command: reproduces the row.
    """

    citation: str
    arxiv_url: str
    parameters: list[tuple[str, str]]
    seed_columns: list[str]
    seed_lines: list[list[str]]
    environment: list[tuple[str, str]]
    command: str


def detail(run_set: RunSet) -> Detail:
    """Gather the detail of one run set."""
    citation = run_set.method.citation
    return Detail(
        citation=_cite(citation) if citation else "",
        arxiv_url=f"https://arxiv.org/abs/{quote(citation.arxiv)}" if citation and citation.arxiv else "",
        parameters=_parameters(run_set.method, run_set.runs[0]),
        seed_columns=[*(name for name, _ in _scores(run_set.runs[0])), "last validation", *_EFFORT],
        seed_lines=[_seed_line(run) for run in run_set.runs],
        environment=_environment(run_set),
        command=_command(run_set),
    )


def _cite(citation: CitationInfo) -> str:
    return f"{citation.authors}, “{citation.title}”, {citation.venue} {citation.year}"


def _parameters(method: MethodInfo, run: Run) -> list[tuple[str, str]]:
    return [
        ("class", method.class_path or "none (no distillation)"),
        ("teacher", method.teacher),
        *([("task_weight", setting(method.task_weight))] if method.fusion is None else _fusion(method.fusion)),
        *((name, setting(value)) for name, value in sorted(method.parameters.items())),
        *([("compared layers", ", ".join(_tap(*pair) for pair in run.taps))] if run.taps else []),
        ("extra trained parameters", number(run.extra_parameters, 0)),
    ]


def _tap(student: str, teacher: str) -> str:
    return student if student == teacher else f"{student} ← {teacher}"


def _fusion(fusion: FusionInfo) -> list[tuple[str, str]]:
    return [
        ("fusion", fusion.class_path),
        *((f"fusion.{name}", setting(value)) for name, value in sorted(fusion.parameters.items())),
        ("fusion.hold_out", setting(fusion.hold_out)),
    ]


def _seed_line(run: Run) -> list[str]:
    return [*(text for _, text in _scores(run)), _last_validation(run), *_effort(run)]


def _scores(run: Run) -> list[tuple[str, str]]:
    """Heading and text of seed and scores."""
    seed, last, best = ("seed", str(run.seed)), run.last, run.best
    if isinstance(last, DetectionScores):
        return [seed, *((title, _or_missing(getattr(last, name))) for name, title in _PRECISIONS.items())]
    assert best is not None
    return [
        seed,
        ("accuracy", percent(last.accuracy)),
        (
            "best epoch (not ranked)",
            f"{percent(best.accuracy)} (epoch {best.epoch + 1} of {len(run.curve.train_loss)})",
        ),
        ("NLL", number(last.nll, 4)),
        ("ECE", percent(last.ece)),
        ("agreement", percent(last.agreement)),
    ]


def _or_missing(value: float | None) -> str:
    return MISSING if value is None else percent(value)


def _last_validation(run: Run) -> str:
    return "" if run.curve.validation is None else percent(run.curve.validation[-1])


def _effort(run: Run) -> list[str]:
    memory = MISSING if run.peak_memory_mb is None else number(run.peak_memory_mb, 0)
    return [number(run.seconds, 1), memory, run.device]


def _environment(run_set: RunSet) -> list[tuple[str, str]]:
    environment, method = run_set.environment, run_set.method
    revision = (
        method.git_revision[:12] + (" (modified)" if method.git_dirty else "") if method.git_revision else MISSING
    )
    return [
        ("Python", environment.python),
        ("torch", environment.torch),
        ("lightning", environment.lightning),
        ("lightning_kd", environment.lightning_kd),
        ("revision", revision),
        ("platform", environment.platform),
        ("CPU", environment.cpu),
        ("threads per run", str(environment.threads)),
        ("teacher weights", f"sha256 {run_set.teacher.weights_sha256[:12]}"),
        ("extra data", "yes" if run_set.extra_data else "no"),
    ]


def _command(run_set: RunSet) -> str:
    words = ["lightning-kd", "bench", "run", run_set.protocol.id, "--methods", run_set.method.name]
    words += [*_pair_option(run_set), "--seeds", seed_list(run_set.seeds)]
    return shlex.join(words)


def _pair_option(run_set: RunSet) -> list[str]:
    """The option that selects the pair; nothing for a protocol that is not installed here."""
    try:
        pairs = load_protocol(run_set.protocol.id).pairs
    except UserError:
        return []
    models = (run_set.student.name, run_set.teacher.name)
    return next((["--pairs", name] for name, pair in pairs.items() if (pair.student, pair.teacher) == models), [])
