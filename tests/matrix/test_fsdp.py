"""FSDP2 on two gloo processes: the connector is sharded and synchronised like the student."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from by_hand import gap, ranks

HERE = Path(__file__).parent
LEFT_BEHIND = ("MASTER_", "WORLD_", "RANK", "LOCAL_", "NODE_", "GROUP_", "PL_", "TORCHELASTIC_")


@pytest.mark.slow
@pytest.mark.situation("FSDP2 (ModelParallelStrategy), 2 processes", result="ranks equal")
@pytest.mark.parametrize("door", [1, 2])
def test_connectors_do_not_drift_apart(door: int, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *(str(HERE / "fsdp_script.py"), str(door), str(tmp_path)),
    ]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    # tests that ran before in this process may have left the address of their own process group
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_BEHIND)}
    environment = {**kept, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ranks(tmp_path)
    assert any(key.startswith("regressors") for key in first)
    assert gap(first, second) == 0.0
