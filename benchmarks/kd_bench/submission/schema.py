"""JSON Schema of the files of the leaderboards: ``python -m kd_bench.submission.schema leaderboards/schema.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from kd_bench.corrections import Correction
from kd_bench.results import RunSet
from kd_bench.storage import write_atomic
from kd_bench.submission.teachers import TeacherRegistry
from kd_bench.verification.record import VerificationLog

SCHEMA = "schema.json"
"""Name of the file, in ``leaderboards``."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def leaderboard_schema() -> dict[str, Any]:
    """The schema of a run set; ``$defs`` has those of the other files: VerificationLog, Correction, TeacherRegistry."""
    models = [(model, "validation") for model in (RunSet, VerificationLog, Correction, TeacherRegistry)]
    _, schema = models_json_schema(models)  # type: ignore[arg-type]  # the mode is a literal, not any text
    return {
        "$schema": _DIALECT,
        "title": "lightning_kd leaderboards",
        "description": (
            "A run_set.json. The other files: #/$defs/VerificationLog (verification.json), #/$defs/Correction "
            "(corrections/<id>.json) and #/$defs/TeacherRegistry (teachers.json). Rules that a schema cannot express "
            "are checked by `lightning-kd leaderboard check`."
        ),
        "$ref": "#/$defs/RunSet",
        **schema,
    }


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(leaderboard_schema(), indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the schema.

    Args:
        arguments: the file.
    """
    if len(arguments) != 1:
        print(f"usage: python -m kd_bench.submission.schema leaderboards/{SCHEMA}", file=sys.stderr)
        return 2
    write_atomic(Path(arguments[0]), schema_text().encode())
    print(f"Schema: {arguments[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
