"""Images as mmdet's own pipeline and preprocessor prepare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")

from lightning_kd.detection.mmdet import MMDetectionNetwork, load_config, load_model
from lightning_kd.detection.mmdet.transform import scale_of

SCALE = (160, 96)


@pytest.fixture(scope="module", params=["retinanet_r18_fpn_1x_coco", "fcos_r50-caffe_fpn_gn-head_1x_coco"])
def network(request: pytest.FixtureRequest) -> MMDetectionNetwork:
    """Of an RGB and of a BGR detector."""
    return MMDetectionNetwork(load_model(request.param, pretrained=False, num_classes=2), scale=SCALE)


def pictures() -> list[np.ndarray]:
    """RGB, larger and smaller than the scale, smooth enough for one interpolation to be like another."""
    found = []
    for height, width in ((199, 150), (40, 100), (96, 160)):
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        picture = np.stack([np.sin(3 * x + y), np.cos(2 * y), x * y], axis=2)
        found.append(np.round(255 * (picture + 1) / 2).astype(np.uint8))
    return found


def by_mmdet(network: MMDetectionNetwork, images: list[np.ndarray], boxes: list[torch.Tensor]) -> Any:
    from mmdet.datasets.transforms import PackDetInputs, Resize
    from mmdet.structures.bbox import HorizontalBoxes

    resize, pack = Resize(scale=SCALE, keep_ratio=True), PackDetInputs()
    packed = []
    for image, corners in zip(images, boxes, strict=True):
        results = {
            "img": np.ascontiguousarray(image[:, :, ::-1]),
            "img_shape": image.shape[:2],
            "ori_shape": image.shape[:2],
            "gt_bboxes": HorizontalBoxes(corners.clone()),
            "gt_bboxes_labels": np.zeros(len(corners), dtype=np.int64),
            "img_id": 0,
            "img_path": "",
            "flip": False,
            "flip_direction": None,
        }
        packed.append(pack(resize(results)))
    batch = {key: [item[key] for item in packed] for key in packed[0]}
    return batch, network.model.data_preprocessor(batch, False)


def test_images_and_boxes(network: MMDetectionNetwork) -> None:
    images = pictures()
    boxes = [torch.tensor([[5.0, 8, 35, 38]]) + index for index in range(len(images))]
    _, wanted = by_mmdet(network, images, boxes)
    targets = [{"boxes": corners, "labels": torch.tensor([1])} for corners in boxes]
    ours = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images]
    found, sizes, moved = network.transform(ours, targets)
    assert found.shape == wanted["inputs"].shape
    assert sizes == [tuple(sample.img_shape) for sample in wanted["data_samples"]]
    assert sizes == [(127, 96), (64, 160), (96, 160)]
    # OpenCV rounds to whole grey values; the smallest unit of a normalized image is one of them
    unit = 1.6 / float(network.model.data_preprocessor.std.min())
    torch.testing.assert_close(found, wanted["inputs"], rtol=0, atol=unit)
    assert moved is not None
    for target, sample in zip(moved, wanted["data_samples"], strict=True):
        torch.testing.assert_close(target["boxes"], sample.gt_instances.bboxes)
    assert targets[0]["boxes"] is boxes[0]
    back = network.to_original(moved, sizes, [(199, 150), (40, 100), (96, 160)])
    for item, corners in zip(back, boxes, strict=True):
        torch.testing.assert_close(item["boxes"], corners)


def test_without_targets(network: MMDetectionNetwork) -> None:
    images, sizes, targets = network.transform([torch.rand(3, 96, 160)])
    assert images.shape == (1, 3, 96, 160)
    assert sizes == [(96, 160)]
    assert targets is None


def test_images_of_another_shape(network: MMDetectionNetwork) -> None:
    with pytest.raises(ValueError, match=r"expected images of shape \(3, H, W\), got \(1, 8, 8\) at index 1"):
        network.transform([torch.rand(3, 8, 8), torch.rand(1, 8, 8)])


def test_scale_of_a_config() -> None:
    assert scale_of(load_config("retinanet_r18_fpn_1x_coco")) == (1333, 800)
    assert scale_of({"test_pipeline": [{"type": "Resize", "scale": (300, 500)}]}) == (500, 300)
    assert scale_of({}) == (1333, 800)


def test_of_several_scales_one_is_drawn_in_training() -> None:
    scales = [(160, 64), (160, 96)]
    model = load_model("retinanet_r18_fpn_1x_coco", pretrained=False, num_classes=2)
    network = MMDetectionNetwork(model, scale=scales)
    image = torch.rand(3, 120, 160)
    torch.manual_seed(0)
    drawn = [network.train().transform([image])[1][0] for _ in range(20)]
    assert set(drawn) == {(64, 85), (96, 128)}
    torch.manual_seed(0)
    assert [network.transform([image])[1][0] for _ in range(20)] == drawn
    assert {network.eval().transform([image])[1][0] for _ in range(20)} == {(96, 128)}
    with pytest.raises(ValueError, match="expected a scale"):
        MMDetectionNetwork(model, scale=[])
