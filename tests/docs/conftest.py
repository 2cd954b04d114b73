"""The generator of the docs lies beside them, and what these tests share lies here; neither is in a package."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent

for folder in (HERE, HERE.parents[1] / "docs"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
