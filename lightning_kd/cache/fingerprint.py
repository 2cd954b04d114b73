"""A fingerprint of data sets, transforms and functions: the same in every process, another after a change."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import io
import pathlib
import random
import re
import sys
import types
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor

from lightning_kd.cache.code import code_bytes, global_names, installed_version
from lightning_kd.cache.errors import FingerprintError
from lightning_kd.cache.state import is_open, state_of

_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis))
_WRITTEN = (
    range,
    slice,
    pathlib.PurePath,
    re.Pattern,
    decimal.Decimal,
    fractions.Fraction,
    datetime.date,
    datetime.timedelta,
    torch.dtype,
    torch.device,
    torch.Size,
)
"""Types whose ``repr`` says all, in every process."""

_BUILTIN_FUNCTIONS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_CONTAINERS = (list, tuple, deque, set, frozenset, dict)
SETTINGS = (*_PLAIN, *_WRITTEN, *_CONTAINERS, Tensor, enum.Enum, types.FunctionType, functools.partial)
"""Types of values that say how something is done."""

_RUNNING = (io.IOBase, types.GeneratorType, types.CoroutineType, types.FrameType)
_ADVICE = 'pass `fingerprint="..."`, a text of your own that you change whenever the data or the transform changes'


def fingerprint(value: Any, name: str = "value") -> str:
    """A hash of what an object is and does.

    It covers classes, their state (``__dict__`` and slots, to any depth), tensors and arrays with their content,
    enumerations, and functions with their instructions, defaults, closures and the plain values that they read from
    their module. Of installed libraries the version counts, of other code the instructions. The state of random
    generators does not count. Files that a data set opens later are not looked at.

    Args:
        value: the object.
        name: what to call it in an error.

    Returns:
        64 hexadecimal digits.

    Raises:
        FingerprintError: if the object holds something whose state cannot be seen, such as an open file.

    >>> fingerprint([1, 2]) == fingerprint([1, 2])
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    return hashlib.sha256(_Walk().encode(value, name)).hexdigest()


