"""The package as a whole: light imports, discovery, re-exports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lightning_kd.functional
from lightning_kd import methods
from lightning_kd.methods import DistillationMethod

HEAVY = ("torchvision", "timm", "sklearn", "matplotlib", "plotly", "wandb", "ray", "mmdet", "kd_bench")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light() -> None:
    assert loaded_by("import lightning_kd") == set()
    # Lightning and torchmetrics import some of these themselves, where they are installed
    others = loaded_by("import lightning, torchmetrics")
    everything = "from lightning_kd import *; from lightning_kd.methods import discover; discover()"
    assert loaded_by(everything) <= others
    assert loaded_by("from lightning_kd.functional import *; import lightning_kd.callbacks") <= others


def test_discovery_finds_every_method() -> None:
    found = methods.discover()
    assert {"KD", "DKD", "PLD", "AttentionTransfer", "FitNet"} <= set(found)
    assert all(issubclass(method, DistillationMethod) for method in found.values())
    assert methods.KD is found["KD"]
    assert methods.family(found["KD"]) == "logits"


def test_every_method_has_a_docstring_and_a_citation_or_is_a_baseline() -> None:
    for name, method in methods.discover().items():
        assert method.__doc__, name
        assert method.citation is None or 2000 < method.citation.year < 2030


def test_aliases_lead_to_their_method_and_never_to_two() -> None:
    names: dict[str, str] = {}
    for name, method in methods.discover().items():
        for alias in method.aliases:
            assert alias not in methods.discover(), alias
            assert names.setdefault(alias, name) == name, alias
            assert getattr(methods, alias) is method


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(AttributeError, match="has no method 'KDD'; the methods are"):
        _ = methods.KDD


def test_every_public_loss_is_re_exported() -> None:
    exported = set(lightning_kd.functional.__all__)
    for family in ("logits", "features", "relations", "online", "self_distillation", "detection", "language"):
        module = getattr(__import__(f"lightning_kd.methods.{family}").methods, family)
        losses = {name for name in module.__all__ if name.endswith("_loss")}
        assert losses <= exported, losses - exported
