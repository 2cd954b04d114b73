"""Which results of a benchmark are submitted: what is new, or what was asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from kd_bench.entries import RESULTS, entry_path
from kd_bench.errors import UserError
from kd_bench.names import choose
from kd_bench.results import RunSet
from kd_bench.run_set_files import RUN_SET_FILE, load_run_sets, read_run_set
from kd_bench.submission.problem import shown
from kd_bench.variants import MINIATURE, QUICK, TUNING

VARIANTS = {
    QUICK: "it was shortened",
    TUNING: "it was scored on a part of the training set",
    MINIATURE: "it saw a handful of samples",
}


@dataclass(frozen=True)
class Description:
    """What a submitter adds to what was measured.

    Attributes:
        contact: whom to ask.
        licence: SPDX identifier of the method's file.
        extra_data: whether anything but the protocol's training split was used.
    """

    contact: str | None = None
    licence: str | None = None
    extra_data: bool = False


@dataclass
class Selected:
    """What is submitted, and what is not.

    Attributes:
        new: run sets that the leaderboards do not have, with their folders.
        changed: those that they have with other numbers.
        left_out: path → why it is not submitted.
    """

    new: list[tuple[RunSet, Path]] = field(default_factory=list)
    changed: list[tuple[RunSet, Path]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def select(
    run_dir: Path, leaderboards: Path, methods: Collection[str] | None, about: Description, *, correction: bool
) -> Selected:
    """Choose among the results of a benchmark.

    Args:
        run_dir: its output directory.
        leaderboards: those that they are for.
        methods: names of the rows to submit; by default those that the leaderboards lack.
        about: what the submitter adds.
        correction: whether entries may be replaced.

    Raises:
        UserError: if there is nothing to submit, a name is unknown, or an entry would be replaced without being
            corrected.
    """
    results = run_dir / RESULTS if (run_dir / RESULTS).is_dir() else run_dir
    run_sets = load_run_sets(results)
    names = sorted({run_set.method.name for run_set in run_sets})
    wanted = None if methods is None else set(choose("method", methods, names))
    found = Selected()
    for run_set in run_sets:
        path = entry_path(run_set)
        if (why := _variant(run_set.protocol.id)) is not None:
            found.left_out[path] = f"{why}, so it is no result of the protocol"
        elif wanted is not None and run_set.method.name not in wanted:
            found.left_out[path] = "not asked for"
        else:
            old = _published(leaderboards / RESULTS / path)
            described = _described(run_set, about, old)
            folder = _folder_of(results, run_set)
            if old is None:
                found.new.append((described, folder))
            elif described == old or (_described(run_set, Description(), old) == old and not correction):
                found.left_out[path] = "the leaderboards have it already, number by number"
            elif wanted is not None:
                found.changed.append((described, folder))
            else:
                found.left_out[path] = (
                    "the leaderboards have it; yours is for comparison (name it in --methods to submit it)"
                )
    if found.changed and not correction:
        raise UserError(
            f"the leaderboards have {entry_path(found.changed[0][0])} with other numbers. Published results stay; if "
            "yours are to replace them because those are wrong, add --correction --reason 'what was wrong'."
        )
    if not found.new and not found.changed:
        reasons = "; ".join(f"{path}: {why}" for path, why in list(found.left_out.items())[:5])
        raise UserError(f"there is nothing to submit in {shown(run_dir)}: {reasons}.")
    return found


def _published(folder: Path) -> RunSet | None:
    return read_run_set(folder / RUN_SET_FILE) if (folder / RUN_SET_FILE).is_file() else None


def _described(run_set: RunSet, about: Description, old: RunSet | None) -> RunSet:
    """The run set with what the submitter says of it; what is not said stays as it is published."""
    contact = about.contact or run_set.contact or (old.contact if old else None)
    licence = about.licence or run_set.method.licence or (old.method.licence if old else None)
    changed = run_set.model_copy(
        update={
            "contact": contact,
            "extra_data": about.extra_data or run_set.extra_data or (old is not None and old.extra_data),
            "method": run_set.method.model_copy(update={"licence": licence}),
        }
    )
    try:
        return RunSet.model_validate_json(changed.model_dump_json())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = problem["loc"][-1]
        raise UserError(
            f"the {name} {shown(problem['input'])!r} is not accepted: {problem['msg']}. Give a short text; for the "
            "licence an SPDX identifier, such as Apache-2.0."
        ) from error


def _folder_of(results: Path, run_set: RunSet) -> Path:
    tail = tuple(entry_path(run_set).split("/"))
    return next(path.parent for path in results.rglob(RUN_SET_FILE) if path.parent.absolute().parts[-3:] == tail)


def _variant(protocol_id: str) -> str | None:
    return next((why for ending, why in VARIANTS.items() if protocol_id.endswith(ending)), None)
