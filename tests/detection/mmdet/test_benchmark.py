"""Detectors of mmdet in the benchmark: their names, and how students and teachers come by their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")

from kd_bench.detection.coco import COCO
from kd_bench.detection.inherit import is_backbone
from kd_bench.detection.miniature_coco import write_coco
from kd_bench.detection.models import create_network
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, Start, TeacherSource, load_protocol
from kd_bench.storage import file_sha256
from kd_bench.tasks.registry import task_named
from kd_bench.teachers import load_teacher
from torch import nn

R18, R50 = "mmdet:gfl_r18_fpn_1x_coco", "mmdet:gfl_r50_fpn_1x_coco"
TASK = task_named("detection")


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {**write_coco(tmp_path_factory.mktemp("coco"), train=8, val=4), "min_size": [48, 64], "max_size": 96}


@pytest.fixture(scope="module")
def data(parameters: dict[str, Any]) -> COCO:
    return COCO(4, 0, {}, **parameters)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, data: COCO) -> Path:
    """A teacher's weights as mmdet's zoo has them."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("zoo") / "gfl_r50.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": TASK.create(R50, data).model.state_dict()}, path)
    return path


@pytest.fixture
def protocol(parameters: dict[str, Any], published: Path, data: COCO) -> Protocol:
    full = load_protocol("coco-mmdet-v1")
    source = TeacherSource(source=str(published), sha256=file_sha256(published)[:8], accuracy=0.402)
    spec = full.data.model_copy(update={"parameters": parameters, "checksum": data.checksum()})
    return full.model_copy(update={"data": spec, "teachers": {R50: source}})


def test_all_networks_of_the_protocol_can_be_made(data: COCO) -> None:
    protocol = load_protocol("coco-mmdet-v1")
    for name in sorted({name for pair in protocol.pairs.values() for name in (pair.student, pair.teacher)}):
        network = TASK.create(name, data)
        assert network.num_classes == 80
        assert network.scales == ((96, 48), (96, 64))


def test_unknown_configs_are_named_in_full() -> None:
    with pytest.raises(UserError, match=r"mmdet:retinanet_r5.*mmdet has no config"):
        create_network("mmdet:retinanet_r5", 81)


def test_a_published_teacher_is_kept_and_built_again(protocol: Protocol, published: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="its authors report 40.20 %"):
        first = load_teacher(protocol, R50, tmp_path)
    again = load_teacher(protocol, R50, tmp_path)
    weights = torch.load(published, weights_only=True)["state_dict"]
    for teacher in (first, again):
        found = teacher.network.model.state_dict()
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert again.info == first.info


def test_another_file_is_refused(protocol: Protocol, data: COCO, tmp_path: Path) -> None:
    source = protocol.teachers[R50].model_copy(update={"sha256": "0" * 8})
    with pytest.raises(UserError, match="wrong checksum"):
        TASK.obtain(R50, source, data)
    other = tmp_path / "other.pth"
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, other)
    with pytest.raises(UserError, match=r"mmdet:gfl_r50_fpn_1x_coco: .*does not hold the weights"):
        TASK.obtain(R50, TeacherSource(source=str(other)), data)


def test_a_student_inherits_neck_and_head(data: COCO) -> None:
    torch.manual_seed(0)
    teacher = TASK.create(R50, data)
    torch.manual_seed(1)
    student = TASK.start(R18, Start(inherits=True), teacher, data)
    torch.manual_seed(1)
    alone = TASK.create(R18, data)
    own, given, before = student.state_dict(), teacher.state_dict(), alone.state_dict()
    copied = {name for name, value in own.items() if name in given and torch.equal(value, given[name])}
    assert {name for name in own if name.startswith("model.bbox_head.")} <= copied
    assert {name for name in own if name.startswith("model.neck.fpn_convs.")} <= copied
    assert all(torch.equal(value, before[name]) for name, value in own.items() if is_backbone(name))


def test_weights_that_cannot_be_downloaded(data: COCO, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    with pytest.raises(UserError, match=r"students.mmdet:gfl_r18.*cannot be downloaded"):
        TASK.start(R18, Start(options={"pretrained": True}), nn.Identity(), data)
