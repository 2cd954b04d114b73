"""The student as it was at the end of an earlier epoch, kept outside the module tree."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lightning_kd.engine.network import STATE_NAME

Tensors = dict[str, Tensor]


class PastStudent:
    """Past weights and a clean copy of the network to run them in.

    Only weights are taken from the student during training: by then it carries hooks and patched methods, which must
    not fire for its past self. This object is no ``nn.Module``, so that the past is neither trained nor sent around by
    DDP.

    Args:
        student: the student's network before training; it is copied.
    """

    def __init__(self, student: nn.Module) -> None:
        self._student: nn.Module | None = student
        self._network = _clean_copy(student)
        self.weights: Tensors | None = None
        self.buffers: Tensors | None = None

    def remember_buffers(self) -> None:
        """Note the buffers at the end of a step.

        A snapshot is due when the next epoch begins, and by then its first batch has already moved the running
        statistics.
        """
        if self._student is not None:
            self.buffers = _detached(self._student.named_buffers())

    def take(self) -> None:
        """Keep the present weights with the noted buffers, the same on all ranks.

        Raises:
            RuntimeError: if the student's parameters are sharded or have changed their names since it was copied, or
                the student was left behind in pickling.
        """
        if self._student is None:
            raise RuntimeError("past weights were pickled without the student; build the method again before training")
        parameters = dict(self._student.named_parameters())
        device = next(iter(parameters.values())).device
        sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())
        if sharded or parameters.keys() != dict(self._network.named_parameters()).keys():
            raise RuntimeError(
                "the student's past weights cannot be kept: its parameters are "
                + ("sharded" if sharded else "not those it had before training")
                + "; use a strategy that leaves them whole on every rank, such as ddp"
            )
        buffers = self.buffers if self.buffers is not None else _detached(self._student.named_buffers())
        self.weights = _detached(parameters.items()) | {
            name: value.to(device, copy=True) for name, value in buffers.items()
        }
        if dist.is_available() and dist.is_initialized():
            # running statistics differ between ranks until the next forward pass
            for name in buffers:
                dist.broadcast(self.weights[name], src=0)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the network as it was, in eval mode and without gradients.

        Raises:
            RuntimeError: if there is no past yet.
        """
        if self.weights is None:
            raise RuntimeError("no past weights have been kept yet; call take() first")
        if self._student is not None:  # a checkpoint's weights may be on another device
            device = next(self._student.parameters()).device
            self.weights = {name: value.to(device) for name, value in self.weights.items()}
        with torch.no_grad():
            return torch.func.functional_call(self._network, self.weights, args, kwargs)

    def state(self) -> dict[str, Tensors | None]:
        """What a checkpoint needs."""
        return {"weights": self.weights, "buffers": self.buffers}

    def restore(self, state: dict[str, Tensors | None]) -> None:
        """Take over what :meth:`state` gave."""
        self.weights, self.buffers = state["weights"], state["buffers"]

    def __deepcopy__(self, memo: dict[int, Any]) -> PastStudent:
        copied = object.__new__(PastStudent)
        vars(copied).update(vars(self))
        copied.weights = copy.deepcopy(self.weights, memo)
        copied.buffers = copy.deepcopy(self.buffers, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """The student is the engine's to pickle, or not: during training it carries hooks."""
        return {**vars(self), "_student": None}


def _clean_copy(student: nn.Module) -> nn.Module:
    # a LightningModule that is its own network carries the methods by now, this one included
    state = student._modules.get(STATE_NAME)
    copied = copy.deepcopy(student, {} if state is None else {id(state): nn.Module()})
    copied._modules.pop(STATE_NAME, None)
    return copied.requires_grad_(False).eval()


def _detached(tensors: Iterable[tuple[str, Tensor]]) -> Tensors:
    return {name: value.detach().clone() for name, value in tensors}
