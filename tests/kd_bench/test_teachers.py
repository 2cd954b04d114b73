"""Teachers that are published, or fine-tuned from what is; those trained on the spot are tested with the items."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import Protocol, TeacherSource
from kd_bench.storage import file_sha256
from kd_bench.teachers import load_teacher

NAME = "mini_resnet14"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A teacher in the layout of the public CIFAR-100 files."""
    torch.manual_seed(3)
    network = create_model(NAME, num_classes=10, in_channels=1)
    path = tmp_path / "ckpt_epoch_240.pth"
    torch.save({"epoch": 240, "model": network.state_dict(), "accuracy": torch.tensor(12.0), "optimizer": {}}, path)
    return path


def _with(tiny: Protocol, **changes: Any) -> Protocol:
    return tiny.model_copy(update={"teachers": {NAME: TeacherSource(**changes)}, "teacher_recipe": None})


def test_a_published_teacher_is_loaded_measured_and_kept(tiny: Protocol, checkpoint: Path, tmp_path: Path) -> None:
    protocol = _with(tiny, source=str(checkpoint), sha256=file_sha256(checkpoint))
    first = load_teacher(protocol, NAME, tmp_path / "teachers")
    published = torch.load(checkpoint, weights_only=True)["model"]
    assert all(torch.equal(value, published[key]) for key, value in first.network.state_dict().items())
    assert 0.0 < first.info.accuracy < 0.5  # it has not learnt anything
    checkpoint.unlink()
    again = load_teacher(protocol, NAME, tmp_path / "teachers")
    assert again.info == first.info


def test_another_accuracy_than_its_authors_report_is_remarked_on(
    tiny: Protocol, checkpoint: Path, tmp_path: Path
) -> None:
    protocol = _with(tiny, source=str(checkpoint), accuracy=0.7561)
    with pytest.warns(UserWarning, match=r"has a test accuracy of .* here, its authors report 75\.61 %"):
        found = load_teacher(protocol, NAME, tmp_path / "one")
    quiet = _with(tiny, source=str(checkpoint), accuracy=found.info.accuracy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_teacher(quiet, NAME, tmp_path / "other")


def test_a_teacher_of_another_class_count_is_refused(tiny: Protocol, tmp_path: Path) -> None:
    path = tmp_path / "hundred.pth"
    torch.save(create_model(NAME, num_classes=100, in_channels=1).state_dict(), path)
    with pytest.raises(UserError, match=r"100 classes.*10|10 classes.*100"):
        load_teacher(_with(tiny, source=str(path)), NAME, tmp_path / "teachers")
    assert not list((tmp_path / "teachers").rglob("*.safetensors"))


def test_a_teacher_that_is_another_file_is_refused(tiny: Protocol, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wrong checksum"):
        load_teacher(_with(tiny, source=str(checkpoint), sha256="0" * 64), NAME, tmp_path / "teachers")


def test_fine_tuning_starts_at_the_published_weights(tiny: Protocol, checkpoint: Path, tmp_path: Path) -> None:
    recipe = tiny.teacher_recipe
    assert recipe is not None
    still = recipe.model_copy(
        update={"epochs": 1, "optimizer": recipe.optimizer.model_copy(update={"lr": 1e-12, "weight_decay": 0.0})}
    )
    protocol = _with(tiny, source=str(checkpoint), finetune=True).model_copy(update={"teacher_recipe": still})
    tuned = load_teacher(protocol, NAME, tmp_path / "teachers").network.state_dict()
    published = torch.load(checkpoint, weights_only=True)["model"]
    assert torch.allclose(tuned["fc.weight"], published["fc.weight"])
    assert not torch.equal(tuned["stem.1.running_mean"], published["stem.1.running_mean"])
