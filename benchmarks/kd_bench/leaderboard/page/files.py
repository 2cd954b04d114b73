"""The files beside a run set that the page draws from."""

from __future__ import annotations

from pathlib import Path

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.results import Run
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import file_sha256


def prediction_files(entry: Entry) -> list[tuple[Run, Path]]:
    """Every run with the file of its predictions; none where there are no such files at all.

    Args:
        entry: whose files they are.

    Raises:
        UserError: if some of the files are missing.
    """
    if entry.folder is None:
        return []
    files = [(run, entry.folder / run.predictions_file) for run in entry.run_set.runs]
    missing = [path for _, path in files if not path.is_file()]
    if len(missing) == len(files):
        return []
    if missing:
        raise UserError(
            f"{missing[0]} is missing, though other predictions of {entry.path} are there. Restore it, or run the "
            "benchmark again."
        )
    return files


def check_written_by_run(path: Path, run: Run) -> None:
    """Refuse a file that is not the one that a run wrote.

    Args:
        path: of the run's predictions.
        run: as its run set describes it.

    Raises:
        UserError: if the hashes differ.
    """
    if file_sha256(path) != run.predictions_sha256:
        raise UserError(
            f"{path} is not the file that the run wrote: its sha256 differs from the one in "
            f"{path.parent / RUN_SET_FILE}. Restore both files or run the benchmark again."
        )
