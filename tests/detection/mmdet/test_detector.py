"""The LightningModule around mmdet's detectors, alone, with distillation, and on mmdet's own batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from support import trainer
from torch.utils.data import DataLoader

pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")

from lightning_kd import DistillationModule
from lightning_kd.detection.mmdet import MMDetector, load_config
from lightning_kd.methods import LD, PKD, CrossKD, DistillationMethod, DKDDet, NDDet

SCALE = (160, 128)
CLASSES = 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four training and four validation images in COCO's format."""
    from kd_bench.detection.coco import COCO
    from kd_bench.detection.miniature_coco import write_coco

    settings = write_coco(tmp_path_factory.mktemp("coco"), train=8, val=4)
    module = COCO(2, 0, {"flip": 0.5}, **settings)
    module.loader_workers = 0
    return module


def config_file(folder: Path, name: str, depth: int) -> Path:
    """The config with another backbone, and detections of any score."""
    neck = ", neck=dict(in_channels=[64, 128, 256, 512])" if depth < 50 else ""
    test = "rcnn=dict(score_thr=0.0)" if name.startswith("faster") else "score_thr=0.0"
    path = folder / f"{name.split('_')[0]}_{depth}.py"
    path.write_text(
        f"_base_ = {load_config(name).filename!r}\n"
        f"model = dict(backbone=dict(depth={depth}){neck}, test_cfg=dict({test}))\n"
    )
    return path


def detector(folder: Path, name: str, depth: int, **options: Any) -> MMDetector:
    torch.manual_seed(depth)
    return MMDetector(config_file(folder, name, depth), pretrained=False, scale=SCALE, **options)


def pairs(images: Any) -> DataLoader[Any]:
    """Batches of two in a fixed order."""
    return DataLoader(images, batch_size=2, collate_fn=lambda samples: tuple(map(list, zip(*samples, strict=True))))


class Losses(L.Callback):
    """Keeps what every step logged."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("retinanet_r50_fpn_1x_coco", [PKD(weight=2), CrossKD()]),
        ("gfl_r50_fpn_1x_coco", [PKD(weight=6), CrossKD(), LD()]),
        ("faster-rcnn_r50_fpn_1x_coco", [PKD(weight=6), DKDDet(), NDDet()]),
    ],
)
def test_distillation_of_a_resnet_18_by_a_resnet_50(
    name: str, methods: list[DistillationMethod], data: Any, tmp_path: Path
) -> None:
    student, teacher = detector(tmp_path, name, 18), detector(tmp_path, name, 50)
    frozen = {key: value.clone() for key, value in teacher.state_dict().items()}
    before = {key: value.clone() for key, value in student.network.named_parameters() if value.requires_grad}
    module = DistillationModule(student, teacher, methods)
    seen = Losses()
    trainer(max_steps=2, callbacks=[seen], limit_val_batches=0).fit(module, pairs(data.images("train")))
    assert len(seen.steps) == 2
    terms = {"train/loss"} | {f"kd/{type(method).__name__}" for method in methods}
    for step in seen.steps:
        assert terms <= set(step), step.keys()
        assert all(np.isfinite(value) and value >= 0 for value in step.values())
        assert all(step[term] > 0 for term in terms)
    changed = [
        key for key, value in student.network.named_parameters() if key in before and not value.equal(before[key])
    ]
    assert set(before) == set(changed)
    assert all(torch.equal(value, frozen[key]) for key, value in teacher.state_dict().items())
    assert not any("depth" in key or "teacher" in key for key in module.state_dict())
    _score(student, data)


def _score(student: MMDetector, data: Any) -> None:
    """COCO's metrics of the detections on the validation images."""
    from kd_bench.detection.detections import Detections
    from kd_bench.detection.evaluate import evaluate

    student.eval()
    truth, found = data.truth("test"), []
    for images, targets in data.eval_dataloader("test"):
        with torch.no_grad():
            detections = student.predict_step((images, targets), 0)
        for image, item, target in zip(images, detections, targets, strict=True):
            assert len(item["boxes"]) > 0
            assert (item["boxes"] >= 0).all()
            assert (item["boxes"][:, 2] <= image.shape[2] + 1e-3).all()
            assert (item["boxes"][:, 3] <= image.shape[1] + 1e-3).all()
            found.append((int(target["image_id"]), item))
    kept = Detections.of_images(found, data.categories)
    assert len(kept) == sum(len(item["boxes"]) for _, item in found)  # every label is a class
    assert 0 <= evaluate(truth, kept).ap <= 1


