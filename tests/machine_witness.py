"""Methods that fail at once, and say what the process that trains with them looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch
from torch import Tensor

from lightning_kd import DistillationMethod, Exchange


class Witness(DistillationMethod):
    """Tells the process's share of the machine."""

    def forward(self, exchange: Exchange) -> Tensor:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        seen = {
            "pid": os.getpid(),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "torch": torch.get_num_threads(),
            "libraries": [int(os.environ[name]) for name in names],
        }
        raise RuntimeError(f"Seen: {json.dumps(seen)}")


class Parent(DistillationMethod):
    """Leaves a child behind, as an item does that is killed while several processes train it."""

    def forward(self, exchange: Exchange) -> Tensor:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        raise RuntimeError(f"Child: {child.pid}")
