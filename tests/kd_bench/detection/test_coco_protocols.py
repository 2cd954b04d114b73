"""The protocols on COCO: their recipes, how their students and teachers come by their weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from kd_bench.data.base import open_data
from kd_bench.data.parts import fixed_split
from kd_bench.detection.categories import Categories
from kd_bench.detection.coco import COCO, COUNTS, listing_checksum
from kd_bench.detection.inherit import inherit, is_backbone
from kd_bench.detection.miniature_coco import coco_categories
from kd_bench.detection.models import create_network
from kd_bench.errors import UserError
from kd_bench.leaderboard.recipe_facts import recipe_facts
from kd_bench.models import download
from kd_bench.protocol import Protocol, Start, TeacherSource, list_protocols, load_protocol
from kd_bench.results import DetectionTeacherInfo, MethodInfo, ProtocolRef, RunSet, StudentInfo
from kd_bench.rows import create_method, describe_method
from kd_bench.runner import plan
from kd_bench.tasks.registry import task_named
from kd_bench.teachers import load_teacher
from kd_bench.training.optimizers import biases_of, build_optimizer, build_schedule
from kd_bench.variants import miniature
from kd_bench.worker import run_item
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights
from torchvision.ops import FrozenBatchNorm2d

ON_COCO = [protocol for protocol in list_protocols() if protocol.id.startswith("coco-")]
TASK = task_named("detection")


@pytest.fixture
def data(coco_parameters: dict[str, Any]) -> COCO:
    return COCO(4, 0, {}, **{**coco_parameters, "min_size": (64,), "max_size": 96, "numbering": "ids"})


def filled(network: nn.Module) -> dict[str, Tensor]:
    """A state dict of the network's shapes with values that no initialization has."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(value.shape, generator=generator).to(value.dtype)
        for name, value in network.state_dict().items()
    }


def test_the_checksum_can_be_known_without_the_data() -> None:
    listed = coco_categories()
    categories = Categories(tuple(each["id"] for each in listed), tuple(each["name"] for each in listed))
    expected = listing_checksum(categories, COUNTS, fixed_split(COUNTS["train"], 0.04, 0))
    assert {protocol.data.checksum for protocol in ON_COCO} == {expected}


def test_sets_with_other_categories_are_refused(coco_parameters: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "coco"
    shutil.copytree(coco_parameters["root"], root)
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "alien"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"has other categories than .*train2017"):
        COCO(4, 0, {}, **{**coco_parameters, "root": str(root)}).checksum()


@pytest.mark.parametrize("protocol", ON_COCO, ids=lambda protocol: protocol.id)
def test_every_row_can_be_made_and_described(protocol: Protocol) -> None:
    for name, row in protocol.methods.items():
        for pair in protocol.pairs:
            if row.runs_on(pair):
                create_method(row.on(pair))
                assert describe_method(name, row.on(pair)).warmup_steps == row.warmup_steps