def test_validation_logs_the_average_precision(data: Any, tmp_path: Path) -> None:
    found = trainer(limit_test_batches=1).test(detector(tmp_path, "gfl_r50_fpn_1x_coco", 18), data.test_dataloader())
    assert set(found[0]) == {"test/map", "test/map_50"}
    assert 0 <= found[0]["test/map"] <= found[0]["test/map_50"] <= 1


class Pipeline(torch.utils.data.Dataset[Any]):
    """Images in mmdet's form: resized, BGR, not normalized, with the size of the original."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = [torch.rand(3, *size, generator=generator) for size in ((96, 120), (128, 100))]
        self.boxes = [torch.tensor([[8.0, 10, 60, 70]]), torch.tensor([[20.0, 30, 90, 110], [1, 2, 40, 50]])]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        height, width = self.images[index].shape[1:]
        shapes = {"img_shape": (height, width), "ori_shape": (2 * height, 2 * width), "scale_factor": (0.5, 0.5)}
        sample = DetDataSample(metainfo=shapes)
        labels = torch.arange(len(self.boxes[index]))
        sample.gt_instances = InstanceData(bboxes=self.boxes[index], labels=labels)
        return {"inputs": (self.images[index] * 255).flip(0).round().byte(), "data_samples": sample}


def test_batches_of_mmdets_pipelines(tmp_path: Path) -> None:
    from mmengine.dataset import pseudo_collate

    dataset = Pipeline()
    student, teacher = (detector(tmp_path, "retinanet_r50_fpn_1x_coco", depth) for depth in (18, 34))
    batch = pseudo_collate([dataset[0], dataset[1]])
    torch.manual_seed(0)
    samples = student.network.model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = student.network.model.loss(samples["inputs"], samples["data_samples"])
    wanted, _ = student.network.model.parse_losses(losses)
    images, sizes, targets = student._prepared(batch, training=True)
    assert sizes == [(96, 120), (128, 100)]
    assert [target["labels"].tolist() for target in targets] == [[1], [1, 2]]
    torch.testing.assert_close(sum(student.network(images, sizes, targets).losses.values()), wanted)
    loader = DataLoader(dataset, batch_size=2, collate_fn=pseudo_collate)
    fit = trainer(max_steps=1, limit_val_batches=1, num_sanity_val_steps=0)
    fit.fit(DistillationModule(student, teacher, PKD(weight=2)), loader, loader)
    assert fit.callback_metrics["kd/PKD"] > 0
    assert 0 <= fit.callback_metrics["val/map"] <= 1
    student.eval()
    with torch.no_grad():
        found = student.predict_step(batch, 0)
        own = student.network.detect(student.network(images, sizes), sizes)
    torch.testing.assert_close(found[1]["boxes"], own[1]["boxes"] * 2)


def test_both_kinds_of_batches_are_one(tmp_path: Path) -> None:
    from mmengine.dataset import pseudo_collate

    dataset = Pipeline()
    student = detector(tmp_path, "retinanet_r50_fpn_1x_coco", 18)
    student.network.scales = ((128, 100),)
    images, sizes, _ = student._prepared(pseudo_collate([dataset[1]]), training=True)
    ours, own_sizes, _ = student.network.transform([dataset.images[1]])
    assert sizes == own_sizes
    torch.testing.assert_close(ours, images, rtol=0, atol=0.01)


def test_settings_are_kept(tmp_path: Path) -> None:
    student = detector(tmp_path, "retinanet_r50_fpn_1x_coco", 18, num_classes=3, label_offset=0)
    assert student.hparams.num_classes == 3
    assert student.network.label_offset == 0
    assert student.network.scales == (SCALE,)
    assert MMDetector("retinanet_r18_fpn_1x_coco", pretrained=False).network.scales == ((1333, 800),)
    with pytest.raises(ValueError, match="interval"):
        detector(tmp_path, "retinanet_r50_fpn_1x_coco", 18, interval="batch")
