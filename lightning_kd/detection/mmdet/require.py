"""Whether MMDetection is there, in versions that fit; if not, what to install."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

INSTALL = 'python -m pip install "lightning-kd[mmdet]"'

_PACKAGES = {"mmengine": "mmengine", "mmcv": "mmcv-lite", "mmdet": "mmdet"}
"""Import name → distribution."""

_NO_PYTHON = (3, 14)
"""From this version of Python on, mmengine and mmcv do not run: ``pkgutil.find_loader`` is gone."""


def require_mmdet() -> None:
    """Import mmdet, and before it the operators that a plain installation lacks.

    See :func:`~lightning_kd.detection.mmdet.ops.install_ops`. Works with mmdet 3 and any mmcv 2 that it accepts,
    compiled or not.

    Raises:
        ImportError: if a package is missing or of a version that does not fit; the message has the command that
            installs what fits.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(_missing(missing), name=missing[0])
    versions = {package: _version(package) for package in _PACKAGES if package != "mmdet"}
    from lightning_kd.detection.mmdet.ops import install_ops

    install_ops()
    try:
        versions["mmdet"] = _version("mmdet")
    except AssertionError as error:  # how mmdet refuses a version of mmcv or mmengine
        found = " and ".join(f"{package} {version}" for package, version in versions.items())
        raise ImportError(f"mmdet does not work with {found}: {error} Versions that fit: {INSTALL}") from error
    major = versions["mmdet"].partition(".")[0]
    if major != "3":
        raise ImportError(f"found mmdet {versions['mmdet']}, but mmdet 3 is needed: {INSTALL}")


def _version(package: str) -> str:
    return str(getattr(importlib.import_module(package), "__version__", "of unknown version"))


def _missing(missing: list[str]) -> str:
    distributions = ", ".join(_PACKAGES[package] for package in missing)
    needs = f"MMDetection's detectors need {distributions}, not installed here"
    if sys.version_info >= _NO_PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        return f"{needs}; mmdet 3.3 does not run on Python {found}. With Python 3.11 to 3.13: {INSTALL}"
    return f"{needs}: {INSTALL}"