def _rates(protocol: Protocol, student: str, steps_per_epoch: int) -> list[float]:
    recipe = protocol.recipe_for(student)
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    configured = build_schedule(recipe, optimizer, steps_per_epoch * recipe.epochs)
    assert configured is not None
    assert configured["interval"] == "step"
    rates = []
    for _ in range(steps_per_epoch * recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        configured["scheduler"].step()
    return rates


@pytest.mark.parametrize(
    ("protocol_id", "student", "lr", "epochs", "milestones", "warmup"),
    [
        ("coco-v1", "torchvision:fcos_resnet18_fpn", 0.01, 26, (16, 22), 1000),
        ("coco-v1", "torchvision:fasterrcnn_resnet18_fpn", 0.02, 26, (16, 22), 1000),
        ("coco-mmdet-v1", "mmdet:retinanet_r50_fpn_2x_coco", 0.01, 24, (16, 22), 500),
        ("coco-mmdet-v1", "mmdet:faster-rcnn_r50_fpn_2x_coco", 0.02, 24, (16, 22), 500),
        ("coco-mmdet-v1", "mmdet:gfl_r18_fpn_1x_coco", 0.01, 12, (8, 11), 500),
        ("coco-mmdet-inherited-v1", "mmdet:gfl_r50_fpn_1x_coco", 0.01, 12, (8, 11), 500),
        ("coco-detectron2-v1", "torchvision:fasterrcnn_mobilenet_v2_fpn", 0.01, 12, (8, 11), 1000),
    ],
)
def test_learning_rates_of_a_whole_training(
    protocol_id: str, student: str, lr: float, epochs: int, milestones: tuple[int, ...], warmup: int
) -> None:
    found = _rates(load_protocol(protocol_id), student, steps_per_epoch=2000)
    rise = [lr * (0.001 + 0.999 * min(step / warmup, 1)) for step in range(2000 * epochs)]
    falls = [0.1 ** sum(step // 2000 >= milestone for milestone in milestones) for step in range(2000 * epochs)]
    assert found == pytest.approx([one * other for one, other in zip(rise, falls, strict=True)], rel=1e-9)


def test_biases_may_learn_faster_and_without_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2), nn.BatchNorm2d(2), nn.Linear(2, 2))
    recipe = load_protocol("coco-mmdet-v1").recipe_for("mmdet:fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco")
    optimizer = build_optimizer(recipe, network.parameters(), biases_of(network))
    usual, biases = optimizer.param_groups
    assert [id(parameter) for parameter in biases["params"]] == [id(network[0].bias), id(network[3].bias)]
    assert (biases["lr"], biases["weight_decay"]) == (0.02, 0.0)
    assert (usual["lr"], usual["weight_decay"]) == (0.01, 0.0001)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))
    other = load_protocol("coco-v1").student_recipe
    assert len(build_optimizer(other, network.parameters(), biases_of(network)).param_groups) == 1


@pytest.mark.parametrize("protocol", ON_COCO, ids=lambda protocol: protocol.id)
def test_teachers_files_are_named_with_the_beginning_of_their_hash(protocol: Protocol) -> None:
    for source in protocol.teachers.values():
        if source.source is not None:
            digits = source.source.removesuffix(".pth").rpartition("-")[2]
            assert download.normal_sha256(digits) == digits
            assert source.sha256 == digits


class TestStudents:
    def test_start_with_weights_of_the_backbone(self, data: COCO, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchvision.models import resnet18

        weights = filled(resnet18())
        monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *args, **kwargs: dict(weights))
        teacher = nn.Identity()
        for name, start in load_protocol("coco-v1").students.items():
            student = TASK.start(name, start, teacher, data)
            body = student.model.backbone.body
            assert torch.equal(body.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])
            assert isinstance(body.bn1, FrozenBatchNorm2d)
            assert not body.conv1.weight.requires_grad
            assert student.model.transform.min_size == (64,)

    def test_say_what_to_do_without_a_network(self, data: COCO, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*args: Any, **kwargs: Any) -> Any:
            raise URLError("no network")

        monkeypatch.setattr(ResNet18_Weights, "get_state_dict", unreachable)
        name, start = next(iter(load_protocol("coco-v1").students.items()))
        with pytest.raises(UserError, match=r"students.torchvision.*cannot be downloaded \(no network\)"):
            TASK.start(name, start, nn.Identity(), data)

    def test_may_inherit_neck_and_head(self, data: COCO) -> None:
        torch.manual_seed(0)
        teacher = create_network("small_fcos_24", 91)
        torch.manual_seed(1)
        student = TASK.start("small_fcos_8", Start(inherits=True), teacher, data)
        torch.manual_seed(1)
        alone = TASK.create("small_fcos_8", data)
        own, given, before = student.state_dict(), teacher.state_dict(), alone.state_dict()
        head = [name for name in own if name.startswith("model.head.")]
        assert head
        assert all(torch.equal(own[name], given[name]) for name in head)
        assert torch.equal(
            own["model.backbone.fpn.layer_blocks.0.0.weight"], given["model.backbone.fpn.layer_blocks.0.0.weight"]
        )
        # of another width
        inner = "model.backbone.fpn.inner_blocks.0.0.weight"
        assert torch.equal(own[inner], before[inner])
        body = [name for name in own if is_backbone(name)]
        assert body
        assert all(torch.equal(own[name], before[name]) for name in body)
        assert all(parameter.requires_grad for parameter in student.parameters())

    def test_cannot_inherit_from_another_kind(self) -> None:
        with pytest.raises(UserError, match="outside the backbone no layer has the same name and shape"):
            inherit(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(3, 3)))

    def test_of_classification_do_not_inherit(self) -> None:
        protocol = load_protocol("digits-v1")
        digits = open_data(protocol.data, protocol.student_recipe, 0)
        with pytest.raises(UserError, match="only detectors inherit"):
            task_named("classification").start("mini_cnn4", Start(inherits=True), nn.Identity(), digits)


