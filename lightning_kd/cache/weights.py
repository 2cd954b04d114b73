"""Which teacher this is: a hash of its weights, buffers and structure."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lightning_kd.cache.code import code_bytes
from lightning_kd.cache.errors import FingerprintError
from lightning_kd.cache.fingerprint import SETTINGS, fingerprint
from lightning_kd.engine.network import STATE_NAME

_INTERNAL = {*vars(nn.Module()), *vars(L.LightningModule())}
"""Attributes of every module: its parts, which are looked at apart, hooks, and what a Trainer notes."""


def weights_hash(module: nn.Module) -> str:
    """A hash that is another when a weight, a buffer, a layer's class or a layer's settings are.

    Args:
        module: the teacher. Layers that are not installed with a library count with their code; hooks, the training
            mode and attributes that are no settings (numbers, texts, functions, collections of them) do not count.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, layer in module.named_modules():
        if STATE_NAME not in name.split("."):
            digest.update(f"{name}: {_code_of(type(layer))} {layer.extra_repr()} {_settings_of(layer)}\n".encode())
    _feed(digest, "state", module.state_dict())
    # those that are not saved count as well
    _feed(digest, "buffers", dict(module.named_buffers()))
    return digest.hexdigest()


def _code_of(cls: type) -> str:
    try:
        return fingerprint(cls)
    except FingerprintError:  # something beside its code, such as a lock, stands in the class
        functions = {name: value for name, value in vars(cls).items() if isinstance(value, FunctionType)}
        parts = [code_bytes(function.__code__) for function in functions.values()]
        read = [_settings_in(inspect.getclosurevars(function).nonlocals) for function in functions.values()]
        return fingerprint([f"{cls.__module__}.{cls.__qualname__}", parts, read, [_code_of(b) for b in cls.__bases__]])


def _settings_of(layer: nn.Module) -> str:
    return fingerprint(_settings_in({name: value for name, value in vars(layer).items() if name not in _INTERNAL}))


def _settings_in(values: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in sorted(values.items()):
        if isinstance(value, SETTINGS):
            with contextlib.suppress(FingerprintError):
                found[name] = fingerprint(value)
    return found


def _feed(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        _feed_tensor(digest, name, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if STATE_NAME not in str(key).split("."):
                _feed(digest, f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _feed(digest, f"{name}.{position}", item)
    else:
        digest.update(f"{name}: {fingerprint(value, name)}\n".encode())


def _feed_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    digest.update(f"{name}: {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    if tensor.is_quantized:
        digest.update(repr(tensor.qscheme()).encode() + repr(tensor).encode())
        tensor = tensor.int_repr()
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:  # a subclass, such as quantized weights of torchao
        names, settings = flatten()
        digest.update(repr(settings).encode())
        for inner in names:
            _feed(digest, f"{name}.{inner}", getattr(tensor, inner))
        return
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    flat = torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat
    digest.update(flat.view(torch.uint8).numpy().data)
