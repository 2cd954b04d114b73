"""A pair's teacher: published or trained on the spot, measured by us once, and kept beside the results."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import safetensors.torch
import torch
from filelock import FileLock
from torch import nn

from kd_bench.data.base import BenchmarkData, open_data
from kd_bench.errors import UserError
from kd_bench.options import CHECKPOINT_SECONDS
from kd_bench.protocol import Protocol, TeacherSource, json_sha256
from kd_bench.recipe import Recipe
from kd_bench.results import DetectionTeacherInfo, ProtocolRef, Record, TeacherInfo, slug
from kd_bench.storage import file_sha256, read_model, write_atomic, write_model
from kd_bench.tasks.registry import task_named
from kd_bench.training.checkpoints import Checkpoint, retried
from kd_bench.training.fit import Fitted, fit
from kd_bench.training.recorder import OnEpoch

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "teacher.json"
CHECKPOINT_FILE = "training.ckpt"
TOLERANCE = 0.005
"""How far a published teacher's accuracy (or AP) may be from what its authors report before that is remarked on."""


class TeacherCard(Record):
    """What is kept beside a teacher's weights; written after them, so its presence says that they are whole."""

    schema_version: Literal[1] = 1
    protocol: ProtocolRef
    teacher: TeacherInfo | DetectionTeacherInfo
    seconds: float


@dataclass(frozen=True)
class LoadedTeacher:
    """A trained teacher in eval mode, and what the results say about it."""

    network: nn.Module
    info: TeacherInfo | DetectionTeacherInfo


def teacher_folder(protocol: Protocol, name: str, directory: Path) -> Path:
    """Where :func:`load_teacher` keeps a teacher."""
    return directory / f"{slug(protocol.id)}-{protocol.hash[:12]}" / slug(name)


def load_teacher(
    protocol: Protocol,
    name: str,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> LoadedTeacher:
    """The protocol's teacher ``name``: from ``directory`` if it is there, else obtained now and kept there.

    A published one is fetched and its test accuracy measured, the others are trained. Several processes may ask at
    once; one does it, the others wait.

    Args:
        protocol: decides data, source and recipe.
        name: model name.
        directory: where teachers are kept; results of several protocols may share it.
        on_epoch: called after every epoch of a training.
        checkpoint_seconds: how often a training leaves a checkpoint, from which it goes on if it is interrupted.

    Raises:
        UserError: if the kept files are corrupt, or a published teacher cannot be had or is another network.
    """
    folder = teacher_folder(protocol, name, directory)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (folder / CARD_FILE).exists():
            source = protocol.teachers.get(name)
            if source is None or source.finetune:
                _train(protocol, name, source, folder, on_epoch, checkpoint_seconds)
            else:
                _fetch(protocol, name, source, folder)
    return _load(protocol, name, folder)


def _train(
    protocol: Protocol,
    name: str,
    start: TeacherSource | None,
    folder: Path,
    on_epoch: OnEpoch | None,
    checkpoint_seconds: float,
) -> None:
    recipe = protocol.teacher_recipe
    assert recipe is not None
    task = task_named(protocol.task)
    data = open_data(protocol.data, recipe, recipe.seed)
    owner = {"protocol": protocol.hash, "teacher": name, "versions": [torch.__version__, L.__version__]}
    checkpoint = Checkpoint(folder / CHECKPOINT_FILE, json_sha256(owner), checkpoint_seconds)

    def train() -> Fitted:
        L.seed_everything(recipe.seed, verbose=False)
        network = task.create(name, data) if start is None else task.obtain(name, start, data).train()
        return fit(network, recipe, data, accelerator=protocol.accelerator, on_epoch=on_epoch, checkpoint=checkpoint)

    fitted = retried(train, checkpoint.remove)
    _keep(protocol, name, fitted.network, data, folder, fitted.seconds)
    checkpoint.remove()


def _fetch(protocol: Protocol, name: str, source: TeacherSource, folder: Path) -> None:
    data = _open(protocol)
    network = task_named(protocol.task).obtain(name, source, data)
    info = _keep(protocol, name, network, data, folder, 0.0)
    if source.accuracy is not None and abs(info.headline - source.accuracy) > TOLERANCE:
        score = "accuracy" if isinstance(info, TeacherInfo) else "AP"
        warnings.warn(
            f"the teacher {name} has a test {score} of {100 * info.headline:.2f} % here, its authors report "
            f"{100 * source.accuracy:.2f} %; the results will say what was measured",
            stacklevel=2,
        )


def _keep(
    protocol: Protocol, name: str, network: nn.Module, data: BenchmarkData, folder: Path, seconds: float
) -> TeacherInfo | DetectionTeacherInfo:
    """Measure a teacher and write it down."""
    weights = folder / WEIGHTS_FILE
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(weights, safetensors.torch.save(tensors))
    info = task_named(protocol.task).teacher_info(name, file_sha256(weights), network, data)
    reference = ProtocolRef(id=protocol.id, hash=protocol.hash)
    write_model(folder / CARD_FILE, TeacherCard(protocol=reference, teacher=info, seconds=seconds))
    return info


def _load(protocol: Protocol, name: str, folder: Path) -> LoadedTeacher:
    card = read_model(folder / CARD_FILE, TeacherCard)
    weights = folder / WEIGHTS_FILE
    remedy = f"Remove {folder} and run the benchmark again; the teacher is then obtained anew."
    if card.protocol.hash != protocol.hash or card.teacher.name != name:
        raise UserError(f"{folder} holds another teacher ({card.teacher.name} of {card.protocol.id}). {remedy}")
    if not weights.exists() or file_sha256(weights) != card.teacher.weights_sha256:
        raise UserError(f"{weights} is not the file that {CARD_FILE} describes. {remedy}")
    network = task_named(protocol.task).rebuild(name, protocol.teachers.get(name), _open(protocol))
    network.load_state_dict(safetensors.torch.load_file(weights))
    return LoadedTeacher(network.eval(), card.teacher)


def _open(protocol: Protocol) -> BenchmarkData:
    recipe: Recipe = protocol.teacher_recipe or protocol.student_recipe
    return open_data(protocol.data, recipe, 0)