class TestTeachers:
    def test_of_torchvision_are_kept_and_built_again(
        self, coco_parameters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With weights torchvision freezes batch normalization; the kept file must fit what is built from it."""
        from torchvision.models.detection import fcos_resnet50_fpn

        weights = {
            name: value
            for name, value in filled(fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)).items()
            if not name.endswith("num_batches_tracked")
        }
        monkeypatch.setattr(FCOS_ResNet50_FPN_Weights, "get_state_dict", lambda *args, **kwargs: dict(weights))
        full = load_protocol("coco-v1")
        parameters = {**full.data.parameters, **coco_parameters, "min_size": [64], "max_size": 96}
        checksum = COCO(4, 0, {}, **parameters).checksum()
        name = "torchvision:fcos_resnet50_fpn"
        protocol = full.model_copy(
            update={"data": full.data.model_copy(update={"parameters": parameters, "checksum": checksum})}
        )
        with pytest.warns(UserWarning, match=r"AP of 0\.\d\d % here, its authors report 39.20 %"):
            first = load_teacher(protocol, name, tmp_path)
        again = load_teacher(protocol, name, tmp_path)
        for teacher in (first, again):
            state = teacher.network.state_dict()
            for kept in ("backbone.body.conv1.weight", "head.classification_head.cls_logits.weight"):
                assert torch.equal(state[f"model.{kept}"], weights[kept])
        assert again.info == first.info

    def test_of_torchvision_do_not_come_from_files(self, data: COCO) -> None:
        with pytest.raises(UserError, match="come from torchvision, by options"):
            TASK.obtain("torchvision:fcos_resnet50_fpn", TeacherSource(source="weights.pth"), data)


@pytest.mark.slow
def test_a_row_of_every_kind_from_files_to_scores(tmp_path: Path) -> None:
    small = miniature(load_protocol("coco-v1"), tmp_path / "miniature")
    assert all(not start.options for start in small.students.values())
    assert small.teacher_recipe is not None
    methods = {"retinanet-r50v2-r18": "FRS", "fasterrcnn-r50v2-r18": "DKDDet"}
    for pair, method in methods.items():
        (item,) = plan(small, tmp_path / "output", methods=[method], pairs=[pair])
        run = run_item(item).run
        assert 0 <= run.last.headline <= 1
        assert bool(run.taps) == (method == "FRS")
        assert item.load() is not None


def test_boards_say_how_students_start(data: COCO) -> None:
    def facts(protocol_id: str, student: str) -> str:
        protocol = load_protocol(protocol_id)
        run_set = RunSet.model_construct(
            protocol=ProtocolRef(id=protocol_id, hash=protocol.hash),
            method=MethodInfo.model_construct(name="plain"),
            student=StudentInfo(name=student, parameters=1),
            teacher=DetectionTeacherInfo(name="teacher", weights_sha256="0" * 64, ap=0.4, parameters=1),
            runs=(),
        )
        return recipe_facts(run_set)

    assert facts("coco-v1", "torchvision:fcos_resnet18_fpn") == (
        "Students start with ImageNet weights of the backbone; 26 epochs; images of 800 pixels, the longer side at "
        "most 1333."
    )
    inherited = facts("coco-mmdet-inherited-v1", "mmdet:fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco")
    assert "backbone and their teacher's neck and head; 24 epochs; images of 640/800 pixels" in inherited


def test_levels_are_those_of_the_authors() -> None:
    for protocol_id in ("coco-mmdet-v1", "coco-mmdet-inherited-v1"):
        for name in ("CWD", "PKD"):
            layers = load_protocol(protocol_id).methods[name].on("fasterrcnn-r101-r50").parameters["layers"]
            assert layers == {f"pyramid.{level}": f"pyramid.{level}" for level in range(4)}
