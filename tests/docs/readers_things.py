"""What a reader of the docs brings: a student, a teacher, a data module and so on, all tiny."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import DistillationModule
from lightning_kd.data import IndexedCollate, WithIndex
from lightning_kd.methods import KD
from lightning_kd.testing.networks import TinyCNN, image_batch, token_batch
from lightning_kd.testing.rig import Inputs, tiny_network
from lightning_kd.testing.scenes import collate_scenes, scene_samples
from lightning_kd.testing.training import TinyModule

_TRAINER = L.Trainer
_SAMPLES = 16


class Student(TinyModule):
    """The contract's tiny student, with validation and a checkpoint that loads."""

    def __init__(self, inputs: Inputs = "images") -> None:
        super().__init__(inputs)
        self.save_hyperparameters()

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if isinstance(batch, dict):  # a detector has no losses in eval mode
            return None
        return F.cross_entropy(self.model(batch[0]).flatten(0, -2), batch[1].flatten())


class Data(L.LightningDataModule):
    """Two batches to train on and one to validate on."""

    def __init__(self, dataset: Any, *, indexed: bool = False, collate: Any = None) -> None:
        super().__init__()
        self.train: Any = WithIndex(dataset) if indexed else dataset
        self.validation = dataset
        self.collate = collate
        self.train_collate = IndexedCollate(collate) if indexed and collate else collate

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=_SAMPLES // 2, collate_fn=self.train_collate)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.validation, batch_size=_SAMPLES, collate_fn=self.collate)


def things(inputs: Inputs = "images", *, indexed: bool = False) -> dict[str, Any]:
    """The names that the snippets use; see the docs' index.

    Args:
        inputs: what the networks see.
        indexed: whether the training samples come with their indices.
    """
    torch.manual_seed(0)
    dataset, collate = _dataset(inputs), collate_scenes if inputs == "scenes" else None
    student, teacher = _make_student(0, inputs), tiny_network(inputs, teacher=True)
    return {
        "student": student,
        "make_student": _make_student,
        "teacher": teacher,
        "another_teacher": tiny_network(inputs, teacher=True),
        "peer": tiny_network(inputs, teacher=True),
        "another_peer": tiny_network(inputs, teacher=True),
        "network": TinyCNN(),
        "dataset": dataset,
        "datamodule": Data(dataset, indexed=indexed, collate=collate),
        "held_out_loader": DataLoader(dataset, batch_size=_SAMPLES // 2, collate_fn=collate),
        # what docstrings take for granted beyond that
        "DataLoader": DataLoader,
        "DistillationModule": DistillationModule,
        "data": Data(dataset, collate=collate),
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


def _dataset(inputs: Inputs) -> Any:
    if inputs == "scenes":
        return scene_samples(_SAMPLES)
    return TensorDataset(*(token_batch(_SAMPLES) if inputs == "tokens" else image_batch(_SAMPLES)))