class _Walk:
    """Encodes objects; remembers those it has seen, and those it is inside of."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._inside: list[int] = []
        self._alive: list[Any] = []  # an id is taken again once its object is gone

    def encode(self, value: Any, path: str) -> bytes:
        """Bytes that are equal for equal objects only."""
        if type(value) in _PLAIN:
            return repr(value).encode()
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._inside:
            return f"cycle {len(self._inside) - self._inside.index(key)}".encode()
        self._inside.append(key)
        try:
            encoded = hashlib.sha256(self._structure(value, path)).digest()
        finally:
            self._inside.pop()
        self._known[key] = encoded
        self._alive.append(value)
        return encoded

    def _structure(self, value: Any, path: str) -> bytes:
        if isinstance(value, enum.Enum):
            return _joined(b"enum", _path_of(type(value)), value.name.encode())
        if isinstance(value, _WRITTEN):
            return _joined(b"written", repr(value).encode())
        if isinstance(value, Tensor):
            return _joined(b"tensor", repr((value.dtype, tuple(value.shape))).encode(), _tensor_bytes(value))
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic | numpy.dtype):
            return self._array(numpy, value, path)
        if _is_generator(numpy, value):
            return _joined(b"random generator", _path_of(type(value)))
        if isinstance(value, type):
            return self._class(value, path)
        if callable(value) and (function := self._callable(value, path)) is not None:
            return function
        if isinstance(value, types.CellType):
            return _joined(b"cell", *(self.encode(content, path) for content in _contents(value)))
        if isinstance(value, types.ModuleType):
            return _joined(b"module", value.__name__.encode(), str(installed_version(value.__name__)).encode())
        return self._object(value, path)

    def _array(self, numpy: Any, value: Any, path: str) -> bytes:
        if isinstance(value, numpy.dtype):
            return _joined(b"dtype", str(value).encode())
        if isinstance(value, numpy.memmap) and value.filename is not None:
            status = pathlib.Path(value.filename).stat()
            facts = (value.shape, str(value.dtype), value.offset, status.st_size, status.st_mtime_ns)
            return _joined(b"memmap", f"{value.filename} {facts}".encode())
        array = numpy.asarray(value)
        if array.dtype.hasobject:
            return _joined(b"objects", self.encode(array.tolist(), path))
        return _joined(b"array", f"{array.dtype.str} {array.shape}".encode(), hashlib.sha256(array.tobytes()).digest())

    def _callable(self, value: Any, path: str) -> bytes | None:
        if isinstance(value, functools.partial):
            parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
            return _joined(b"partial", *(self.encode(part, f"{path}.{name}") for name, part in parts.items()))
        if isinstance(value, types.MethodType):
            return _joined(b"method", self.encode(value.__func__, path), self.encode(value.__self__, path))
        if isinstance(value, types.FunctionType):
            return self._function(value, path)
        if isinstance(value, _BUILTIN_FUNCTIONS):
            owner = getattr(value, "__self__", None)
            bound = b"" if owner is None or isinstance(owner, types.ModuleType) else self.encode(owner, path)
            home = f"{getattr(value, '__module__', None)}.{value.__qualname__}"
            return _joined(b"builtin", home.encode(), bound)
        return None

    def _function(self, function: types.FunctionType, path: str) -> bytes:
        version = installed_version(function.__module__)
        parts = [b"function", f"{function.__module__}.{function.__qualname__}".encode(), str(version).encode()]
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            parts += [self.encode(content, f"{path} (its variable {name})") for content in _contents(cell)]
        parts += [self.encode(function.__defaults__, path), self.encode(function.__kwdefaults__, path)]
        if version is None:
            parts += [code_bytes(function.__code__), *self._globals(function, path)]
        return _joined(*parts)

    def _globals(self, function: types.FunctionType, path: str) -> Iterable[bytes]:
        for name in sorted(set(global_names(function.__code__)) & set(function.__globals__)):
            value = function.__globals__[name]
            if isinstance(value, (*SETTINGS, type)):
                with contextlib.suppress(FingerprintError):  # a lock or a logger somewhere behind it is no setting
                    yield _joined(name.encode(), self.encode(value, f"{path} (the global {name})"))

    def _class(self, cls: type, path: str) -> bytes:
        version = installed_version(cls.__module__)
        parts = [b"class", _path_of(cls), str(version).encode()]
        if version is None and cls.__module__ != "builtins":
            for name, value in sorted(vars(cls).items()):
                function = _function_in(value)
                if function is not None:
                    parts += [name.encode(), self.encode(function, f"{path}.{name}")]
                elif not name.startswith("__") and name != "_abc_impl" and not hasattr(type(value), "__get__"):
                    parts += [name.encode(), self.encode(value, f"{path}.{name}")]
            parts += [self.encode(base, path) for base in cls.__bases__]
        return _joined(*parts)

    def _object(self, value: Any, path: str) -> bytes:
        parts = [b"object", self.encode(type(value), path)]
        if isinstance(value, Mapping):
            for key, item in value.items():
                parts += [self.encode(key, f"{path} (a key)"), self.encode(item, f"{path}[{key!r}]")]
        elif isinstance(value, AbstractSet):
            parts += sorted(self.encode(item, path) for item in value)
        elif isinstance(value, list | tuple | deque):
            parts += [self.encode(item, f"{path}[{position}]") for position, item in enumerate(value)]
        elif image := _image(value):
            return _joined(*parts, *image)
        elif isinstance(value, _RUNNING) or not is_open(type(value)):
            raise FingerprintError(f"no fingerprint can be taken of {path}, a {type(value).__qualname__}: {_ADVICE}")
        for name, item in sorted(state_of(value).items()):
            parts += [name.encode(), self.encode(item, f"{path}.{name}")]
        return _joined(*parts)


def _contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # nothing is bound to it yet
        return []


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _path_of(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__qualname__}".encode()


def _tensor_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.dtype in (torch.complex64, torch.complex128):
        flat = torch.view_as_real(flat).reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _is_generator(numpy: Any, value: Any) -> bool:
    kinds: tuple[type, ...] = (random.Random, torch.Generator)
    if numpy is not None:
        random_kinds = (numpy.random.Generator, numpy.random.RandomState, numpy.random.SeedSequence)
        kinds = (*kinds, *random_kinds, numpy.random.BitGenerator)
    return isinstance(value, kinds)


def _image(value: Any) -> tuple[bytes, ...] | None:
    module = sys.modules.get("PIL.Image")
    if module is None or not isinstance(value, module.Image):
        return None
    return value.mode.encode(), repr(value.size).encode(), hashlib.sha256(value.tobytes()).digest()


def _function_in(value: Any) -> types.FunctionType | None:
    """The function behind what stands in a class body."""
    found = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return found if isinstance(found, types.FunctionType) else None
