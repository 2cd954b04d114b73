"""Our calls against mmdet's own, on the same weights and the same batch."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_kd.detection import BACKGROUND, IGNORED, taps

pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")

from lightning_kd.detection.mmdet import MMDetectionNetwork, load_model

CLASSES = 3
DENSE = {
    "retinanet": "retinanet_r18_fpn_1x_coco",
    "fcos": "fcos_r50-caffe_fpn_gn-head_1x_coco",
    "fcos-normalized": "fcos_r18_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco",
    "gfl": "gfl_r50_fpn_1x_coco",
    "atss": "atss_r50_fpn_1x_coco",
}
ALL = {**DENSE, "faster-rcnn": "faster-rcnn_r50_fpn_1x_coco"}


@pytest.fixture(scope="module")
def built(small: Any) -> Any:
    networks: dict[str, MMDetectionNetwork] = {}

    def build(name: str) -> MMDetectionNetwork:
        if name not in networks:
            torch.manual_seed(0)
            model = load_model(small(ALL[name]), pretrained=False, num_classes=CLASSES)
            networks[name] = MMDetectionNetwork(model)
        network = networks[name]
        network.keep_towers = False
        network.zero_grad()
        return network.requires_grad_(True).train()

    return build


def call(network: MMDetectionNetwork, batch: SimpleNamespace, *, targets: bool = True) -> Any:
    return network(batch.images, batch.sizes, batch.targets if targets else None)


@pytest.mark.parametrize("name", ALL)
def test_losses_and_gradients_are_mmdets(name: str, built: Any, batch: SimpleNamespace, data_samples: Any) -> None:
    network = built(name)
    torch.manual_seed(1)  # a two-stage detector samples its proposals
    expected, _ = network.model.parse_losses(network.model.loss(batch.images, data_samples(batch)))
    expected.backward()
    wanted = {key: value.grad.clone() for key, value in network.named_parameters() if value.grad is not None}
    network.zero_grad()
    torch.manual_seed(1)
    output = call(network, batch)
    total = sum(output.losses.values())
    assert torch.equal(total, expected)
    total.backward()
    found = {key: value.grad for key, value in network.named_parameters() if value.grad is not None}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", ALL)
def test_detections_are_mmdets(name: str, built: Any, batch: SimpleNamespace, data_samples: Any) -> None:
    network = built(name).eval()
    with torch.no_grad():
        found = network.detect(call(network, batch, targets=False), batch.sizes)
        samples = network.model.predict(batch.images, data_samples(batch), rescale=False)
    for image, sample in zip(found, samples, strict=True):
        assert len(image["boxes"]) > 0
        assert torch.equal(image["boxes"], sample.pred_instances.bboxes)
        assert torch.equal(image["scores"], sample.pred_instances.scores)
        assert torch.equal(image["labels"], sample.pred_instances.labels + 1)


@pytest.mark.parametrize("name", ALL)
def test_images_without_boxes(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    for targets in ([batch.targets[0], empty], [empty, empty]):
        output = network(batch.images, batch.sizes, targets)
        total = sum(output.losses.values())
        assert total.isfinite()
        total.backward()
        if output.dense is not None:
            assert all((found < 0).all() for found in output.dense.assigned[1:])


@pytest.mark.parametrize("name", DENSE)
def test_maps_are_the_heads(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name)
    network.keep_towers = True
    seen: dict[str, Any] = {}
    handles = [
        network.get_submodule(tap).register_forward_hook(lambda _, __, out, tap=tap: seen.__setitem__(tap, out))
        for part in ("pyramid", "classification", "regression")
        for tap in taps(levels=network.levels, part=part)
    ]
    output = call(network, batch)
    for handle in handles:
        handle.remove()
    dense = output.dense
    maps = network.model.bbox_head(tuple(network.model.extract_feat(batch.images)))
    for part, ours, theirs in zip(
        ("classification", "regression"), (dense.class_logits, dense.box_regression), maps[:2], strict=True
    ):
        for level, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
            assert seen[f"{part}.{level}"] is one
    assert (dense.centerness is None) == (len(maps) == 2)
    if dense.centerness is not None:
        assert all(torch.equal(one, other) for one, other in zip(dense.centerness, maps[2], strict=True))
    assert seen["pyramid.0"] is output.pyramid[0]


@pytest.mark.parametrize("name", DENSE)
def test_towers_can_be_finished_from_every_layer(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name).eval().requires_grad_(False)
    network.keep_towers = True
    with torch.no_grad():
        dense = call(network, batch).dense
    assert dense.tower_depth == 4
    for branch, wanted in (("classification", dense.class_logits), ("regression", dense.box_regression)):
        assert len(dense.towers[branch]) == dense.tower_depth
        for done in (1, 3, 4):
            features = [value.clone().requires_grad_() for value in dense.towers[branch][done - 1]]
            assert any((value < 0).any() for value in features)  # before the activation
            found, centerness = dense.finish(branch, done, [value.relu() for value in features])
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(one, other)
            if centerness is not None:
                torch.testing.assert_close(centerness, dense.centerness)
            sum(value.sum() for value in found).backward()
            assert all(value.grad.abs().sum() > 0 for value in features)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", DENSE)
def test_keeping_towers_changes_nothing(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name)
    gradients = []
    for keep in (False, True):
        network.keep_towers = keep
        network.zero_grad()
        output = call(network, batch)
        assert bool(output.dense.towers) == keep
        sum(output.losses.values()).backward()
        gradients.append([value.grad.clone() for value in network.parameters() if value.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", DENSE)
def test_boxes_and_anchors(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name)
    dense = call(network, batch).dense
    boxes = dense.decode(dense.box_regression)
    for level, (anchors, decoded, logits) in enumerate(zip(dense.anchors, boxes, dense.class_logits, strict=True)):
        rows, columns = logits.shape[-2:]
        count = rows * columns * dense.anchors_per_position
        assert logits.shape[1] == dense.num_classes * dense.anchors_per_position
        assert anchors.shape == (count, 4)
        assert decoded.shape == (2, count, 4)
        stride = dense.strides[level]
        for row, column, image in ((0, 0, 0), (rows - 1, columns // 2, 1)):
            position = (row * columns + column) * dense.anchors_per_position
            codes = dense.box_regression[level][image, :, row, column].reshape(dense.anchors_per_position, -1)[0]
            wanted = by_hand(dense.kind, anchors[position].tolist(), codes, stride, network.model.bbox_head)
            torch.testing.assert_close(decoded[image, position], wanted, rtol=1e-4, atol=1e-3)
    gradient = torch.autograd.grad(sum(level.sum() for level in boxes), dense.box_regression[0])[0]
    assert gradient.abs().sum() > 0


def by_hand(kind: str, anchor: list[float], codes: torch.Tensor, stride: int, head: Any) -> torch.Tensor:
    x1, y1, x2, y2 = anchor
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    if kind in ("retinanet", "atss"):
        dx, dy, dw, dh = (codes * torch.tensor(head.bbox_coder.stds)).unbind()
        x, y, width, height = x + dx * width, y + dy * height, width * dw.exp(), height * dh.exp()
        return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    if kind == "gfl":
        sides = codes.reshape(4, -1).softmax(1) @ torch.arange(17.0) * stride
    else:
        sides = codes * (stride if head.norm_on_bbox else 1)
        assert width == height == stride
    left, top, right, bottom = sides
    return torch.stack([x - left, y - top, x + right, y + bottom])


@pytest.mark.parametrize("name", DENSE)
def test_assignment_is_the_heads(name: str, built: Any, batch: SimpleNamespace, data_samples: Any) -> None:
    network = built(name)
    dense, head = call(network, batch).dense, network.model.bbox_head
    sizes = [tuple(level.shape[-2:]) for level in dense.class_logits]
    samples = data_samples(batch)
    instances, infos = [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples]
    if dense.kind == "fcos":
        labels = [
            level.reshape(2, -1)
            for level in head.get_targets(head.prior_generator.grid_priors(sizes, device="cpu"), instances)[0]
        ]
        weights = [torch.ones_like(level) for level in labels]
    else:
        found = head.get_targets(*head.get_anchors(sizes, infos, device="cpu"), instances, infos)
        labels, weights = found[1:3] if dense.kind in ("gfl", "atss") else found[:2]
    labels, weights = torch.cat(list(labels), 1), torch.cat(list(weights), 1)
    anchors = torch.cat(dense.anchors)
    for image, assigned in enumerate(dense.assigned):
        assert assigned.shape == (len(anchors),)
        positive = assigned >= 0
        assert torch.equal(positive, labels[image] < CLASSES)
        assert torch.equal(batch.targets[image]["labels"][assigned[positive]] - 1, labels[image][positive])
        assert torch.equal(assigned == IGNORED, ~positive & (weights[image] == 0))
        assert (assigned == BACKGROUND).any()
        assert positive.any()
        # a position belongs to a box that it lies in
        boxes, centers = batch.targets[image]["boxes"][assigned[positive]], anchors[positive]
        centers = (centers[:, :2] + centers[:, 2:]) / 2
        if dense.kind != "retinanet":
            assert ((centers > boxes[:, :2]) & (centers < boxes[:, 2:])).all()
    if dense.kind != "fcos":  # whose points lie in the padding, too
        outside = anchors[:, 0] + anchors[:, 2] > 2 * 128
        assert (dense.assigned[1][outside] == IGNORED).any()


def test_there_is_no_assignment_without_targets(built: Any, batch: SimpleNamespace) -> None:
    network = built("gfl")
    output = call(network, batch, targets=False)
    assert output.dense.assigned is None
    assert output.losses == {}
    with torch.no_grad():
        taught = call(network.eval(), batch)
    assert taught.losses == {}
    assert (torch.stack(taught.dense.assigned) >= 0).any()


def test_second_stage_in_training(built: Any, batch: SimpleNamespace) -> None:
    network = built("faster-rcnn")
    regions = call(network, batch).regions
    count = sum(len(proposals) for proposals in regions.proposals)
    assert len(regions.proposals) == 2
    assert regions.background == CLASSES
    assert regions.num_classes == CLASSES + 1
    assert regions.labels.shape == (count,)
    assert regions.embeddings.shape == (count, 1024)
    assert regions.class_logits.shape == (count, CLASSES + 1)
    assert len(regions.box_regression) == count
    head = network.model.roi_head.bbox_head
    torch.testing.assert_close(head.fc_cls(regions.embeddings), regions.class_logits)
    embeddings, logits = regions.classify(regions.proposals)
    torch.testing.assert_close(embeddings, regions.embeddings)
    torch.testing.assert_close(logits, regions.class_logits)
    # the boxes themselves are among the proposals, under their class
    offset = 0
    for proposals, target in zip(regions.proposals, batch.targets, strict=True):
        labels = regions.labels[offset : offset + len(proposals)]
        offset += len(proposals)
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            place = (proposals == box).all(dim=1).nonzero()[0, 0]
            assert labels[place] == label + regions.label_offset


def test_a_teacher_looks_at_the_students_proposals(built: Any, batch: SimpleNamespace) -> None:
    teacher = copy.deepcopy(built("faster-rcnn")).eval().requires_grad_(False)
    calls: list[str] = []
    for name in ("rpn_head", "roi_head.bbox_head"):
        teacher.model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        regions = call(teacher, batch).regions
    assert calls == []  # nothing that was not asked for
    assert regions.proposals is None
    assert regions.labels is None
    own = [torch.tensor([[0.0, 0, 50, 60], [3, 4, 100, 90]]), torch.zeros(0, 4)]
    embeddings, logits = regions.classify(own)
    assert embeddings.shape == (2, 1024)
    assert logits.shape == (2, CLASSES + 1)
    assert calls == ["roi_head.bbox_head"]
    proposals = regions.propose()
    assert [boxes.shape[1] for boxes in proposals] == [4, 4]
    assert all(len(boxes) > 0 for boxes in proposals)
    assert regions.propose()[0] is proposals[0]
    assert calls == ["roi_head.bbox_head", "rpn_head"]
    nothing, _ = regions.classify([torch.zeros(0, 4), torch.zeros(0, 4)])
    assert nothing.shape == (0, 1024)


@pytest.mark.parametrize("name", ["gfl", "faster-rcnn"])
def test_mixed_precision(name: str, built: Any, batch: SimpleNamespace) -> None:
    network = built(name)
    with torch.autocast("cpu", torch.bfloat16):
        output = call(network, batch)
    total = sum(output.losses.values())
    assert total.isfinite()
    total.backward()
    if output.dense is not None:
        found, _ = output.dense.finish("classification", 0, output.pyramid)
        assert found[0].dtype == output.dense.class_logits[0].dtype == torch.bfloat16
    else:
        assert output.regions.classify(output.regions.proposals)[1].dtype == torch.bfloat16


def test_labels_that_are_no_classes(built: Any, batch: SimpleNamespace) -> None:
    network = built("retinanet")
    for wrong in (0, CLASSES + 1):
        batch.targets[1]["labels"] = torch.tensor([wrong])
        with pytest.raises(ValueError, match=f"expected labels from 1 to {CLASSES}, got"):
            call(network, batch)


def test_labels_from_zero(built: Any, batch: SimpleNamespace) -> None:
    network = built("retinanet")
    losses = call(network, batch).losses
    other = MMDetectionNetwork(network.model, label_offset=0)
    for target in batch.targets:
        target["labels"] = target["labels"] - 1
    assert {key: value.item() for key, value in call(other, batch).losses.items()} == {
        key: value.item() for key, value in losses.items()
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("yolox_tiny_8xb8-300e_coco", "cannot distil mmdet's YOLOXHead.*RetinaHead"),
        ("cascade-rcnn_r50_fpn_1x_coco", "CascadeRoIHead.*Faster R-CNN"),
        ("detr_r50_8xb2-150e_coco", "cannot distil mmdet's DETRHead"),
    ],
)
def test_other_detectors_are_refused(config: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MMDetectionNetwork(load_model(config, pretrained=False))
