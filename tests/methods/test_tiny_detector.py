"""The detector of the contract tests does what the interface of detectors promises."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from lightning_kd.detection import BACKGROUND, IGNORED, taps
from lightning_kd.engine.network import layers_of
from lightning_kd.testing.scenes import (
    SCENE_CLASSES,
    STRIDES,
    TinyDetector,
    collate_scenes,
    map_predictions,
    scene_batch,
    scene_samples,
)
from lightning_kd.testing.tiny_head import REG_MAX, TOWER_DEPTH, assign, iou
from lightning_kd.testing.tiny_regions import EMBEDDING_WIDTH

KINDS = ["retinanet", "gfl"]
BRANCHES = ["classification", "regression"]


def detector(channels: int = 8, **settings) -> TinyDetector:
    torch.manual_seed(channels)
    return TinyDetector(channels, **settings)


def sides(box) -> tuple[float, float]:
    return max(0.0, box[2] - box[0]), max(0.0, box[3] - box[1])


def overlap(left, right) -> float:
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    shared = max(0.0, width) * max(0.0, height)
    union = math.prod(sides(left)) + math.prod(sides(right)) - shared
    return shared / union if union else 0.0


# scenes


def test_scenes_have_padding_boxes_inside_and_an_image_without_any():
    images, sizes, targets = scene_batch(5, seed=3)
    assert images.shape == (5, 3, 32, 32)
    assert len(set(sizes)) == 3
    assert [len(target["boxes"]) for target in targets] == [1, 2, 3, 1, 0]
    for image, (height, width), target in zip(images, sizes, targets, strict=True):
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()
        assert target["boxes"].shape == (len(target["labels"]), 4)
        for (x1, y1, x2, y2), label in zip(target["boxes"].long().tolist(), target["labels"].tolist(), strict=True):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert image[label, y1:y2, x1:x2].mean() > 1


def test_scenes_depend_on_their_seed_alone():
    first, again, other = scene_batch(4, 1), scene_batch(4, 1), scene_batch(4, 2)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert len(scene_batch(1)[2][0]["boxes"]) == 1
    assert not any(len(target["boxes"]) for target in scene_batch(3, boxes=False)[2])


def test_samples_are_collated_to_what_a_batch_holds():
    samples = scene_samples(10)
    assert len(samples) == 10
    batch = collate_scenes(samples[:8])
    images, sizes, targets = scene_batch(8, 0)
    assert torch.equal(batch["images"], images)
    assert batch["sizes"] == sizes
    assert [len(target["labels"]) for target in batch["targets"]] == [len(target["labels"]) for target in targets]


# the network


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_taps(kind):
    network, batch = detector(12, kind=kind), scene_batch(2)
    assert sum(parameter.numel() for parameter in network.parameters()) < 12_000
    output = network(*batch)
    assert output.image_size == (32, 32)
    assert [tuple(value.shape) for value in output.pyramid] == [(2, 12, 32 // s, 32 // s) for s in STRIDES]
    dense = output.dense
    assert [value.shape[1] for value in dense.class_logits] == [SCENE_CLASSES] * 3
    assert [value.shape[1] for value in dense.box_regression] == [4 if kind == "retinanet" else 4 * (REG_MAX + 1)] * 3
    assert [len(anchors) for anchors in dense.anchors] == [64, 16, 4]
    assert dense.tower_depth == TOWER_DEPTH
    assert dense.towers == {}
    for part in ("pyramid", *BRANCHES):
        assert set(taps(levels=3, part=part)) <= layers_of(network).keys()


def test_a_tap_sees_the_very_map_of_the_output():
    network, seen = detector(), []
    network.get_submodule("classification.1").register_forward_hook(lambda _, args, output: seen.append(output))
    output = network(*scene_batch(2))
    assert seen[0] is output.dense.class_logits[1]


def test_training_and_eval_mode_compute_the_same():
    network, batch = detector(), scene_batch(3)
    training, evaluated = network.train()(*batch), network.eval()(*batch)
    assert torch.equal(training.dense.class_logits[0], evaluated.dense.class_logits[0])
    assert training.losses.keys() == {"classification", "regression", "region_classification", "region_regression"}
    assert evaluated.losses == {}
    assert evaluated.regions.proposals is None
    assert network.train()(*batch[:2]).losses == {}
    assert network(*batch[:2]).dense.assigned is None
    assert len(evaluated.dense.assigned) == 3


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_takes_part_in_finite_losses(kind, boxes):
    network = detector(kind=kind)
    losses = network(*scene_batch(3, boxes=boxes)).losses
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_boxes_in_float32(kind):
    network, (images, sizes, targets) = detector(kind=kind).to(torch.bfloat16), scene_batch(3)
    output = network(images.to(torch.bfloat16), sizes, targets)
    assert output.dense.class_logits[0].dtype == torch.bfloat16
    assert output.dense.decode(output.dense.box_regression)[0].dtype == torch.float32
    assert all(value.isfinite() and value.dtype == torch.float32 for value in output.losses.values())
    mapped = map_predictions(output, torch.Tensor.float)
    assert mapped.dense.class_logits[0].dtype == mapped.regions.embeddings.dtype == torch.float32
    assert output.dense.class_logits[0].dtype == output.regions.embeddings.dtype == torch.bfloat16


# the one-stage head


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("done", range(TOWER_DEPTH + 1))
def test_finishing_its_own_features_gives_its_own_predictions(kind, branch, done):
    network = detector(kind=kind)
    network.keep_towers = True
    output = network(*scene_batch(2))
    features = output.pyramid if done == 0 else [value.relu() for value in output.dense.towers[branch][done - 1]]
    finished, centerness = output.dense.finish(branch, done, features)
    expected = output.dense.class_logits if branch == "classification" else output.dense.box_regression
    assert centerness is None
    for left, right in zip(finished, expected, strict=True):
        torch.testing.assert_close(left, right)


def test_a_frozen_head_passes_the_gradient_on_to_another_networks_features():
    student, teacher, batch = detector(8), detector(12).requires_grad_(False).eval(), scene_batch(2)
    student.keep_towers = True
    features = [value.relu() for value in student(*batch).dense.towers["classification"][0]]
    finished, _ = teacher(*batch).dense.finish("classification", 1, features)
    torch.cat([value.flatten() for value in finished]).sum().backward()
    assert student.stem[0].weight.grad.any()
    assert student.head.classification.tower[0].weight.grad.any()
    assert student.head.classification.tower[1].weight.grad is None
    with pytest.raises(ValueError, match="between 0 and the tower's depth, 2, got 3"):
        teacher(*batch).dense.finish("classification", 3, features)


def test_boxes_as_offsets_from_anchors():
    dense = detector()(*scene_batch(2)).dense
    decoded = dense.decode(dense.box_regression)
    for level, stride in enumerate(STRIDES):
        width = 32 // stride
        for row, column in ((0, 0), (width - 1, 0), (0, width - 1)):
            dx, dy, dw, dh = dense.box_regression[level][1, :, row, column].tolist()
            side = 2 * stride
            x, y = (column + 0.5) * stride + dx * side, (row + 0.5) * stride + dy * side
            w, h = side * math.exp(dw), side * math.exp(dh)
            expected = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            torch.testing.assert_close(decoded[level][1, row * width + column], expected)


def test_boxes_as_distributions_over_distances():
    dense = detector(kind="gfl")(*scene_batch(2)).dense
    decoded = dense.decode(dense.box_regression)
    for level, stride in enumerate(STRIDES):
        width = 32 // stride
        for row, column in ((0, 0), (width - 1, 0), (0, width - 1)):
            logits = dense.box_regression[level][1, :, row, column].tolist()
            distances = []
            for side in range(4):
                weights = [math.exp(value) for value in logits[side * (REG_MAX + 1) : (side + 1) * (REG_MAX + 1)]]
                distances.append(stride * sum(k * weight for k, weight in enumerate(weights)) / sum(weights))
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            left, top, right, bottom = distances
            expected = torch.tensor([x - left, y - top, x + right, y + bottom])
            torch.testing.assert_close(decoded[level][1, row * width + column], expected)


def test_positions_are_assigned_by_overlap():
    dense = detector()(*scene_batch(1)).dense
    anchors = torch.cat(dense.anchors)
    boxes = torch.tensor([[2.0, 3.0, 17.0, 18.0], [20.0, 20.0, 26.0, 31.0], [8.0, 0.0, 31.0, 30.0]])
    assigned = assign(anchors, boxes).tolist()
    overlaps = [[overlap(anchor, box) for box in boxes.tolist()] for anchor in anchors.tolist()]
    nearest = {max(range(len(anchors)), key=lambda i, g=g: overlaps[i][g]): g for g in range(len(boxes))}
    for position, values in enumerate(overlaps):
        best = max(values)
        rule = values.index(best) if best >= 0.4 else IGNORED if best >= 0.3 else BACKGROUND
        assert assigned[position] == nearest.get(position, rule)
    assert {IGNORED, BACKGROUND, 0, 1, 2} <= set(assigned)
    assert set(assign(anchors, boxes[:0]).tolist()) == {BACKGROUND}


def test_iou_of_odd_boxes():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 8.0], [3.0, 3.0, 3.0, 3.0], [-9.0, -9.0, -5.0, -5.0]])
    expected = torch.tensor([[overlap(left, right) for right in boxes.tolist()] for left in boxes.tolist()])
    torch.testing.assert_close(iou(boxes, boxes), expected)


# the second stage


def test_sampled_proposals_and_their_labels():
    batch = scene_batch(3)
    output = detector()(*batch)
    regions, targets = output.regions, batch[2]
    assert [len(value) for value in regions.proposals] == [3 * len(target["boxes"]) + 3 for target in targets]
    assert regions.embeddings.shape == (len(regions.labels), EMBEDDING_WIDTH)
    assert regions.class_logits.shape == (len(regions.labels), regions.num_classes) == (18, SCENE_CLASSES + 1)
    labels = regions.labels.split([len(value) for value in regions.proposals])
    for proposals, found, target in zip(regions.proposals, labels, targets, strict=True):
        for proposal, label in zip(proposals.tolist(), found.tolist(), strict=True):
            values = [overlap(proposal, box) for box in target["boxes"].tolist()]
            good = bool(values) and max(values) >= 0.5
            assert label == (int(target["labels"][values.index(max(values))]) + 1 if good else regions.background)
    assert {0} < set(regions.labels.tolist())
    assert (regions.background, regions.label_offset) == (0, 1)


def test_it_classifies_the_proposals_of_others():
    batch = scene_batch(3)
    regions = detector()(*batch).regions
    embeddings, logits = regions.classify(regions.proposals)
    torch.testing.assert_close(embeddings, regions.embeddings)
    torch.testing.assert_close(logits, regions.class_logits)
    teacher = detector(12).eval()(*batch).regions
    proposals = [regions.proposals[0], regions.proposals[1][:0], regions.proposals[2][:1]]
    some = teacher.classify(proposals)[1]
    assert some.shape == (len(proposals[0]) + 1, SCENE_CLASSES + 1)
    torch.testing.assert_close(some, teacher.classify(regions.proposals)[1][[0, 1, 2, 3, 4, 5, -3]])
    assert teacher.classify([value[:0] for value in proposals])[0].shape == (0, EMBEDDING_WIDTH)


def test_its_own_proposals_lie_in_the_image():
    regions = detector()(*scene_batch(2)).regions
    for boxes in regions.propose():
        assert boxes.shape == (6, 4)
        assert not boxes.requires_grad
        assert boxes.min() >= 0
        assert boxes.max() <= 32


def test_features_are_read_inside_the_box():
    network = detector(1).eval()
    height, width = 8, 8
    ramp = torch.arange(width, dtype=torch.float32).expand(height, width)[None, None] * 4 + 2  # x in pixels
    network.region_head.embed = nn.Identity()
    network.region_head.classify = nn.Linear(4, 1)
    network.region_head.locate = nn.Linear(4, 1)
    embeddings, _, _ = network.region_head(ramp, [torch.tensor([[4.0, 8.0, 20.0, 24.0]])], (32, 32))
    torch.testing.assert_close(embeddings, torch.tensor([[8.0, 16.0, 8.0, 16.0]]))


# detections


def test_detections_are_inside_the_image_best_first_and_without_doubles():
    network, batch = detector().eval(), scene_batch(3)
    for found, (height, width) in zip(network.detect(network(*batch[:2]), batch[1]), batch[1], strict=True):
        assert 0 < len(found["boxes"]) == len(found["scores"]) == len(found["labels"]) <= 20
        assert found["boxes"].min() >= 0
        assert (found["boxes"].amax(0) <= torch.tensor([width, height, width, height])).all()
        assert all(left >= right for left, right in pairwise(found["scores"].tolist()))
        boxes, labels = found["boxes"].tolist(), found["labels"].tolist()
        for i in range(len(boxes)):
            for j in range(i):
                assert labels[i] != labels[j] or overlap(boxes[i], boxes[j]) <= 0.5 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_to_find_the_rectangles(kind):
    network, (images, sizes, targets) = detector(kind=kind), scene_batch(4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(list(network(images, sizes, targets).losses.values())).sum().backward()
        optimizer.step()
    network.eval()
    found = network.detect(network(images, sizes), sizes)
    for detections, target in zip(found, targets, strict=True):
        sure = detections["scores"] > 0.5
        boxes, labels = detections["boxes"][sure], detections["labels"][sure]
        assert set(labels.tolist()) == set(target["labels"].tolist())
        if len(labels):
            matches = (iou(target["boxes"], boxes) > 0.3) & (target["labels"][:, None] == labels)
            assert matches.any(dim=1).all()


def test_detectors_of_one_stage_or_two():
    batch = scene_batch(2)
    one, two = detector(regions=False).eval(), detector(dense=False).eval()
    assert one(*batch).regions is None
    assert two(*batch).dense is None
    assert two.train()(*batch).losses.keys() >= {"classification", "region_classification"}
    found = two.eval().detect(two(*batch), batch[1])
    assert all(labels.max() < SCENE_CLASSES for labels in (image["labels"] for image in found))
    neither = detector(dense=False, regions=False).eval()
    with pytest.raises(ValueError, match="neither a one-stage head nor a second stage"):
        neither.detect(neither(*batch), batch[1])
