from __future__ import annotations

import pytest
import torch
from kd_bench.data.augment import RandomAffine
from kd_bench.data.base import ClassificationData, TrainingNeeds, open_data
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from torch import Tensor

from lightning_kd.data import Indexed


def _open(seed: int = 0, needs: TrainingNeeds | None = None) -> ClassificationData:
    protocol = load_protocol("digits-v1")
    return open_data(protocol.data, protocol.student_recipe, seed, needs)


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


def test_indexed_batches_are_the_same_with_the_positions_of_their_samples() -> None:
    plain, indexed = _open(), _open(needs=TrainingNeeds(indexed=True))
    batches: list[Indexed] = _epoch(indexed, 1)
    assert _equal([batch.sample for batch in batches], _epoch(plain, 1))
    labels = plain.train_dataloader().dataset.labels
    positions = torch.cat([torch.as_tensor(batch.index) for batch in batches])
    assert torch.equal(labels[positions], torch.cat([batch.sample[1] for batch in batches]))
    assert len(positions.unique()) == len(positions)


def test_held_out_samples_are_stratified_and_not_trained_on() -> None:
    data = _open(seed=1, needs=TrainingNeeds(held_out=0.1))
    train, held_out = data.train_dataloader().dataset, data.held_out_dataloader().dataset
    whole = _open().train_dataloader().dataset
    assert (len(train), len(held_out)) == (809, 90)
    assert held_out.labels.bincount().tolist() == [9] * 10
    together = torch.cat([train.images, held_out.images]).flatten(1)
    assert torch.equal(together.unique(dim=0), whole.images.flatten(1).unique(dim=0))
    image, label = held_out[3]
    assert torch.equal(image, held_out.images[3])
    assert label == held_out.labels[3]
    again = _open(seed=1, needs=TrainingNeeds(held_out=0.1)).held_out_dataloader().dataset
    other = _open(seed=2, needs=TrainingNeeds(held_out=0.1)).held_out_dataloader().dataset
    assert torch.equal(again.images, held_out.images)
    assert not torch.equal(other.images, held_out.images)


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
    with pytest.raises(UserError, match="is neither a ClassificationData nor a DetectionData"):
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
