"""The comparison with other loops compares like with like: all sides train the same student."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(SPEED))
    yield
    for name in [name for name in sys.modules if name == "peers" or name.startswith("peers.")]:
        del sys.modules[name]


def trained(side, method, tmp_path, **options):
    from peers import by_hand, doors, pair

    path = tmp_path / "images.npy"
    pair.write_images(path, 12)
    student, teacher = pair.create_pair("cifar_resnet8", "cifar_resnet14")
    steps = []
    torch.manual_seed(1)
    batches = pair.loader(pair.Images(path), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train = by_hand.train if side == "by hand" else doors.train
        train(student, teacher, pair.METHODS[method], batches, lambda: steps.append(1), **options)
    assert len(steps) == 3
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("method", ["KD", "KD+AT", "RKD", "DIST"])
def test_the_loop_by_hand_is_the_same_training(method, door, tmp_path):
    expected = trained("by hand", method, tmp_path)
    torch.testing.assert_close(trained("door", method, tmp_path, door=door), expected, rtol=0, atol=1e-6)


def test_the_hint_trains_on_every_side(tmp_path):
    assert trained("by hand", "FitNet", tmp_path).isfinite().all()
    assert trained("door", "FitNet", tmp_path, door=2).isfinite().all()


def test_torchdistill_trains_the_same_student(tmp_path):
    pytest.importorskip("torchdistill", reason="torchdistill is not installed; the comparison leaves it out")
    from peers import pair, with_torchdistill

    path = tmp_path / "images.npy"
    pair.write_images(path, 12)
    for method, terms in pair.METHODS.items():
        student, teacher = pair.create_pair("cifar_resnet8", "cifar_resnet14")
        before = torch.cat([parameter.detach().flatten().clone() for parameter in student.parameters()])
        steps = []
        with_torchdistill.train(student, teacher, terms, pair.Images(path), 4, lambda steps=steps: steps.append(1))
        after = torch.cat([parameter.detach().flatten() for parameter in student.parameters()])
        assert len(steps) == 3, method
        assert after.isfinite().all()
        assert not torch.equal(before, after)
