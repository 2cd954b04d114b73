"""Teachers that are trained on the spot, once, and kept beside the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import safetensors.torch
from filelock import FileLock
from torch import nn

from kd_bench.data.base import open_data
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import Protocol
from kd_bench.results import ProtocolRef, Record, TeacherInfo, slug
from kd_bench.storage import file_sha256, read_model, write_atomic, write_model
from kd_bench.training.evaluate import test_logits
from kd_bench.training.fit import fit
from kd_bench.training.recorder import OnEpoch

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "teacher.json"


class TeacherCard(Record):
    """What is kept beside a teacher's weights; written after them, so its presence says that they are whole."""

    schema_version: Literal[1] = 1
    protocol: ProtocolRef
    teacher: TeacherInfo
    seconds: float


@dataclass(frozen=True)
class LoadedTeacher:
    """A trained teacher in eval mode, and what the results say about it."""

    network: nn.Module
    info: TeacherInfo


def load_teacher(protocol: Protocol, name: str, directory: Path, on_epoch: OnEpoch | None = None) -> LoadedTeacher:
    """The protocol's teacher ``name``: from ``directory`` if it is there, else trained now and kept there.

    Several processes may ask at once; one trains, the others wait.

    Args:
        protocol: decides data and recipe.
        name: model name.
        directory: where teachers are kept; results of several protocols may share it.
        on_epoch: called after every epoch of a training.

    Raises:
        UserError: if the kept files are corrupt.
    """
    folder = directory / f"{slug(protocol.id)}-{protocol.hash[:12]}" / slug(name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (folder / CARD_FILE).exists():
            _train(protocol, name, folder, on_epoch)
    return _load(protocol, name, folder)


def _train(protocol: Protocol, name: str, folder: Path, on_epoch: OnEpoch | None) -> None:
    recipe = protocol.teacher_recipe
    data = open_data(protocol.data, recipe, recipe.seed)
    L.seed_everything(recipe.seed, verbose=False)
    network = create_model(name, num_classes=data.num_classes, in_channels=data.image_shape[0])
    fitted = fit(network, recipe, data, accelerator=protocol.accelerator, on_epoch=on_epoch)
    logits, labels = test_logits(network, data)
    weights = folder / WEIGHTS_FILE
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(weights, safetensors.torch.save(tensors))
    info = TeacherInfo(
        name=name,
        weights_sha256=file_sha256(weights),
        accuracy=int((logits.argmax(-1) == labels).sum()) / len(labels),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
    reference = ProtocolRef(id=protocol.id, hash=protocol.hash)
    write_model(folder / CARD_FILE, TeacherCard(protocol=reference, teacher=info, seconds=fitted.seconds))


def _load(protocol: Protocol, name: str, folder: Path) -> LoadedTeacher:
    card = read_model(folder / CARD_FILE, TeacherCard)
    weights = folder / WEIGHTS_FILE
    remedy = f"Remove {folder} and run the benchmark again; the teacher is then trained anew."
    if card.protocol.hash != protocol.hash or card.teacher.name != name:
        raise UserError(f"{folder} holds another teacher ({card.teacher.name} of {card.protocol.id}). {remedy}")
    if not weights.exists() or file_sha256(weights) != card.teacher.weights_sha256:
        raise UserError(f"{weights} is not the file that {CARD_FILE} describes. {remedy}")
    data = open_data(protocol.data, protocol.teacher_recipe, protocol.teacher_recipe.seed)
    network = create_model(name, num_classes=data.num_classes, in_channels=data.image_shape[0])
    network.load_state_dict(safetensors.torch.load_file(weights))
    return LoadedTeacher(network.eval(), card.teacher)
