"""All hostile submissions."""

from __future__ import annotations

from hostile import detectors, files, histories, methods, scores, statements, texts
from hostile.table import CASES

__all__ = ["CASES", "detectors", "files", "histories", "methods", "scores", "statements", "texts"]
