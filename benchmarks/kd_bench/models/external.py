"""Networks of timm and torchvision; the libraries are imported when they are asked for."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from kd_bench.errors import UserError
from kd_bench.names import unknown

if TYPE_CHECKING:
    from kd_bench.models.registry import Builder


def timm_builder(name: str) -> Builder:
    """Constructor of timm's network ``name``.

    Raises:
        UserError: if timm is not installed or has no such network.
    """
    timm: Any = _library("timm")
    base = name.partition(".")[0]  # a tag after the dot names pretrained weights
    if not timm.is_model(base):
        raise unknown("timm model", name, timm.list_models())
    return partial(timm.create_model, name)


def torchvision_builder(name: str) -> Builder:
    """Constructor of torchvision's network ``name``.

    Raises:
        UserError: if torchvision is not installed or has no such network.
    """
    models: Any = _library("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    return partial(models.get_model, name)


def _library(module: str) -> Any:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"models with the prefix '{package}:' need it: `pip install {package}` ({error}).") from error
