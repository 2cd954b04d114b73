"""Distilling an object detector: a wide RetinaNet teaches a narrow one by its feature pyramid.

Both are ordinary torchvision models. ``Detector`` makes LightningModules of them, whose network can be distilled. The
scenes are rectangles and discs on noise; the colour is the class. The student is trained alone and with PKD, from the
same weights. The table shows the average precision over new scenes.

Run it with ``python examples/detection.py``; it takes half a minute on one CPU core. One seed, a small problem:
the table shows how to compare, not how much a method gains.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import pairwise

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import Conv2dNormActivation

from lightning_kd import Distillation
from lightning_kd.detection import Detector
from lightning_kd.methods import PKD

SIZE = 64
NAMES = ("background", "red", "green", "blue")
TEACHER_EPOCHS, STUDENT_EPOCHS = 8, 4

Sample = tuple[Tensor, dict[str, Tensor]]


def scene(generator: torch.Generator) -> Sample:
    """An image ``(3, SIZE, SIZE)`` in [0, 1] with one object in each of two quarters, and its boxes and labels."""
    image = 0.3 * torch.rand(3, SIZE, SIZE, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    half = SIZE // 2
    boxes, labels = [], []
    for quarter in torch.randperm(4, generator=generator)[:2].tolist():
        width, height = torch.randint(14, half - 1, (2,), generator=generator).tolist()
        left = half * (quarter % 2) + int(torch.randint(half - width, (), generator=generator))
        top = half * (quarter // 2) + int(torch.randint(half - height, (), generator=generator))
        label = int(torch.randint(1, len(NAMES), (), generator=generator))
        x = (columns + 0.5 - left) / width * 2 - 1
        y = (rows + 0.5 - top) / height * 2 - 1
        is_disc = torch.rand((), generator=generator) < 0.5
        inside = x**2 + y**2 <= 1 if is_disc else torch.maximum(x.abs(), y.abs()) <= 1
        image[label - 1, inside] += 0.5
        boxes.append((left, top, left + width, top + height))
        labels.append(label)
    return image, {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}


def collate(samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch as detectors take it: images may differ in size, so they are not stacked."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def scenes(count: int, seed: int, *, shuffle: bool = False) -> DataLoader:
    """``count`` scenes that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader([scene(generator) for _ in range(count)], batch_size=8, shuffle=shuffle, collate_fn=collate)


class Backbone(nn.Module):
    """Four stages of two convolutions; a pyramid of two levels from the last two."""

    out_channels = 32

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(Conv2dNormActivation(inputs, outputs, stride=2), Conv2dNormActivation(outputs, outputs))
            for inputs, outputs in pairwise(widths)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(4 * width, self.out_channels, 1) for _ in range(2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        for stage in self.stages[:2]:
            images = stage(images)
        fine = self.stages[2](images)
        coarse = self.laterals[1](self.stages[3](fine))
        return {"fine": self.laterals[0](fine) + nn.functional.interpolate(coarse, scale_factor=2), "coarse": coarse}


def make_detector(width: int, epochs: int) -> Detector:
    """A small RetinaNet; the same weights every time."""
    torch.manual_seed(0)
    anchors = AnchorGenerator(((16, 20), (24, 30)), ((0.5, 1.0, 2.0),) * 2)
    head = RetinaNetHead(Backbone.out_channels, 6, len(NAMES), norm_layer=partial(nn.GroupNorm, 8))
    model = RetinaNet(Backbone(width), len(NAMES), anchor_generator=anchors, head=head, min_size=SIZE, max_size=SIZE)
    return Detector(
        model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=2e-3),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
    )


def train(detector: Detector, epochs: int, *callbacks: L.Callback) -> dict[str, float]:
    """Train a detector and return its average precision in percent; everything random follows from the seed."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(detector, scenes(256, seed=1, shuffle=True))
    [found] = trainer.validate(detector, scenes(128, seed=2), verbose=False)
    return {name: 100 * value for name, value in found.items()}


def main(teacher_epochs: int = TEACHER_EPOCHS, student_epochs: int = STUDENT_EPOCHS) -> dict[str, dict[str, float]]:
    """Train the teacher, the student alone and the student with PKD, and print a table.

    Returns:
        Name of the detector → average precision.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    teacher = make_detector(24, teacher_epochs)
    scores = {"teacher": train(teacher, teacher_epochs)}
    scores["student alone"] = train(make_detector(6, student_epochs), student_epochs)
    # "auto": all levels of the feature pyramids
    distillation = Distillation(teacher, PKD(layers="auto", weight=1.0))
    scores["student with PKD"] = train(make_detector(6, student_epochs), student_epochs, distillation)

    table = Table("detector", "AP (%)", "AP50 (%)")
    for name, score in scores.items():
        table.add_row(name, f"{score['val/map']:.1f}", f"{score['val/map_50']:.1f}")
    Console().print(table)
    return scores


if __name__ == "__main__":
    main()
