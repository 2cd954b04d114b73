"""What detection networks around torchvision models show of themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_detectors import CLASSES, batch, small_detector
from torch import nn
from torchvision.models.detection import MaskRCNN, ssd300_vgg16
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from lightning_kd.detection import BACKGROUND, IGNORED, DetectionOutput, wrap_detector
from lightning_kd.engine.backward import _tensors
from lightning_kd.engine.network import layers_of

ONE_STAGE = ["retinanet_resnet18_fpn", "retinanet_resnet18_fpn_v2", "fcos_resnet18_fpn"]
TWO_STAGE = "fasterrcnn_resnet18_fpn"


def run(network: Any, *, targets: bool = True, **options: Any) -> DetectionOutput:
    images, truth = batch()
    return network(*network.transform(images, truth if targets else None))


# taps


@pytest.mark.parametrize("name", [*ONE_STAGE[::2], TWO_STAGE, "retinanet_mobilenet_v2_fpn"])
def test_taps_show_the_pyramid_and_the_heads_maps(name: str):
    network = small_detector(name).train()
    seen: dict[str, torch.Tensor] = {}
    for tap, layer in layers_of(network).items():
        if tap.startswith(("pyramid.", "classification.", "regression.")):
            layer.register_forward_hook(lambda module, args, output, tap=tap: seen.__setitem__(tap, output))
    output = run(network)
    assert output.image_size == (64, 96)
    first = 4 if name == TWO_STAGE else 8
    sizes = [(-(-64 // stride), -(-96 // stride)) for stride in (first * 2**level for level in range(5))]
    assert [tuple(value.shape[2:]) for value in output.pyramid] == sizes
    assert network.distillation_stages == [f"pyramid.{level}" for level in range(5)]
    assert all(seen[f"pyramid.{level}"] is output.pyramid[level] for level in range(5))
    if output.dense is None:
        assert len(seen) == 5
        return
    anchors = 1 if name.startswith("fcos") else 9
    assert output.dense.strides == [8, 16, 32, 64, 64]
    assert (output.dense.num_classes, output.dense.anchors_per_position) == (CLASSES, anchors)
    for level, (height, width) in enumerate(sizes):
        assert seen[f"classification.{level}"] is output.dense.class_logits[level]
        assert seen[f"regression.{level}"] is output.dense.box_regression[level]
        assert output.dense.class_logits[level].shape == (2, anchors * CLASSES, height, width)
        assert output.dense.box_regression[level].shape == (2, anchors * 4, height, width)
        assert output.dense.anchors[level].shape == (height * width * anchors, 4)


@pytest.mark.parametrize("tap", ["pyramid.2", "classification.2", "regression.2"])
def test_losses_depend_on_what_taps_show(tap: str):
    network = small_detector(ONE_STAGE[0]).train()
    seen = []
    layers_of(network)[tap].register_forward_hook(lambda module, args, output: seen.append(output))
    losses = run(network).losses
    assert torch.autograd.grad(sum(losses.values()), seen[0])[0].abs().sum() > 0


# one-stage heads


@pytest.mark.parametrize("name", ONE_STAGE)
def test_finish_from_every_depth_is_the_heads_own_output(name: str):
    network = small_detector(name).eval()
    network.keep_towers = True
    with torch.no_grad():
        dense = run(network).dense
    assert dense is not None
    assert dense.tower_depth == 4
    for branch, own in (("classification", dense.class_logits), ("regression", dense.box_regression)):
        towers = dense.towers[branch]
        assert len(towers) == 4
        starts = [run(network).pyramid, *([F.relu(value) for value in maps] for maps in towers)]
        for done, features in enumerate(starts):
            before = [value.clone() for value in features]
            predictions, centerness = dense.finish(branch, done, features)
            assert all(torch.equal(a, b) for a, b in zip(predictions, own, strict=True)), (branch, done)
            assert all(torch.equal(a, b) for a, b in zip(features, before, strict=True)), "features were changed"
            if name.startswith("fcos") and branch == "regression":
                assert all(torch.equal(a, b) for a, b in zip(centerness, dense.centerness, strict=True))
            else:
                assert centerness is None
        assert any((value < 0).any() for maps in towers for value in maps), "kept after the activation"
    with pytest.raises(ValueError, match="from 0 to 4"):
        dense.finish("regression", 5, dense.box_regression)


@pytest.mark.parametrize("name", ONE_STAGE)
def test_a_frozen_teachers_head_passes_gradients_to_the_students_features(name: str):
    student, teacher = small_detector(name).train(), small_detector(name, seed=1).eval().requires_grad_(False)
    student.keep_towers = True
    output = run(student)
    with torch.no_grad():
        dense = run(teacher).dense
    for branch in ("classification", "regression"):
        held = [F.relu(value) for value in output.dense.towers[branch][1]]
        predictions, _ = dense.finish(branch, 2, held)
        sum(value.pow(2).sum() for value in predictions).backward(retain_graph=True)
        tower = student.model.head.get_submodule(f"{branch}_head").conv
        convolutions = [layer for layer in tower.modules() if isinstance(layer, nn.Conv2d)]
        assert [layer.weight.grad is not None for layer in convolutions] == [True, True, False, False]
    assert student.model.backbone.body.conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ONE_STAGE[::2])
def test_a_teachers_head_runs_when_it_is_asked_for(name: str):
    network = small_detector(name).eval()
    called = []
    convolution = network.model.head.classification_head.cls_logits
    original = convolution.forward
    convolution.forward = lambda value: (called.append(value.dtype), original(value))[1]
    with torch.no_grad():
        dense = run(network).dense
        expected = network.model.head(run(network).pyramid)["cls_logits"]
    called.clear()
    assert dense.assigned is not None
    assert dense.anchors[0].shape[1] == 4
    assert called == []
    assert dense.class_logits[0].shape[0] == 2
    assert len(called) == 5
    assert not dense.class_logits[0].requires_grad
    assert torch.equal(dense.predictions()["cls_logits"], expected)
    assert dense.towers == {}
    assert len(called) == 5


@pytest.mark.parametrize("layer", ["classification.1", "model.head.regression_head.bbox_reg"])
def test_a_tap_in_the_head_makes_it_run(layer: str):
    network, seen = small_detector(ONE_STAGE[0]).eval(), []
    layers_of(network)[layer].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        run(network)
    assert seen


def test_towers_are_kept_only_when_asked_for():
    network = small_detector(ONE_STAGE[0]).train()
    assert run(network).dense.towers == {}
    network.keep_towers = True
    assert run(network).dense.towers.keys() == {"classification", "regression"}


def test_retinanet_assigns_positions_by_overlap():
    network = small_detector(ONE_STAGE[0]).train()
    images, targets = batch((2, 1, 0))
    targets[2] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    tensors, sizes, moved = network.transform(images, targets)
    dense = network(tensors, sizes, moved).dense
    anchors = torch.cat(dense.anchors)
    assert [len(value) for value in dense.assigned] == [len(anchors)] * 3
    for assigned, target in zip(dense.assigned, moved, strict=True):
        for anchor, value in enumerate(assigned.tolist()):
            overlaps = box_iou(anchors[anchor : anchor + 1], target["boxes"])[0]
            best = overlaps.max() if len(overlaps) else 0.0
            if best >= 0.5:
                assert value == int(overlaps.argmax())
            elif value == IGNORED:
                assert best >= 0.4
            elif value != BACKGROUND:
                # nothing overlaps this box more than this anchor does
                assert overlaps[value] == box_iou(anchors, target["boxes"][value : value + 1]).max()
        assert set(range(len(target["boxes"]))) <= set(assigned.tolist())
    assert set(dense.assigned[2].tolist()) == {BACKGROUND}


def test_fcos_assigns_points_inside_boxes():
    network = small_detector("fcos_resnet18_fpn").eval()
    images, targets = batch((2, 1))
    tensors, sizes, moved = network.transform(images, targets)
    with torch.no_grad():
        dense = network(tensors, sizes, moved).dense
        assert network(tensors, sizes).dense.assigned is None
    centers = (torch.cat(dense.anchors)[:, :2] + torch.cat(dense.anchors)[:, 2:]) / 2
    positives = 0
    for assigned, target in zip(dense.assigned, moved, strict=True):
        assert (assigned >= BACKGROUND).all()
        for position in (assigned >= 0).nonzero().flatten().tolist():
            x1, y1, x2, y2 = target["boxes"][assigned[position]].tolist()
            x, y = centers[position].tolist()
            assert x1 < x < x2
            assert y1 < y < y2
            positives += 1
    assert positives > 3


@pytest.mark.parametrize("name", ONE_STAGE[::2])
def test_decode_turns_regression_into_boxes_in_pixels(name: str):
    network = small_detector(name).eval()
    with torch.no_grad():
        dense = run(network).dense
    maps = [value.clone().normal_(std=0.5).abs().requires_grad_() for value in dense.box_regression]
    boxes = dense.decode(maps)
    level, image, row, column, anchor = 1, 1, 2, 3, dense.anchors_per_position - 1
    width = maps[level].shape[3]
    position = (row * width + column) * dense.anchors_per_position + anchor
    a, b, c, d = maps[level][image, 4 * anchor : 4 * anchor + 4, row, column].double().tolist()
    x1, y1, x2, y2 = dense.anchors[level][position].double().tolist()
    w, h, x, y = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
    if name.startswith("fcos"):
        expected = [x - a * w, y - b * h, x + c * w, y + d * h]
    else:
        x, y = x + a * w, y + b * h
        w, h = w * torch.tensor(c).exp().item(), h * torch.tensor(d).exp().item()
        expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    assert boxes[level][image, position].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert [value.shape[1] for value in boxes] == [len(value) for value in dense.anchors]
    sum(value.sum() for value in boxes).backward()
    assert maps[level].grad.abs().sum() > 0


# two stages


def test_a_teacher_of_two_stages_runs_its_backbone_alone_until_it_is_asked():
    network = small_detector(TWO_STAGE).eval()
    called = []
    for name in ("rpn.head", "roi_heads.box_head"):
        network.model.get_submodule(name).register_forward_hook(lambda *args, name=name: called.append(name))
    with torch.no_grad():
        regions = run(network).regions
    assert called == []
    assert (regions.proposals, regions.labels, regions.embeddings, regions.class_logits) == (None,) * 4
    proposals = regions.propose()
    assert called == ["rpn.head"]
    assert len(proposals) == 2
    assert all(len(boxes) > 5 and not boxes.requires_grad for boxes in proposals)
    regions.propose()
    assert called == ["rpn.head"]
    embeddings, logits = regions.classify(proposals)
    assert called == ["rpn.head", "roi_heads.box_head"]
    total = sum(map(len, proposals))
    assert (embeddings.shape, logits.shape) == ((total, 16), (total, CLASSES))


def test_sampled_proposals_come_with_what_the_second_stage_made_of_them():
    network = small_detector(TWO_STAGE).train()
    images, targets = batch((2, 1))
    tensors, sizes, moved = network.transform(images, targets)
    output = network(tensors, sizes, moved)
    regions = output.regions
    embeddings, logits = regions.classify(regions.proposals)
    assert torch.equal(embeddings, regions.embeddings)
    assert torch.equal(logits, regions.class_logits)
    assert regions.box_regression.shape == (len(regions.labels), CLASSES * 4)
    assert (regions.background, regions.num_classes, regions.label_offset) == (0, CLASSES, 0)
    assert output.losses["loss_classifier"].item() == pytest.approx(F.cross_entropy(logits, regions.labels).item())
    positives = 0
    for boxes, labels, target in zip(
        regions.proposals, regions.labels.split([len(boxes) for boxes in regions.proposals]), moved, strict=True
    ):
        overlaps = box_iou(boxes, target["boxes"])
        for overlap, label in zip(overlaps, labels.tolist(), strict=True):
            assert label == (int(target["labels"][overlap.argmax()]) if overlap.max() >= 0.5 else 0)
            positives += label > 0
    assert positives > 3


def test_an_image_without_proposals_is_no_problem():
    network = small_detector(TWO_STAGE).eval()
    regions = run(network).regions
    some = torch.tensor([[4.0, 4.0, 30.0, 40.0]])
    embeddings, logits = regions.classify([some[:0], some])
    assert torch.allclose(embeddings, regions.classify([some[:0], some.repeat(2, 1)])[0][:1], atol=1e-6)
    assert logits.shape == (1, CLASSES)
    assert regions.classify([some[:0], some[:0]])[1].shape == (0, CLASSES)
    with pytest.raises(ValueError, match="each of 2 images, got 1"):
        regions.classify([some])


# refusals


@pytest.mark.parametrize("name", [ONE_STAGE[0], TWO_STAGE])
@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[5, 5, 5, 20]], [1], r"positive height and width. Found invalid box \[5.0, 5.0, 5.0, 20.0\] .* index 1"),
        ([[5, 5, 9, 20]], [4], "to 3, got 4 for target at index 1; num_classes=4 counts the background"),
        ([[5, 5, 9, 20]], [-1], "got -1"),
        ([[5, 5, 9]], [1], r"\(1, 3\) and \(1,\) for target at index 1"),
        ([[5, 5, 9, 20]], [1, 2], r"\(1, 4\) and \(2,\)"),
    ],
)
def test_targets_that_cannot_be_learnt_from(name: str, boxes: list, labels: list, message: str):
    network = small_detector(name).train()
    wrong = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
    right = {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2, [right, wrong])
    with pytest.raises(ValueError, match="each of 2 images, got 1"):
        network(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2, [right])
    network.eval()(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2, [right, right])


def test_the_background_is_no_object_for_two_stages():
    network = small_detector(TWO_STAGE).train()
    target = {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]]), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match="labels from 1 to 3, got 0"):
        network(torch.zeros(1, 3, 64, 64), [(64, 64)], [target])
    with pytest.raises(TypeError, match="int64"):
        network(torch.zeros(1, 3, 64, 64), [(64, 64)], [{**target, "labels": torch.tensor([1.0])}])


def test_a_mask_rcnn_teaches_but_does_not_learn():
    torch.manual_seed(0)
    backbone = small_detector(TWO_STAGE).model.backbone
    anchors = AnchorGenerator(tuple((size,) for size in (8, 16, 32, 64, 128)), ((0.5, 1.0, 2.0),) * 5)
    network = wrap_detector(MaskRCNN(backbone, 4, rpn_anchor_generator=anchors, min_size=64, max_size=96))
    with torch.no_grad():
        assert len(run(network.eval()).regions.propose()) == 2
    with pytest.raises(TypeError, match="masks or keypoints"):
        run(network.train())


def test_other_detectors_are_refused():
    with torch.device("meta"):
        model = ssd300_vgg16(weights=None, weights_backbone=None)
    with pytest.raises(TypeError, match="RetinaNet, FCOS or FasterRCNN of torchvision, got SSD"):
        wrap_detector(model)
    network = small_detector(ONE_STAGE[0])
    assert wrap_detector(network) is network
    network.model.head.classification_head = nn.Identity()
    with pytest.raises(TypeError, match=r"classification branch .* got Identity"):
        wrap_detector(network.model)


# precision and surroundings


@pytest.mark.parametrize("name", [ONE_STAGE[0], "fcos_resnet18_fpn", TWO_STAGE])
def test_half_precision_keeps_anchors_and_losses_in_full(name: str):
    network = small_detector(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(network)
    assert output.pyramid[0].dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in output.losses.values())
    sum(output.losses.values()).backward()
    if output.dense is not None:
        assert all(torch.equal(anchors, anchors.round()) for anchors in output.dense.anchors) or name.startswith("f")
        assert output.dense.anchors[0].dtype == torch.float32
        # a method with autocast switched off and float32 features
        predictions, _ = output.dense.finish("regression", 0, [value.float() for value in output.pyramid])
        assert predictions[0].dtype == torch.bfloat16
    else:
        embeddings, _ = output.regions.classify(output.regions.propose())
        assert embeddings.dtype == torch.bfloat16


@pytest.mark.parametrize("name", [ONE_STAGE[0], TWO_STAGE])
def test_the_engine_finds_the_tensors_of_an_output(name: str):
    # as it does under manual optimization, to tell which calls a loss depends on
    output = run(small_detector(name).train())
    tensors = list(_tensors(output))
    for value in (*output.pyramid, *output.losses.values()):
        assert any(value is tensor for tensor in tensors)
