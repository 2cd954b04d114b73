"""The same with torchdistill: its distillation box and its losses, driven as its examples do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from lightning_kd.connectors import ConvRegressor
from peers.pair import DECAY, HINT, LEARNING_RATE, MOMENTUM, STAGES, Images, Terms

VERSION = "1.1.5"


def available() -> str | None:
    """The installed version, or ``None``."""
    try:
        from importlib.metadata import PackageNotFoundError, version

        return version("torchdistill")
    except PackageNotFoundError:
        return None


class _WithRegressor(nn.Module):
    """The student with the hint's regressor inside, where torchdistill's hooks find it."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.regressor = network, ConvRegressor(shape, teacher_shape)
        self._size = teacher_shape[1:]
        network.get_submodule(HINT).register_forward_hook(self._regress)

    def _regress(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.regressor(output, self._size)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def train(
    student: nn.Module,
    teacher: nn.Module,
    terms: Terms,
    images: Images,
    batch_size: int,
    on_step: Callable[[], None],
) -> None:
    """Train for one pass over the images; see :func:`peers.by_hand.train`.

    The teacher is put into eval mode, which the box does not do, so that all sides compute the same.
    """
    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    from torchdistill.core.distillation import get_distillation_box

    if "fitnet" in terms.terms:
        student = _WithRegressor(student, *(_hint_shape(network) for network in (student, teacher)))
    device = torch.device("cpu")
    config = _config(terms, batch_size)
    box = get_distillation_box(teacher, student, {"images": images}, config, device, None, False, 1)
    teacher.eval()
    box.pre_epoch_process(epoch=0)
    teacher.eval()
    for batch, targets, supplement in box.train_data_loader:
        box.pre_forward_process()
        loss = box.forward_process(batch.to(device), targets.to(device), supplement)
        box.post_forward_process(loss=loss)
        on_step()
    box.post_epoch_process()
    box.clean_modules()


def _config(terms: Terms, batch_size: int) -> dict[str, Any]:
    inside = "network." if "fitnet" in terms.terms else ""
    ours, theirs = _hooks(terms)
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "images",
            "sampler": {"class_or_func": RandomSampler, "kwargs": {}},
            "kwargs": {"batch_size": batch_size, "num_workers": 0, "drop_last": True},
        },
        "teacher": {
            "forward_proc": "forward_batch_only",
            "forward_hook": {"input": [], "output": theirs},
            "wrapper": None,
            "requires_grad": False,
        },
        "student": {
            "forward_proc": "forward_batch_only",
            "forward_hook": {"input": [], "output": [name if name == "regressor" else inside + name for name in ours]},
            "wrapper": None,
            "requires_grad": True,
        },
        "optimizer": {
            "key": "SGD",
            "kwargs": {"lr": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": DECAY},
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": _terms(terms)}},
    }


def _hooks(terms: Terms) -> tuple[list[str], list[str]]:
    taps = {"at": STAGES, "rkd": ("fc.0",)}
    shared = [layer for name in terms.terms for layer in taps.get(name, ())]
    hint = "fitnet" in terms.terms
    return [*shared, *(["regressor"] if hint else [])], [*shared, *([HINT] if hint else [])]


def _terms(terms: Terms) -> dict[str, Any]:
    whole = {
        "student_module_path": ".", "student_module_io": "output",
        "teacher_module_path": ".", "teacher_module_io": "output",
    }  # fmt: skip
    made = {
        "at": lambda: {
            "key": "ATLoss",
            "kwargs": {
                "at_pairs": {
                    stage: {
                        "teacher": {"io": "output", "path": stage},
                        "student": {"io": "output", "path": stage},
                        "weight": 1,
                    }
                    for stage in STAGES
                },
                "mode": "code",
            },
        },
        "rkd": lambda: {
            "key": "RKDLoss",
            "kwargs": {
                "student_output_path": "fc.0", "teacher_output_path": "fc.0",
                "dist_factor": 25.0, "angle_factor": 50.0, "reduction": "mean",
            },
        },
        "dist": lambda: {"key": "DISTLoss", "kwargs": {**whole, "beta": 1.0, "gamma": 1.0, "tau": 1.0}},
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, weight in terms.terms.items():
        if name == "kd":  # brings its own cross-entropy
            kwargs = {**whole, "temperature": 4.0, "alpha": terms.task, "beta": weight}
            found[name] = {"criterion": {"key": "KDLoss", "kwargs": kwargs}, "weight": 1.0}
        elif name == "fitnet":
            found[name] = _simple(
                "MSELoss", "regressor", {"is_from_teacher": True, "module_path": HINT, "io": "output"}, weight
            )
        else:
            found[name] = {"criterion": made[name](), "weight": weight}
    if "kd" not in found:
        found["task"] = _simple("CrossEntropyLoss", ".", {"uses_label": True}, terms.task)
    return found


def _simple(key: str, path: str, target: dict[str, Any], weight: float) -> dict[str, Any]:
    source = {"is_from_teacher": False, "module_path": path, "io": "output"}
    return {
        "criterion": {"key": key, "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": {"input": source, "target": target}},
        "weight": weight,
    }


def _hint_shape(network: nn.Module) -> tuple[int, ...]:
    shapes: list[tuple[int, ...]] = []
    handle = network.get_submodule(HINT).register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(output.shape[1:]))
    )
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(2, 3, 32, 32))
    network.train(was_training)
    handle.remove()
    return shapes[0]
