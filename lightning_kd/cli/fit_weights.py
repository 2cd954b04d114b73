"""Load a network's weights from a file, whoever wrote it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_kd.cli.errors import CommandError

_CONTAINERS = ("state_dict", "model")
"""Keys under which Lightning and most research code keep the state dict."""


def load_weights(network: nn.Module, path: str) -> None:
    """Load ``network``'s weights; nothing in the file is executed.

    Understood are Lightning checkpoints, state dicts and ``.safetensors`` files. When the network was saved as a part
    of something larger (``model.``, ``student.``, ``module.`` before every name), that part is found.

    Args:
        network: what to fill; must have exactly the file's tensors.
        path: the file.

    Raises:
        CommandError: if the file is missing, no checkpoint, or of another network.
    """
    state = _strip_prefix(_read(Path(path)), network.state_dict().keys())
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CommandError(
            f"the weights in {path} are not those of {type(network).__name__}: {_first_lines(error)} Check the "
            "teacher's init_args (depth, width, num_classes)."
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CommandError(f"there is no checkpoint {str(path)!r} (looked in {Path.cwd()}).")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CommandError(
            f"cannot read {path} as weights: {_first_lines(error)} Only tensors and plain values are loaded, never "
            "pickled objects. Where you trust the file, save it again with torch.save(network.state_dict(), path)."
        ) from error
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        found = f"the keys {sorted(map(str, content))[:8]}" if isinstance(content, Mapping) else type(content).__name__
        raise CommandError(f"{path} holds no state dict, but {found}; expected names and tensors, or 'state_dict'.")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CommandError(f"{path} needs safetensors: python -m pip install safetensors") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CommandError(f"cannot read {path} as safetensors: {error}.") from error


def _strip_prefix(state: dict[str, Tensor], wanted: Any) -> dict[str, Tensor]:
    """The entries of the one sub-module that has all wanted names; everything if there is no such sub-module."""
    names = list(wanted)
    if not names or names[0] in state:
        return state
    prefixes = {key.removesuffix(names[0]) for key in state if key.endswith("." + names[0])}
    whole = [prefix for prefix in sorted(prefixes) if all(prefix + name in state for name in names)]
    if len(whole) != 1:
        return state
    return {key.removeprefix(whole[0]): value for key, value in state.items() if key.startswith(whole[0])}


def _first_lines(error: BaseException, limit: int = 3) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:limit])[:600].rstrip(".") + "."
