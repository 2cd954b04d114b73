"""Where run sets lie, and reading them: ``<results>/<protocol>/<method>/<student>__<teacher>/run_set.json``."""

from __future__ import annotations

from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.results import RunSet, pair_slug, slug
from kd_bench.storage import read_model

RUN_SET_FILE = "run_set.json"

METHOD_FILE = "method.py"
"""The file of a method that does not come with lightning_kd, beside its run set."""


def run_set_path(results: Path, protocol: str, method: str, student: str, teacher: str) -> Path:
    """Where a run set lives: ``<results>/<protocol>/<method>/<student>__<teacher>/run_set.json``."""
    return results / slug(protocol) / slug(method) / pair_slug(student, teacher) / RUN_SET_FILE


def load_run_sets(directory: Path | str) -> list[RunSet]:
    """Read and check every run set below ``directory``.

    Args:
        directory: a benchmark's output directory, its ``results`` folder, or any folder below.

    Returns:
        The run sets, ordered by path. Their predictions lie beside the files; see :func:`run_set_path`.

    Raises:
        UserError: if there is none, if a file is corrupt, lies in a folder that contradicts its content, or was made
            under another recipe than its neighbours.
    """
    return [run_set for _, run_set in find_run_sets(directory)]


def find_run_sets(directory: Path | str) -> list[tuple[Path, RunSet]]:
    """The same with the file of each.

    Args:
        directory: see :func:`load_run_sets`.

    Raises:
        UserError: see :func:`load_run_sets`.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UserError(f"no such directory: {root}. Give the output directory of `lightning-kd bench run`.")
    paths = sorted(root.rglob(RUN_SET_FILE))
    if not paths:
        raise UserError(
            f"no results below {root}: expected <protocol>/<method>/<student>__<teacher>/{RUN_SET_FILE}. "
            "Run `lightning-kd bench run` first, or give its output directory."
        )
    run_sets = []
    hashes: dict[str, tuple[str, Path]] = {}
    for path in paths:
        run_set = read_run_set(path)
        known, first = hashes.setdefault(run_set.protocol.id, (run_set.protocol.hash, path))
        if run_set.protocol.hash != known:
            raise UserError(
                f"{path} was made under another recipe of {run_set.protocol.id!r} (hash {run_set.protocol.hash[:12]}) "
                f"than {first} (hash {known[:12]}); they cannot be compared. Move one of them to another directory."
            )
        run_sets.append((path, run_set))
    return run_sets


def read_run_set(path: Path) -> RunSet:
    """Read one run set and check that it lies where its content says.

    Raises:
        UserError: if the file is corrupt or lies in a folder that contradicts its content.
    """
    run_set = read_model(path, RunSet)
    expected = (slug(run_set.protocol.id), slug(run_set.method.name), run_set.pair)
    found = path.absolute().parts[-4:-1]
    if found != expected:
        raise UserError(
            f"{path} lies in the wrong folder: its content belongs to {'/'.join(expected)}, found in "
            f"{'/'.join(found)}. Result files are written by the runner and must not be renamed."
        )
    return run_set
