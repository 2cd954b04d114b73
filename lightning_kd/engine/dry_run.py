"""One forward pass before training, to learn shapes: it leaves no trace in weights, buffers, modes or random state."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from lightning_kd.engine.network import Network
from lightning_kd.engine.rng import isolated_rng

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

_INPUT_KEYS = ("image", "images", "pixel_values", "input_values", "input_ids", "x", "input", "inputs")


class NoExampleError(RuntimeError):
    """No inputs could be found for a dry run."""


class _NetworkCalled(BaseException):
    """Ends a probed ``training_step`` at the network's call. Not an ``Exception``: user code must not swallow it."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs


@contextlib.contextmanager
def quiet(*networks: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, isolated random state; every module gets its own mode back."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    with isolated_rng(), torch.no_grad():
        for network in networks:
            network.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def example_batch(trainer: L.Trainer, module: L.LightningModule, size: int = 2) -> Any:
    """A small training batch on the module's device, drawn without touching the training's sampler.

    Args:
        trainer: the trainer about to fit.
        module: the module being trained.
        size: samples in the batch, for map-style data sets.

    Raises:
        NoExampleError: if there is no training dataloader or it yields nothing.
    """
    source = trainer.fit_loop._data_source
    if not source.is_defined():
        raise NoExampleError("there is no training dataloader")
    with isolated_rng():
        loader = _first_loader(source.dataloader())
        dataset = getattr(loader, "dataset", None)
        if isinstance(loader, DataLoader) and dataset is not None and not isinstance(dataset, IterableDataset):
            batch = _collate(loader, dataset, size)
        else:
            batch = next(iter(loader), None)
            if batch is None:
                raise NoExampleError("the training dataloader is empty")
        return to_device(trainer, module, batch)


def to_device(trainer: L.Trainer, module: L.LightningModule, batch: Any) -> Any:
    """Apply the user's batch-transfer hooks and move ``batch`` to the module's device."""
    return module._apply_batch_transfer_handler(batch, device=_device_of(module), dataloader_idx=0)


def inputs_of(module: L.LightningModule, network: Network, batch: Any) -> Inputs:
    """What ``network`` will be called with for ``batch``.

    The first tensor of a tuple or a usual key is tried first; where the network refuses it, the student's own
    ``training_step`` is run up to the network's call.

    Raises:
        NoExampleError: if neither works.
    """
    guess = _guess(batch)
    if guess is not None:
        guess = _cast(guess, network.module)
        with contextlib.suppress(Exception), quiet(network.module):
            network.run_eagerly(guess)
            return (guess,), {}
    try:
        args, kwargs = _probe(module, network, batch)
        return (
            tuple(_cast(value, network.module) for value in args),
            {name: _cast(value, network.module) for name, value in kwargs.items()},
        )
    except Exception as error:
        raise NoExampleError(
            f"could not work out what {type(network.module).__name__} is called with: running training_step up to its "
            f"call failed with {type(error).__name__}: {error}"
        ) from error


def example_inputs(trainer: L.Trainer, module: L.LightningModule, network: Network) -> tuple[Inputs, Any]:
    """Inputs for the dry run and the batch they came from (``None`` for ``example_input_array``).

    Raises:
        NoExampleError: if there is neither an ``example_input_array`` nor a usable training batch.
    """
    example = getattr(module, "example_input_array", None)
    if example is not None:
        with contextlib.suppress(Exception), quiet(module):
            return _captured(network, lambda: _call(module, _on(example, _device_of(module)))), None
    batch = example_batch(trainer, module)
    return inputs_of(module, network, getattr(batch, "sample", batch)), batch


def _call(module: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return module(**example)
    return module(*example) if isinstance(example, tuple) else module(example)


def _captured(network: Network, run: Callable[[], object]) -> Inputs:
    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _NetworkCalled((args, kwargs))

    original = network.module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        raise _NetworkCalled((args, kwargs))

    shadowed = "forward" in vars(network.module)
    handle = network.module.register_forward_pre_hook(stop, with_kwargs=True)
    object.__setattr__(network.module, "forward", forward)
    try:
        run()
    except _NetworkCalled as called:
        return called.inputs
    finally:
        handle.remove()
        if shadowed:
            object.__setattr__(network.module, "forward", original)
        else:
            object.__delattr__(network.module, "forward")
    raise NoExampleError("the network was not called")


def _probe(module: L.LightningModule, network: Network, batch: Any) -> Inputs:
    step = inspect.unwrap(module.training_step)
    names = list(inspect.signature(step).parameters)
    if "dataloader_iter" in names:
        raise NoExampleError("training_step takes a dataloader_iter")
    arguments = {name: value for name, value in (("batch_idx", 0), ("dataloader_idx", 0)) if name in names}
    silenced = {name: vars(module)[name] for name in ("log", "log_dict") if name in vars(module)}
    with quiet(module):
        for name in ("log", "log_dict"):
            object.__setattr__(module, name, _silent)
        try:
            return _captured(network, lambda: step(batch, **arguments))
        finally:
            for name in ("log", "log_dict"):
                object.__delattr__(module, name)
            for name, value in silenced.items():
                object.__setattr__(module, name, value)


def _cast(value: Any, network: nn.Module) -> Any:
    """Give floating inputs the network's type: before training, precision plugins have converted neither."""
    parameter = next((p for p in network.parameters() if p.is_floating_point()), None)
    if parameter is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.to(parameter.dtype)


def _silent(*args: Any, **kwargs: Any) -> None:
    """Stand in for ``log`` while ``training_step`` is probed outside the training loop."""


def _guess(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in _INPUT_KEYS if isinstance(batch.get(key), Tensor)), None)
        # a dictionary with an attention mask belongs to a network that takes keywords
        return None if found is not None and "attention_mask" in batch else found
    if isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor) and batch[0].is_floating_point():
        return batch[0]
    return None


def _first_loader(loaders: Any) -> Any:
    if isinstance(loaders, Mapping):
        return _first_loader(next(iter(loaders.values())))
    if isinstance(loaders, list | tuple):
        return _first_loader(loaders[0])
    iterables = getattr(loaders, "iterables", None)
    return loaders if iterables is None else _first_loader(iterables)


def _collate(loader: DataLoader[Any], dataset: Any, size: int) -> Any:
    count = min(size, len(dataset))
    if count == 0:
        raise NoExampleError("the training data set is empty")
    if loader.batch_size is None and loader.batch_sampler is None:
        # batching is off: an item is a whole batch already
        return loader.collate_fn(dataset[_first_key(loader.sampler)])
    return loader.collate_fn([dataset[index] for index in range(count)])


def _first_key(sampler: Any) -> Any:
    """What the first batch is asked for by; samplers of one's own may have keys that are no indices."""
    if isinstance(sampler, SequentialSampler | RandomSampler):
        return 0
    # a copy: the training's own must not move on
    return next(iter(copy.deepcopy(sampler)))


def _device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _on(value: Any, device: torch.device) -> Any:
    return L.fabric.utilities.apply_func.move_data_to_device(value, device)
