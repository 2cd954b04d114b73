"""Reading the files that hold a network's weights, and finding the weights in them."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from kd_bench.errors import UserError
from kd_bench.models.foreign import HEAD_BYTES, foreign
from kd_bench.names import nearest

Weights = dict[str, Tensor]

_ENTRIES = ("model", "state_dict", "model_state_dict", "student")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
_NETWORKS = ("student.", "teacher.")
_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")


def read_weights(path: Path, member: str | None = None) -> list[Weights]:
    """The weights in a file; several where it holds several networks, the trained one first.

    Understood are PyTorch's files (read with ``weights_only=True``, which runs no code from them) and safetensors. In
    the former the weights may be the content itself or its entry ``"model"``, ``"state_dict"``, ``"model_state_dict"``
    or ``"student"``; prefixes of wrappers (``module.`` of DataParallel and the like) are removed, and
    ``student.*`` and ``teacher.*`` are told apart.

    Args:
        path: the file.
        member: which file of an archive (tar or zip).

    Raises:
        UserError: if the file is missing, damaged, something else, or wants to run code.
    """
    name = f"{path}#{member}" if member else str(path)
    try:
        data = _read_member(path, member) if member else _read_file(path)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}. Check the path.") from error
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise _damaged(name, error) from error
    problem = foreign(data[:HEAD_BYTES])
    if problem is not None:
        raise UserError(f"{name} is {problem}")
    return _networks(_parse(data, name), name)


def _read_file(path: Path) -> bytes:
    files = _archived(path)
    if not files:
        return path.read_bytes()
    raise UserError(
        f"{path} is an archive; say which of its files to load, for example '{path}#{files[0]}'. It holds "
        f"{', '.join(files[:12])}{' ...' if len(files) > 12 else ''}."
    )


def _read_member(path: Path, member: str) -> bytes:
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            names = [entry.name for entry in tar if entry.isfile()]
            if member in names and (file := tar.extractfile(member)) is not None:
                return file.read()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if member in names:
                return archive.read(member)
    else:
        raise UserError(f"{path} is not a tar or zip archive, so it has no file {member!r}; leave out '#{member}'.")
    close = nearest(member, names) or names[:5]
    raise UserError(f"{path} has no file {member!r}; the nearest are {', '.join(close)}.")


def _archived(path: Path) -> list[str]:
    """The files in an archive that is not itself a checkpoint (those of PyTorch are zip archives)."""
    names: list[str] = []
    if tarfile.is_tarfile(path):  # asked first: a tar file that ends in a checkpoint passes for a zip file as well
        with tarfile.open(path) as tar:
            names = [entry.name for entry in tar if entry.isfile()]
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return []
    return [name for name in names if name.endswith(_SUFFIXES)] or names


def _parse(data: bytes, name: str) -> object:
    try:
        if _is_safetensors(data):
            return safetensors.torch.load(data)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{name} holds more than tensors: reading it would run {refused[1]}, which an untrusted file must not. "
                "If you trust it, convert it once: `c = torch.load(file, weights_only=False)`, then "
                '`torch.save({"model": state_dict}, new_file)` with the state dict that is in it.'
            ) from error
        raise _damaged(name, "it is not in PyTorch's format") from error
    except Exception as error:  # a damaged file can make the parsers raise anything
        raise _damaged(name, error) from error


def _harmless() -> list[Any]:
    """What the public files hold besides tensors; all of it plain records.

    The last checkpoints of a run have its command line, a Namespace, and those with an optimizer its learning rate,
    which became a NumPy number at the first decay.
    """
    number = np.float64(0)
    scalar: Any = number.__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since NumPy 2
    kinds = {type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)}
    return [Namespace, np.dtype, *kinds, *((scalar, name) for name in names)]


def _is_safetensors(data: bytes) -> bool:
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def _damaged(name: str, error: Exception | str) -> UserError:
    reason = re.split(r"\n|\. ", str(error).strip())[0][:200]
    return UserError(
        f"cannot read the weights {name}: {reason or type(error).__name__}. The file is damaged or not a checkpoint; "
        "remove it and fetch it again."
    )


def _networks(content: object, name: str) -> list[Weights]:
    found = content
    while not _is_weights(found):
        entries = found if isinstance(found, Mapping) else {}
        inner = next((entries[key] for key in _ENTRIES if isinstance(entries.get(key), Mapping)), None)
        if inner is None:
            holds = ", ".join(sorted(map(str, entries))[:8]) or f"a {type(found).__name__}"
            raise UserError(
                f"{name} has no weights that can be found: it holds {holds}. Expected a state dict, or one under "
                f"{', '.join(map(repr, _ENTRIES))}."
            )
        found = inner
    weights = _strip(found)
    parts = [_strip(_select(weights, network)) for network in _NETWORKS]
    return [part for part in parts if part] or [weights]


def _is_weights(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _select(weights: Weights, prefix: str) -> Weights:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _strip(weights: Mapping[str, Any]) -> Weights:
    """Remove the prefixes of wrappers, which all keys share."""
    stripped = {str(key): value for key, value in weights.items()}
    while stripped and (prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in stripped)), None)):
        stripped = _select(stripped, prefix)
    return stripped
