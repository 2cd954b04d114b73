from __future__ import annotations

from typing import get_args

import pytest
import torch

from lightning_kd.callbacks.fusion.features import GeometryFeatures, geometry_features, geometry_width

S = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
T = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
G = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
M = torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64)

MS, GS, TS = [0.16, 0.09, 0.01], [0.25, 0.49, 0.04], [0.04, 0.01, 0.01]
TG, MG = [0.49, 0.64, 0.01], [0.01, 0.16, 0.09]
MS_GS, TS_GS = [0.2, 0.21, -0.02], [-0.1, -0.07, 0.02]
VERTICES = [0.5, 0.3, 0.2, 0.7, 0.2, 0.1, 0.0, 1.0, 0.0, 0.1, 0.6, 0.3]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("vertices", VERTICES),
        ("edges", MS + GS + TS),
        ("angles", MS_GS + TS_GS),
        ("vertices+edges", VERTICES + MS + GS + TS + TG + MG),
        ("vertices+angles", VERTICES + MS_GS + TS_GS),
        ("edges+angles", MS + GS + TS + MS_GS + TS_GS),
        ("vertices+edges+angles", VERTICES + MS + GS + TS + MS_GS + TS_GS),
    ],
)
def test_values(features: GeometryFeatures, expected: list[float]) -> None:
    assert geometry_features(S, T, G, M, features)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("features", "parts"),
    list(zip(get_args(GeometryFeatures), (9, 4, 3, 2, 6, 5, 9), strict=True)),
)
def test_widths(features: GeometryFeatures, parts: int) -> None:
    points = [torch.rand(4, 7).softmax(-1) for _ in range(4)]
    for compact, width in ((False, 7 * parts), (True, parts)):
        assert geometry_width(features, 7, compact=compact) == width
        assert geometry_features(*points, features, compact=compact).shape == (4, width)


def test_compact_values() -> None:
    found = geometry_features(S, T, G, M, "vertices+edges+angles", compact=True)[0].tolist()
    norms = [sum(v) ** 0.5 for v in ([0.25, 0.09, 0.04], [0.49, 0.04, 0.01], [1.0], [0.01, 0.36, 0.09], MS, GS, TS)]
    cosines = [
        sum(MS_GS) / (sum(MS) * sum(GS)) ** 0.5,
        sum(TS_GS) / (sum(TS) * sum(GS)) ** 0.5,
    ]
    assert found == pytest.approx(norms + cosines)


def test_a_perfect_student_is_finite() -> None:
    assert geometry_features(G, G, G, G, "vertices+edges+angles", compact=True).isfinite().all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="features must be one of"):
        geometry_features(S, T, G, M, "sides")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        geometry_features(S, T, G, M[:, :2])
