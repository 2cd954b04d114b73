"""A teacher cache that is killed, and one that several processes share."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import lightning as L
import pytest
import torch
from cached_training import fit, samples
from support import difference

from lightning_kd.callbacks import TeacherCache
from lightning_kd.methods import KD, FitNet

METHODS = [KD(temperature=2.0), FitNet(layers={"layer2": "layer2"})]

TRAINING = """
    import sys
    sys.path[:0] = {paths!r}
    import lightning as L
    from cached_training import fit, samples
    from lightning_kd.callbacks import TeacherCache
    from lightning_kd.methods import KD, FitNet

    class Say(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            print("step", trainer.global_step, flush=True)

    fit(
        TeacherCache({folder!r}, dtype="float32"),
        dataset=samples(count=200, views=2),
        methods=[KD(temperature=2.0), FitNet(layers={{"layer2": "layer2"}})],
        callbacks=[Say()],
    )
"""


@pytest.mark.slow
def test_a_killed_training_is_resumed_with_the_same_numbers(tmp_path):
    here = Path(__file__).parents[1]
    code = textwrap.dedent(TRAINING).format(paths=[str(here), *sys.path], folder=str(tmp_path))
    for steps in (4, 23):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        while f"step {steps}\n".encode() not in (line := process.stdout.readline()):
            assert line, "the training ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    plain = fit(dataset=samples(count=200), methods=METHODS)
    resumed = fit(TeacherCache(tmp_path, dtype="float32"), dataset=samples(count=200), methods=METHODS)
    assert difference(plain.student, resumed.student) == 0
    assert resumed.counts[0] + resumed.counts[1] == 800
    # two views of 200 samples, of which at least 23 batches of 5 had been stored
    assert 0 < resumed.counts[1] <= 400 - 23 * 5
    warm = fit(TeacherCache(tmp_path, dtype="float32"), dataset=samples(count=200), methods=METHODS)
    assert warm.counts == (800, 0)
    assert difference(plain.student, warm.student) == 0


class Report(L.Callback):
    """Writes what one rank saw."""

    def __init__(self, folder, cache=None):
        self.folder, self.cache = folder, cache

    def on_train_end(self, trainer, pl_module):
        weights = sum(parameter.double().sum().item() for parameter in pl_module.model.parameters())
        counts = [self.cache.hits, self.cache.misses] if self.cache else None
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps({"weights": weights, "counts": counts}))


def on_two_ranks(folder, cache):
    torch.set_num_threads(1)
    fit(
        cache,
        methods=METHODS,
        dataset=samples(),
        callbacks=[Report(folder, cache)],
        strategy="ddp_fork",
        devices=2,
    )
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_two_ranks_share_a_cache(tmp_path):
    plain = on_two_ranks(tmp_path / "plain", None)
    cold = on_two_ranks(tmp_path / "cold", TeacherCache(tmp_path / "cache", dtype="float32"))
    warm = on_two_ranks(tmp_path / "warm", TeacherCache(tmp_path / "cache", dtype="float32"))
    assert [rank["counts"] for rank in cold] == [[24, 24]] * 2
    assert [rank["counts"] for rank in warm] == [[48, 0]] * 2
    assert len({rank["weights"] for run in (plain, cold, warm) for rank in run}) == 1
    # one process reads what two have written
    assert fit(TeacherCache(tmp_path / "cache", dtype="float32"), methods=METHODS, dataset=samples()).counts == (96, 0)
