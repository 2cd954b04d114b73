"""Which samples make a batch: the last one, and what each of several processes gets."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import lightning as L
import pytest
import torch
from kd_bench.data.augment import RandomAffine
from kd_bench.data.base import ClassificationData, TrainingNeeds, open_data
from kd_bench.data.batches import Draw, OrderedDraws, ShuffledDraws, TensorBatches, batch_loader, worker_loader
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from kd_bench.training.fit import fit


def _digits(**recipe: object) -> ClassificationData:
    protocol = load_protocol("digits-v1")
    return open_data(protocol.data, protocol.student_recipe.model_copy(update=recipe), 0)


def test_the_last_batch_is_dropped_or_kept_as_the_recipe_says() -> None:
    dropped, kept = _digits(), _digits(last_batch="keep")
    assert [len(labels) for _, labels in dropped.train_dataloader()] == [64] * 14
    assert [len(labels) for _, labels in kept.train_dataloader()] == [64] * 14 + [3]
    assert len(kept.train_dataloader()) == 15


def test_fifty_thousand_images_make_782_batches_the_last_of_16() -> None:
    draws = ShuffledDraws(50_000, 64, seed=0, keep_last=True)
    batches = list(draws)
    assert len(batches) == len(draws) == 782
    assert len(batches[-1].indices) == 16
    assert torch.equal(torch.cat([draw.indices for draw in batches]).sort().values, torch.arange(50_000))


def test_to_keep_the_last_batch_does_not_change_the_others() -> None:
    dropped, kept = list(ShuffledDraws(100, 32, 5)), list(ShuffledDraws(100, 32, 5, keep_last=True))
    for one, other in zip(dropped, kept, strict=False):
        assert torch.equal(one.indices, other.indices)
        assert one.seed == other.seed


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_train_on_the_batches_of_a_single_process(world: int) -> None:
    images, labels = torch.randn(50, 1, 8, 8), torch.arange(50)

    def epoch(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        dataset = TensorBatches(images, labels, RandomAffine(1.0, 10.0, 0.1, 0.1), prepare=lambda batch: 2 * batch)
        draws = ShuffledDraws(len(dataset), 16, seed=3)
        draws.set_ranks(rank, world)
        draws.set_epoch(2)
        return list(batch_loader(dataset, draws))

    parts = [epoch(rank, world) for rank in range(world)]
    for batch, *own in zip(epoch(0, 1), *parts, strict=True):
        assert [len(part[1]) for part in own] == [16 // world] * world
        for tensor, shares in zip(batch, zip(*own, strict=True), strict=True):
            assert torch.equal(tensor, torch.cat(shares))


def test_ranks_get_the_positions_of_their_own_samples() -> None:
    dataset = TensorBatches(torch.randn(12, 1, 2, 2), torch.arange(12) * 10, indexed=True)
    draws = ShuffledDraws(12, 6, seed=0)
    draws.set_ranks(1, 3)
    for batch in batch_loader(dataset, draws):
        assert len(batch.index) == 2
        assert torch.equal(batch.sample[1], batch.index * 10)


def test_batches_that_cannot_be_divided_equally_are_refused() -> None:
    data = _digits(last_batch="keep")
    with pytest.raises(UserError, match="batch of 64 samples cannot be divided equally among 3 devices"):
        data.set_ranks(0, 3)
    data.set_ranks(0, 2)
    with pytest.raises(UserError, match=r"last, incomplete batch of 3 samples .* among 2"):
        data.train_dataloader()


def test_a_loader_that_is_there_already_is_divided_from_its_next_epoch_on() -> None:
    data = _digits()
    loader = data.train_dataloader()
    whole = next(iter(loader))
    data.set_ranks(1, 2)
    assert torch.equal(next(iter(loader))[0], whole[0][32:])
    assert len(loader) == 14


class _Rank(L.Callback):
    """The second of two processes, from when the Trainer has made its optimizers."""

    def __init__(self, data: ClassificationData) -> None:
        self.data, self.sizes, self.evaluated = data, list[int](), 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.data.set_ranks(1, 2)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.sizes.append(len(batch[1]))

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *rest: Any) -> None:
        self.evaluated += len(batch[1])


def test_a_trainer_can_be_told_its_rank_once_it_has_set_up() -> None:
    data = _digits()
    recipe = load_protocol("digits-v1").student_recipe.model_copy(update={"epochs": 1})
    rank = _Rank(data)
    network = create_model("mini_cnn4", num_classes=10, in_channels=1)
    fit(network, recipe, data, accelerator="cpu", callbacks=[rank])
    assert rank.sizes == [32] * 14
    assert rank.evaluated == 180 + 270


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_together_evaluate_every_sample_once(world: int) -> None:
    whole = torch.cat([images for images, _ in _digits().test_dataloader()])
    parts = []
    for rank in range(world):
        data = _digits()
        data.batch_size = 42  # divided by all of them
        data.set_ranks(rank, world)
        validation, test = data.val_dataloader()
        assert len(validation.dataset) == 359
        parts.append(torch.cat([images for images, _ in test]))
        assert torch.equal(torch.cat([images for images, _ in data.test_dataloader()]), whole)
    assert torch.equal(torch.cat(parts), whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_samples_than_ranks_are_refused() -> None:
    with pytest.raises(UserError, match="3 samples cannot be evaluated by 4 devices"):
        OrderedDraws(3, 10).set_ranks(0, 4)


def test_a_draw_goes_to_a_worker_without_the_rest_of_the_epoch() -> None:
    draw = next(iter(ShuffledDraws(100_000, 10, seed=0)))
    content = pickle.dumps(draw)
    assert len(content) < 1000
    again: Draw = pickle.loads(content)
    assert torch.equal(again.indices, draw.indices)
    assert (again.seed, again.epoch, again.share) == (draw.seed, draw.epoch, draw.share)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_loader_leaves_the_global_random_state_alone(workers: int) -> None:
    dataset = TensorBatches(torch.randn(8, 1, 2, 2), torch.arange(8))
    before = torch.get_rng_state()
    batches = list(worker_loader(dataset, OrderedDraws(8, 4), workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat([images for images, _ in batches]), dataset.images)


def test_digits_have_both_splits_and_nothing_special() -> None:
    data = _digits()
    assert data.has_validation
    assert data.splits() == ("validation", "test")
    assert not data.soft_targets
    assert data.needs == TrainingNeeds()


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch forks on Linux only")
def test_workers_are_forked_wherever_the_loader_is() -> None:
    """In a process that was spawned PyTorch would spawn them: each would import it anew and get a copy of the data."""
    dataset, draws = TensorBatches(torch.zeros(4, 1), torch.zeros(4)), OrderedDraws(4, 2)
    context = worker_loader(dataset, draws, workers=1).multiprocessing_context
    assert context.get_start_method() == "fork"
    assert worker_loader(dataset, draws, workers=0).multiprocessing_context is None
