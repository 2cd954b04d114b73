from __future__ import annotations

import pytest
from kd_bench.statistics import gap_closed


def test_gap_closed() -> None:
    assert gap_closed(0.95, student=0.90, teacher=1.0) == pytest.approx(0.5)
    assert gap_closed(0.85, student=0.90, teacher=1.0) == pytest.approx(-0.5)
    assert gap_closed(0.95, student=0.90, teacher=0.90) is None
    assert gap_closed(0.95, student=0.90, teacher=0.80) is None
