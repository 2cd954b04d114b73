"""Read batches outside of the training step: what the network is called with, and the labels."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_kd.callbacks.fusion.random_weights import mixed_seed
from lightning_kd.callbacks.fusion.step import FusionFit
from lightning_kd.data import Indexed
from lightning_kd.engine.dry_run import Inputs, inputs_of, to_device
from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.engine.rng import isolated_rng
from lightning_kd.engine.target import find_target

InputsOf = Callable[[Any], Any]
"""From a batch to what the student's network is called with: a tensor, a tuple of positional or a mapping of keyword
arguments."""


class BatchReader:
    """Turns a batch of a dataloader into the arguments of the student's network and the labels.

    Args:
        fit: the fit.
        inputs: how to find the network's inputs; by default as in the engine's dry run.
    """

    def __init__(self, fit: FusionFit, inputs: InputsOf | None = None) -> None:
        self._fit = fit
        self._inputs = inputs
        self._key: Any = None
        self._checked = False

    def __call__(self, raw: Any) -> tuple[Inputs, Tensor]:
        """Move a batch to the device and take it apart.

        Raises:
            ValueError: if there is no label in the batch.
        """
        fit = self._fit
        batch = to_device(fit.trainer, fit.module, fit.trainer.precision_plugin.convert_input(raw))
        sample = batch.sample if isinstance(batch, Indexed) else batch
        target = find_target(sample, fit.engine.settings.target)
        exchange = Exchange(inputs=(), target=target, student=View(None), teachers=[])
        return self._inputs_of(sample), exchange.labels

    def check(self, exchange: Exchange) -> None:
        """Warn, once, if ``training_step`` calls the network with something else than what is read from a batch."""
        if self._checked:
            return
        self._checked = True
        if self._inputs is not None or self._key is None or not exchange.inputs:
            return
        read, used = _element(exchange.batch, self._key), exchange.inputs[0]
        if isinstance(used, Tensor) and not (used is read or (used.shape == read.shape and torch.equal(used, read))):
            rank_zero_warn(
                "training_step changes the inputs before it calls the network; held-out batches and class means go "
                "through the network without that change. If it matters (normalisation does, augmentation does not), "
                "pass `inputs=`, a callable from a batch to the network's input, to TrilateralGeometry."
            )

    def _inputs_of(self, sample: Any) -> Inputs:
        if self._inputs is not None:
            return _as_inputs(self._inputs(sample))
        if self._key is not None:
            return (_element(sample, self._key),), {}
        network = self._fit.engine.network
        assert network is not None
        args, kwargs = inputs_of(self._fit.module, network, sample)
        if len(args) == 1 and not kwargs:
            self._key = _key_of(sample, args[0])
        return args, kwargs


class HeldOutBatches:
    """Batches of the held-out samples, in an order that depends on the seed and the number of the batch alone.

    Only the dataloader's data set, batch size and collate function are used. Every pass visits the samples in a new
    order; ranks get different batches.

    Args:
        loader: dataloader over a map-style data set.
        read: takes a batch apart.
        seed: seed of the order.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        TypeError: for a dataloader without a map-style data set or without batching.
    """

    def __init__(
        self, loader: DataLoader[Any], read: BatchReader, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        dataset: Any = getattr(loader, "dataset", None)
        if dataset is None or isinstance(dataset, IterableDataset) or not loader.batch_size:
            raise TypeError(
                "validation must be a DataLoader with a batch size over a map-style data set, for example "
                f"DataLoader(held_out, batch_size=128) with held_out from hold_out(...); got {loader!r}"
            )
        self.dataset = dataset
        if len(dataset) == 0:
            raise ValueError("the held-out data set (validation=) is empty")
        self._collate = loader.collate_fn
        self._size: int = min(loader.batch_size, len(self.dataset))
        self._read, self._seed, self._rank, self._world_size = read, seed, rank, world_size

    def indices(self, number: int) -> list[int]:
        """Which samples the batch ``number`` of this rank holds."""
        position = number * self._world_size + self._rank
        visit, place = divmod(position, len(self.dataset) // self._size)
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, visit))
        order = torch.randperm(len(self.dataset), generator=generator)
        chosen: list[int] = order[place * self._size : (place + 1) * self._size].tolist()
        return chosen

    def draw(self, number: int) -> tuple[Inputs, Tensor]:
        """The batch ``number`` of this rank, on the module's device; random transforms are repeatable, too."""
        with seeded(mixed_seed(self._seed, self._rank, number)):
            return self._read(self._collate([self.dataset[index] for index in self.indices(number)]))


def training_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The raw batches of one pass over the training set, the whole of it on every rank; leaves no trace."""
    loaders = trainer.fit_loop._data_source.dataloader()
    combined = loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders, "max_size_cycle")
    generators = [getattr(loader, "generator", None) for loader in combined.flattened]
    states = [(generator, generator.get_state()) for generator in generators if generator is not None]
    try:
        for batch, _, _ in combined:
            yield batch
    finally:
        for generator, state in states:
            generator.set_state(state)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside; outside, the random state goes on as if nothing had been drawn."""
    with isolated_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        yield


def _as_inputs(value: Any) -> Inputs:
    if isinstance(value, Mapping):
        return (), dict(value)
    return (value if isinstance(value, tuple) else (value,)), {}


def _key_of(sample: Any, value: Any) -> Any:
    """Where ``value`` sits in the batch; ``()`` if it is the batch, ``None`` if it is not found in it."""
    if value is sample:
        return ()
    items = sample.items() if isinstance(sample, Mapping) else enumerate(sample if isinstance(sample, Sequence) else ())
    return next((key for key, item in items if item is value), None)


def _element(sample: Any, key: Any) -> Any:
    return sample if key == () else sample[key]
