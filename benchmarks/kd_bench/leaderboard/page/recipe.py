"""How an entry was made, in pairs of name and text, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from functools import cache
from urllib.parse import quote

from kd_bench.entries import RESULTS, Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.family import CUSTOM, family_of
from kd_bench.leaderboard.page.format import MISSING, number, seed_list, setting
from kd_bench.protocol import load_protocol
from kd_bench.results import CitationInfo, FusionInfo, RunSet
from kd_bench.run_set_files import METHOD_FILE

Facts = list[tuple[str, str]]


def settings_of(run_set: RunSet) -> Facts:
    """The method with all its settings, and what was chosen or found in the runs."""
    method, run = run_set.method, run_set.runs[0]
    return [
        ("class", method.class_path or "none (no distillation)"),
        ("teacher", method.teacher),
        *([("task_weight", setting(method.task_weight))] if method.fusion is None else _fusion(method.fusion)),
        *([("warm-up", _warmup(run_set))] if method.warmup or method.warmup_steps else []),
        *((name, setting(value)) for name, value in sorted(method.parameters.items())),
        *((f"chosen, seed {one.seed}", _chosen(one.chosen)) for one in run_set.runs if one.chosen),
        *([("compared layers", ", ".join(_tap(*pair) for pair in run.taps))] if run.taps else []),
        ("extra trained parameters", number(run.extra_parameters, 0)),
    ]


def environment_of(run_set: RunSet) -> Facts:
    """What it ran on, and with which teacher."""
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


def citation_of(run_set: RunSet) -> tuple[str, str]:
    """The paper, and its address; empty where there is none."""
    citation = run_set.method.citation
    if citation is None:
        return "", ""
    return _cite(citation), f"https://arxiv.org/abs/{quote(citation.arxiv)}" if citation.arxiv else ""


def command_of(entry: Entry) -> str:
    """The command that runs the entry again, from the root of a checkout."""
    run_set, method = entry.run_set, entry.run_set.method
    words = ["lightning-kd", "bench", "run", run_set.protocol.id, "--methods", _method(entry)]
    if words[-1] != method.name:
        if method.parameters:
            words += ["--method-parameters", json.dumps(method.parameters, ensure_ascii=False, sort_keys=True)]
        if method.task_weight != 1.0:
            words += ["--task-weight", f"{method.task_weight:g}"]
    pairs = _pairs(run_set.protocol.id)
    name = pairs.get((run_set.student.name, run_set.teacher.name))
    words += [] if name is None else ["--pairs", name]
    return shlex.join([*words, "--seeds", seed_list(run_set.seeds)])


def _method(entry: Entry) -> str:
    """Name of the row; of a method that does not come with the package, its file and class."""
    method = entry.run_set.method
    module, _, name = (method.class_path or "").rpartition(".")
    if family_of(entry.run_set) != CUSTOM or not module or "." in module:
        return method.name
    kept = entry.folder is not None and (entry.folder / METHOD_FILE).is_file()
    return f"leaderboards/{RESULTS}/{entry.path}/{METHOD_FILE}:{name}" if kept else f"{module}.py:{name}"


@cache
def _pairs(protocol_id: str) -> dict[tuple[str, str], str]:
    """Student and teacher → name of the pair; nothing for a protocol that is not installed here."""
    try:
        pairs = load_protocol(protocol_id).pairs
    except UserError:
        return {}
    return {(pair.student, pair.teacher): name for name, pair in reversed(pairs.items())}


def _cite(citation: CitationInfo) -> str:
    return f"{citation.authors}, “{citation.title}”, {citation.venue} {citation.year}"


def _warmup(run_set: RunSet) -> str:
    method = run_set.method
    return f"{method.warmup} epochs" if method.warmup else f"{method.warmup_steps} steps"


def _chosen(chosen: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(chosen.items()))


def _tap(student: str, teacher: str) -> str:
    return student if student == teacher else f"{student} ← {teacher}"


def _fusion(fusion: FusionInfo) -> Facts:
    return [
        ("fusion", fusion.class_path),
        *((f"fusion.{name}", setting(value)) for name, value in sorted(fusion.parameters.items())),
        ("fusion.hold_out", setting(fusion.hold_out)),
    ]
