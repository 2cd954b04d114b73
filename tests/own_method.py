"""Files with methods, as authors write them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = '''"""Mean squared error between logits."""

import torch.nn.functional as F

from lightning_kd.methods import DistillationMethod


class LogitMatching(DistillationMethod):
    def __init__(self, scale: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.scale = scale

    def forward(self, exchange):
        return self.scale * F.mse_loss(exchange.student.logits, exchange.teacher.logits.detach())
'''

SECOND = SOURCE.replace("LogitMatching", "Second")


def write_method(folder: Path, text: str = SOURCE, name: str = "my_method.py") -> str:
    """Write a file and return its path as a user would give it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@contextmanager
def forgotten(folder: Path) -> Iterator[None]:
    """Leave no module behind that was loaded from the folder: its classes could be taken for the library's."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    gc.collect()
