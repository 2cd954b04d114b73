"""The weights of trained students, kept as safetensors if asked for, and networks made of them again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kd_bench.data.base import open_data
from kd_bench.errors import UserError
from kd_bench.layout import WEIGHTS, item_file
from kd_bench.protocol import Pair, Protocol
from kd_bench.storage import file_sha256, write_atomic
from kd_bench.tasks.base import downloads
from kd_bench.tasks.registry import task_named


def weights_path(output: Path, protocol_id: str, method: str, student: str, teacher: str, seed: int) -> Path:
    """Where the weights of a run are: ``<output>/weights/<protocol>/<method>/<pair>/seed-<seed>.safetensors``.

    Args:
        output: the benchmark's output directory.
        protocol_id: the protocol's id.
        method: name of the row.
        student: model name.
        teacher: model name.
        seed: the seed.
    """
    return item_file(output, WEIGHTS, protocol_id, method, student, teacher, seed, "safetensors")


def keep_weights(network: nn.Module, path: Path) -> str:
    """Write the weights of a network.

    Args:
        network: what is evaluated.
        path: file to write.

    Returns:
        The file's sha256.

    Raises:
        UserError: if its state is not made of tensors alone.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"the weights of {type(network).__name__} cannot be kept: {key} is a {type(value).__name__}, not a "
                "tensor; leave keep_weights out"
            )
        # cloned, because safetensors takes no two names of the same memory
        tensors[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    write_atomic(path, safetensors.torch.save(tensors))
    return file_sha256(path)


def load_student(protocol: Protocol, pair: Pair, path: Path, sha256: str) -> nn.Module:
    """A trained student, made of its kept weights; nothing is unpickled, and no code of the method runs.

    Args:
        protocol: says how the student is built.
        pair: whose student it is.
        path: its weights.
        sha256: what their hash must be.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        UserError: if the file is missing, another one, no safetensors, or holds the weights of another network. So it
            is with methods that deploy a network of their own around the student, such as SimKD's.
    """
    if not path.is_file():
        raise UserError(f"there are no weights {path}; keep them with `lightning-kd bench run … --keep-weights`.")
    found = file_sha256(path)
    if found != sha256:
        raise UserError(f"{path} is another file than the result says: its sha256 is {found}, expected {sha256}.")
    network = _build(protocol, pair.student)
    expected = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        _compare(pair.student, path, expected, shapes)
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}.") from error
    for key, value in tensors.items():
        if value.dtype.is_floating_point != expected[key].dtype.is_floating_point:
            raise UserError(f"{path}: {key} holds {value.dtype}; in a {pair.student} it holds {expected[key].dtype}.")
    network.load_state_dict(tensors)
    return network.eval()


def _build(protocol: Protocol, student: str) -> nn.Module:
    data = open_data(protocol.data, protocol.recipe_for(student), 0)
    # what torchvision brings weights for is built differently with them: batch normalization is frozen
    with downloads(f"students.{student}"):
        return task_named(protocol.task).create(student, data, **protocol.start_of(student).options)


def _compare(student: str, path: Path, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    differences = [
        *(f"{key} is missing" for key in expected if key not in shapes),
        *(f"{key} is not part of it" for key in shapes if key not in expected),
        *(
            f"{key} has the shape {shapes[key]} in place of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in shapes and shapes[key] != tuple(value.shape)
        ),
    ]
    if not differences:
        return
    more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
    raise UserError(
        f"{path} holds the weights of another network than the student {student}: {'; '.join(differences[:3])}{more}. "
        "A method that deploys a network of its own around the student, as SimKD does, is evaluated by that network, "
        "which cannot be made from the student's name; such a result can be verified by its predictions or retrained."
    )
