"""Weights of mmdet's detectors from files, without running what is in them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PREFIX = "module."
"""What distributed training puts before every name."""


def read_checkpoint(path: str | Path, *, trust_checkpoint: bool = False) -> dict[str, Tensor]:
    """Read a detector's state dict.

    Understood are ``.safetensors`` files, and files of ``torch.save`` with a state dict, alone or under
    ``"state_dict"``. Checkpoints that mmengine wrote in a training also hold pickled objects, such as its log; they are
    refused unless you trust them.

    Args:
        path: the file.
        trust_checkpoint: unpickle it, which lets the file run any code.

    Raises:
        ValueError: if there is no such file, or it cannot be read, or not without trust.
    """
    source = Path(path)
    if not source.is_file():
        raise ValueError(f"there is no checkpoint {str(path)!r} (looked in {Path.cwd()})")
    content = _read_safetensors(source) if source.suffix == ".safetensors" else _read_torch(source, trust_checkpoint)
    state = content["state_dict"] if isinstance(content, Mapping) and "state_dict" in content else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = f"the keys {sorted(map(str, state))[:8]}" if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{path} holds no state dict, but {found}; expected names and tensors, or 'state_dict'")
    return {str(name).removeprefix(_PREFIX): value for name, value in state.items()}


def convert_checkpoint(source: str | Path, target: str | Path, *, trust_checkpoint: bool = False) -> None:
    """Write the weights of a checkpoint to a ``.safetensors`` file, which holds nothing else.

    Args:
        source: see :func:`read_checkpoint`.
        target: the file to write; it is complete or not there.
        trust_checkpoint: unpickle ``source``, which lets it run any code.

    Raises:
        ValueError: if ``source`` cannot be read, or ``target`` is of another kind.
    """
    from safetensors.torch import save

    path = Path(target)
    if path.suffix != ".safetensors":
        raise ValueError(f"expected a target that ends with .safetensors, got {str(target)!r}")
    state = read_checkpoint(source, trust_checkpoint=trust_checkpoint)
    # every tensor gets memory of its own: the format knows no shared memory
    content = save({name: value.detach().clone().contiguous() for name, value in state.items()})
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read_torch(path: Path, trust: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise ValueError(f"cannot read {path} as a checkpoint: {error}") from error
        raise ValueError(
            f"{path} holds pickled objects besides its weights, which could run any code when they are read. If you "
            "trust it, convert it once: lightning_kd.detection.mmdet.convert_checkpoint("
            f"{str(path)!r}, {str(path.with_suffix('.safetensors'))!r}, trust_checkpoint=True); "
            "or load it as it is with trust_checkpoint=True"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"cannot read {path} as a checkpoint: {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"cannot read {path} as safetensors: {error}") from error
