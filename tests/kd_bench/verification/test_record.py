"""Records of verifications: what may be recorded, and that the log only grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kd_bench.errors import UserError
from kd_bench.verification.record import (
    VERIFICATION_FILE,
    SeedFinding,
    VerificationRecord,
    append_verification,
    read_verifications,
)
from pydantic import ValidationError
from synthetic_results import ENVIRONMENT


def seeds(*differences: float) -> tuple[SeedFinding, ...]:
    return tuple(
        SeedFinding(seed=seed, claimed=0.9, found=0.9 + difference) for seed, difference in enumerate(differences)
    )


def record(**changes: Any) -> VerificationRecord:
    fields = {
        "level": "predictions checked",
        "date": "2026-03-04",
        "by": "Somebody",
        "run_set_sha256": "0" * 64,
        "seeds": seeds(0.0),
        "tolerance": 0.0,
        "environment": ENVIRONMENT,
        "package_version": "0.1.0",
    }
    return VerificationRecord(**fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tolerance": 1e-6, "seeds": seeds(1e-7)},
        {"level": "checkpoint re-evaluated", "tolerance": 0.001, "seeds": seeds(-0.001)},
        {"level": "retrained", "tolerance": 0.05, "mean_tolerance": 0.02, "seeds": seeds(0.03, -0.04)},
        {"level": "retrained", "tolerance": 0.05, "seeds": seeds(0.02)},
        {"remarks": ("the data was not here",)},
    ],
)
def test_what_may_be_recorded(changes: dict[str, Any], tmp_path: Path) -> None:
    first, second = record(), record(**changes)
    append_verification(tmp_path, first)
    append_verification(tmp_path, second)
    assert read_verifications(tmp_path) == (first, second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": seeds(1e-6)}, "by more than the tolerance 0.0"),
        ({"tolerance": 0.001}, "accepts differences up to 1e-06, got a tolerance of 0.001"),
        ({"level": "checkpoint re-evaluated", "tolerance": 0.002}, "accepts differences up to 0.001"),
        ({"level": "retrained", "tolerance": 0.06}, "tolerance"),
        ({"level": "retrained", "tolerance": 0.05, "mean_tolerance": 0.03}, "mean_tolerance"),
        ({"mean_tolerance": 0.0}, "only a retraining is judged by the mean"),
        (
            {"level": "retrained", "tolerance": 0.05, "mean_tolerance": 0.005, "seeds": seeds(0.02, 0.0)},
            "the mean over the seeds differs by 0.01",
        ),
        ({"level": "retrained", "tolerance": 0.05, "seeds": seeds(0.03, 0.03)}, "at most 0.02 is accepted"),
        ({"seeds": seeds(0.0)[:1] * 2}, "distinct and ascending"),
        ({"seeds": ()}, "seeds"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_what_may_not_be_recorded(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record(**changes)


def test_a_corrupt_log_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / VERIFICATION_FILE
    path.write_text("{}}")
    with pytest.raises(UserError, match=VERIFICATION_FILE):
        append_verification(tmp_path, record())
    assert path.read_text() == "{}}"
