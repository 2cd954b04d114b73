from __future__ import annotations

import pytest
import torch
from kd_bench.data.augment import RandomAffine
from kd_bench.data.base import ClassificationData, open_data
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from torch import Tensor


def _open(seed: int = 0) -> ClassificationData:
    protocol = load_protocol("digits-v1")
    return open_data(protocol.data, protocol.student_recipe, seed)


def _epoch(data: ClassificationData, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def _equal(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


def test_the_split_is_complete_disjoint_and_stratified() -> None:
    data = _open()
    train = data.train_dataloader().dataset
    parts = [(train.images, train.labels)]
    parts += [next(iter(data.eval_dataloader(split))) for split in ("validation", "test")]
    images = torch.cat([part[0] for part in parts])
    assert [len(labels) for _, labels in parts] == [899, 359, 539]
    assert len(images.flatten(1).unique(dim=0)) == len(images) == 1797
    for _, labels in parts:
        shares = labels.bincount(minlength=10) / len(labels)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_training_images_are_standardized() -> None:
    images = _open().train_dataloader().dataset.images
    assert images.mean().abs() < 1e-5
    assert (images.std() - 1).abs() < 1e-5


def test_seed_and_epoch_determine_the_batches_whatever_else_happened() -> None:
    first = _epoch(_open(seed=3), 2)
    torch.manual_seed(99)
    other = _open(seed=3)
    _epoch(other, 0)
    assert _equal(first, _epoch(other, 2))
    assert not _equal(first, _epoch(_open(seed=3), 1))
    assert not _equal(first, _epoch(_open(seed=4), 2))


def test_evaluation_batches_are_neither_shuffled_nor_augmented() -> None:
    data = _open()
    assert _equal(list(data.test_dataloader()), list(_open(seed=5).test_dataloader()))


@pytest.mark.parametrize("change", ["checksum", "split"])
def test_other_data_than_the_protocols_is_refused(change: str) -> None:
    protocol = load_protocol("digits-v1")
    update: dict[str, object] = {"checksum": "0" * 64}
    if change == "split":
        update = {"parameters": {**protocol.data.parameters, "split_seed": 1}}
    with pytest.raises(UserError, match=r"expected the checksum .*found"):
        open_data(protocol.data.model_copy(update=update), protocol.student_recipe, 0)


def test_settings_that_the_data_does_not_take_are_refused(tiny: Protocol) -> None:
    recipe = tiny.student_recipe.model_copy(update={"augmentation": {"flip": True}})
    with pytest.raises(UserError, match=r"does not take.*flip"):
        open_data(tiny.data, recipe, 0)
    with pytest.raises(UserError, match="cannot import the data class"):
        open_data(tiny.data.model_copy(update={"class_path": "kd_bench.data.digits.Digit"}), tiny.student_recipe, 0)
    with pytest.raises(UserError, match="is not a ClassificationData"):
        open_data(tiny.data.model_copy(update={"class_path": "collections.ChainMap", "parameters": {}}), recipe, 0)


def test_an_affine_map_without_amounts_changes_nothing() -> None:
    images = torch.randn(4, 1, 8, 8)
    augmented = RandomAffine(0.0, 0.0, 0.0, 0.0, background=-1.0)(images, torch.Generator())
    assert torch.allclose(augmented, images, atol=1e-5)


def test_an_affine_map_shifts_by_pixels_and_fills_with_background() -> None:
    images = torch.zeros(256, 1, 8, 8)
    images[:, :, 3:5, 3:5] = 4.0
    augmented = RandomAffine(2.0, 0.0, 0.0, 0.0, background=-1.0)(images - 1, torch.Generator().manual_seed(0))
    assert (augmented.amin(dim=(1, 2, 3)) + 1).abs().max() < 1e-5
    # the blob keeps its mass and its centre moves by at most two pixels along each axis
    mass = (augmented + 1).sum(dim=(1, 2, 3))
    assert torch.allclose(mass, torch.full_like(mass, 16.0), atol=1e-3)
    rows = ((augmented + 1).sum(dim=(1, 3)) * torch.arange(8)).sum(1) / mass
    assert (rows - 3.5).abs().max() <= 2 + 1e-4
    assert (rows - 3.5).abs().max() > 1.5
