"""What the miniature variant of a protocol runs on: a handful of samples and untrained teachers, as real files."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_bench.data.base import ClassificationData, data_class, open_data
from kd_bench.data.miniature import write_cifar100, write_fashion, write_imagenet
from kd_bench.models import create_model
from kd_bench.protocol import DataSpec, Protocol, TeacherSource
from kd_bench.recipe import Recipe
from kd_bench.results import slug
from kd_bench.storage import write_atomic


def _write_coco(directory: Path, *, train: int, val: int) -> dict[str, Any]:
    from kd_bench.detection.miniature_coco import write_coco

    return write_coco(directory, train=train, val=val)


_WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "kd_bench.data.cifar.CIFAR100": partial(write_cifar100, train=16, test=10),
    "kd_bench.data.fashion.FashionMNIST": write_fashion,
    # at the real size detectors are slow on a CPU
    "kd_bench.detection.coco.COCO": lambda directory: {
        **_write_coco(directory, train=16, val=4),
        "min_size": [64],
        "max_size": 96,
    },
    "kd_bench.detection.digit_scenes.DigitScenes": lambda directory: {
        "scenes": {"height": 48, "width": 64, "train": 16, "validation": 6, "test": 8, "largest": 24},
        "root": str(directory),
    },
    "kd_bench.data.imagenet.ImageNet": lambda directory: {
        **write_imagenet(directory, train=2, val=1),
        # the networks take images of any size, and at the real one they are slow on a CPU
        "image_size": 64,
        "eval_resize": 72,
    },
}


def write_data(spec: DataSpec, recipe: Recipe, directory: Path) -> DataSpec:
    """Write the samples and say where they are.

    Args:
        spec: the protocol's data.
        recipe: how it is augmented.
        directory: where to write.
    """
    cls: Any = data_class(spec)
    write = _WRITERS.get(spec.class_path)
    if write is None:  # small enough as it is
        return spec
    parameters = {**spec.parameters, **write(directory)}
    checksum = cls(1, 0, recipe.augmentation, **parameters).checksum()
    return spec.model_copy(update={"parameters": parameters, "checksum": checksum})


def write_teachers(protocol: Protocol, directory: Path) -> dict[str, TeacherSource]:
    """Write a checkpoint for every published teacher, in the layout of the public ones.

    Args:
        protocol: with its small data.
        directory: where to write.

    Returns:
        Where they are; nowhere for detectors, whose teachers are trained for an epoch.
    """
    data = open_data(protocol.data, protocol.student_recipe, 0)
    if not isinstance(data, ClassificationData):
        return {}
    found = {}
    for name, source in protocol.teachers.items():
        path = directory / f"{slug(name)}_vanilla" / "ckpt_epoch_240.pth"
        if not path.exists():
            network = _untrained(name, data)
            buffer = io.BytesIO()
            torch.save({"epoch": 240, "model": network.state_dict()}, buffer)
            write_atomic(path, buffer.getvalue())
        found[name] = TeacherSource(source=str(path), finetune=source.finetune)
    return found


def _untrained(name: str, data: ClassificationData) -> nn.Module:
    """Random weights with the data's own batch statistics, without which the features of a deep network explode."""
    torch.manual_seed(0)
    network = create_model(name, num_classes=data.num_classes, in_channels=data.image_shape[0])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images, _ = next(iter(data.test_dataloader()))
    with torch.no_grad():
        network(images)
    return network
