"""Without mmdet, or with versions that do not fit: runs where mmdet is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from lightning_kd.detection.mmdet import load_config, load_model
from lightning_kd.detection.mmdet.ops import install_ops
from lightning_kd.detection.mmdet.require import require_mmdet

pytestmark = pytest.mark.skipif(find_spec("mmdet") is not None, reason="mmdet is installed")

Install = Callable[[dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes packages importable, given the text of their ``__init__.py``."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(packages: dict[str, str]) -> None:
        for name, text in packages.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(text)

    yield make
    for name in ("mmengine", "mmcv", "mmcv._ext", "mmdet"):
        sys.modules.pop(name, None)


def version(number: str) -> str:
    return f"__version__ = {number!r}\n"


def test_missing_packages_come_with_the_command_that_installs_them() -> None:
    with pytest.raises(ModuleNotFoundError, match=r'mmengine, mmcv-lite, mmdet.*pip install "lightning-kd\[mmdet\]"'):
        require_mmdet()


def test_only_what_is_missing_is_named(install: Install) -> None:
    install({"mmengine": version("0.10.7"), "mmcv": version("2.1.0")})
    with pytest.raises(ModuleNotFoundError, match="need mmdet, not installed"):
        require_mmdet()


@pytest.mark.parametrize("function", [load_config, load_model])
def test_whoever_needs_mmdet_says_so(function: Callable[[str], object]) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lightning-kd\[mmdet\]"):
        function("retinanet_r18_fpn_1x_coco")


def test_python_that_is_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    with pytest.raises(ModuleNotFoundError, match=r"does not run on Python 3\.14"):
        require_mmdet()


def test_a_version_of_mmcv_that_mmdet_refuses(install: Install) -> None:
    refusal = "import mmcv\nassert mmcv.__version__ < '2.2.0', f'MMCV=={mmcv.__version__} is incompatible.'\n"
    install({"mmengine": version("0.10.7"), "mmcv": version("2.2.0"), "mmdet": version("3.3.0") + refusal})
    with pytest.raises(ImportError, match=r"mmcv 2\.2\.0: MMCV==2\.2\.0 is incompatible.*lightning-kd\[mmdet\]"):
        require_mmdet()


def test_an_old_mmdet(install: Install) -> None:
    install({"mmengine": version("0.10.7"), "mmcv": version("2.1.0"), "mmdet": version("2.28.2")})
    with pytest.raises(ImportError, match=r"found mmdet 2\.28\.2, but mmdet 3 is needed"):
        require_mmdet()


def test_operators_are_installed_once(install: Install) -> None:
    install({"mmengine": version("0.10.7"), "mmcv": version("2.1.0"), "mmdet": version("3.3.0")})
    require_mmdet()
    first = sys.modules["mmcv._ext"]
    assert install_ops()
    assert sys.modules["mmcv._ext"] is first


def test_compiled_operators_are_left_alone(install: Install, tmp_path: Path) -> None:
    install({"mmcv": version("2.1.0")})
    (tmp_path / "mmcv" / "_ext.py").write_text("compiled = True\n")
    assert not install_ops()
    from mmcv import _ext

    assert _ext.compiled


def test_other_operators_say_that_they_are_missing(install: Install) -> None:
    install({"mmcv": version("2.1.0")})
    install_ops()
    with pytest.raises(NotImplementedError, match=r"'softnms' exists only in compiled mmcv.*Available without: nms"):
        sys.modules["mmcv._ext"].softnms(1)
