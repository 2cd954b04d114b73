from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

IMAGE_SIZE = (128, 160)
CLASSES = 3


@pytest.fixture
def batch() -> SimpleNamespace:
    """Two images, the second padded; three boxes and one, of which one lies partly outside its image."""
    generator = torch.Generator().manual_seed(0)
    sizes = [IMAGE_SIZE, (90, 120)]
    images = torch.randn(2, 3, *IMAGE_SIZE, generator=generator)
    images[1, :, 90:], images[1, :, :, 120:] = 0, 0
    targets = [
        {
            "boxes": torch.tensor([[10.0, 12, 60, 70], [30, 40, 100, 120], [90, 5, 150, 60]]),
            "labels": torch.tensor([1, 3, 2]),
        },
        {"boxes": torch.tensor([[5.0, 6, 80, 95]]), "labels": torch.tensor([2])},
    ]
    return SimpleNamespace(images=images, sizes=sizes, targets=targets)


@pytest.fixture(scope="session")
def small() -> Any:
    """Reads a config with a ResNet-18 in place of its backbone."""
    pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")
    from lightning_kd.detection.mmdet import load_config

    def read(name: str, depth: int = 18) -> Any:
        config = load_config(name)
        config.model.backbone.depth = depth
        if depth < 50:
            config.model.neck.in_channels = [64, 128, 256, 512]
        # random weights find nothing with a score above the usual threshold
        for part in (config.model.test_cfg, config.model.test_cfg.get("rcnn")):
            if part is not None and "score_thr" in part:
                part.score_thr = 0.0
        return config

    return read


@pytest.fixture(scope="session")
def data_samples() -> Any:
    """The batch as mmdet's own functions take it."""

    def make(batch: SimpleNamespace) -> list[Any]:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        samples = []
        for target, (height, width) in zip(batch.targets, batch.sizes, strict=True):
            sample = DetDataSample(
                metainfo={
                    "img_shape": (height, width),
                    "ori_shape": (height, width),
                    "pad_shape": (-(-height // 32) * 32, -(-width // 32) * 32),
                    "batch_input_shape": IMAGE_SIZE,
                    "scale_factor": (1.0, 1.0),
                }
            )
            sample.gt_instances = InstanceData(bboxes=target["boxes"], labels=target["labels"] - 1)
            samples.append(sample)
        return samples

    return make
