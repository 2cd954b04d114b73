"""Whole-batch augmentation against torchvision's transforms of single images."""

from __future__ import annotations

import random

import numpy as np
import torch
from kd_bench.data.augment import ShiftFlip
from kd_bench.data.seeding import seeded
from kd_bench.data.standardize import Standardize
from PIL import Image
from torchvision import transforms

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def test_shifted_and_mirrored_images_are_those_of_torchvision_for_the_same_draws() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    found = Standardize(MEAN, STD)(ShiftFlip(4, 0.5)(images, torch.Generator().manual_seed(7)))
    generator = torch.Generator().manual_seed(7)
    offsets = torch.randint(9, (2, 64, 1), generator=generator).squeeze(2)
    mirrored = torch.rand(64, 1, generator=generator).squeeze(1) < 0.5
    assert set(offsets.unique().tolist()) == set(range(9))
    assert 16 < mirrored.sum() < 48
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    for index in range(64):
        image = transforms.functional.pad(Image.fromarray(images[index].permute(1, 2, 0).numpy()), 4)
        top, left = offsets[:, index].tolist()
        image = transforms.functional.crop(image, top, left, 32, 32)
        if mirrored[index]:
            image = transforms.functional.hflip(image)
        assert torch.equal(found[index], finish(image))


def test_random_crop_has_the_range_of_torchvisions() -> None:
    crop = transforms.RandomCrop(32, padding=4)
    tops = {crop.get_params(torch.zeros(3, 40, 40), (32, 32))[0] for _ in range(200)}
    assert tops == set(range(9))


def test_what_is_shifted_in_has_the_background() -> None:
    shifted = ShiftFlip(2, 0.0, background=-3.0)(torch.ones(50, 1, 4, 4), torch.Generator().manual_seed(0))
    assert shifted.unique().tolist() == [-3.0, 1.0]
    assert (shifted == 1).flatten(1).sum(1).min() == 4


def test_without_amounts_nothing_changes() -> None:
    images = torch.randn(5, 3, 6, 4)
    assert torch.equal(ShiftFlip(0, 0.0)(images, torch.Generator()), images)
    assert torch.equal(ShiftFlip(0, 1.0)(images, torch.Generator()), images.flip(-1))


def _numbers() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_seeded_numbers_depend_on_the_key_alone_and_disturb_nobody() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    undisturbed = [_numbers(), _numbers()]
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    first = _numbers()
    with seeded(3, 0, 5):
        inside = _numbers()
    assert [first, _numbers()] == undisturbed
    with seeded(3, 0, 5):
        assert _numbers() == inside
    for key in [(3, 0, 6), (3, 1, 5), (4, 0, 5)]:
        with seeded(*key):
            assert not set(_numbers()) & set(inside)
