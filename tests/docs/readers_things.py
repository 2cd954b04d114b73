"""What a reader of the docs brings: a student, a teacher, a data module and so on, all tiny."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import DistillationModule
from lightning_kd.data import WithIndex
from lightning_kd.methods import KD
from lightning_kd.testing.networks import TinyCNN, TinyTokens, image_batch, token_batch
from lightning_kd.testing.rig import Inputs
from lightning_kd.testing.training import TinyModule

_TRAINER = L.Trainer
_SAMPLES = 16


class Student(TinyModule):
    """The contract's tiny student, with validation and a checkpoint that loads."""

    def __init__(self, inputs: Inputs = "images") -> None:
        super().__init__(inputs)
        self.save_hyperparameters()

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.model(batch[0]).flatten(0, -2), batch[1].flatten())


class Data(L.LightningDataModule):
    """Two batches to train on and one to validate on."""

    def __init__(self, dataset: TensorDataset, *, indexed: bool = False) -> None:
        super().__init__()
        self.train: Any = WithIndex(dataset) if indexed else dataset
        self.validation = dataset

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=_SAMPLES // 2)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.validation, batch_size=_SAMPLES)


def things(inputs: Inputs = "images", *, indexed: bool = False) -> dict[str, Any]:
    """The names that the snippets use; see the docs' index.

    Args:
        inputs: what the networks see.
        indexed: whether the training samples come with their indices.
    """
    torch.manual_seed(0)
    dataset = TensorDataset(*(token_batch(_SAMPLES) if inputs == "tokens" else image_batch(_SAMPLES)))
    student, teacher = _make_student(0, inputs), _larger_network(inputs)
    return {
        "student": student,
        "make_student": _make_student,
        "teacher": teacher,
        "another_teacher": _larger_network(inputs),
        "peer": _larger_network(inputs),
        "another_peer": _larger_network(inputs),
        "network": TinyCNN(),
        "dataset": dataset,
        "datamodule": Data(dataset, indexed=indexed),
        "held_out_loader": DataLoader(dataset, batch_size=_SAMPLES // 2),
        # what docstrings take for granted beyond that
        "DataLoader": DataLoader,
        "DistillationModule": DistillationModule,
        "data": Data(dataset),
        "module": DistillationModule(student, teacher, method=KD()),
    }


def quick_trainer(**settings: Any) -> L.Trainer:
    """A Trainer that takes the settings of the docs, but is quiet and done after one epoch."""
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return _TRAINER(**{**settings, **quiet})


def _make_student(number: int, inputs: Inputs = "images") -> Student:
    torch.manual_seed(number)
    return Student(inputs)


def _larger_network(inputs: Inputs) -> nn.Module:
    return TinyTokens(24) if inputs == "tokens" else TinyCNN((12, 20, 24), 1)
