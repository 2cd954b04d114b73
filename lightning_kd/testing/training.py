"""The checks that need a Trainer: two distributed ranks end equal, and a resumed run ends where a whole one does."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd.data import IndexedCollate, WithIndex
from lightning_kd.distillation import Distillation
from lightning_kd.testing.checks import ContractError
from lightning_kd.testing.networks import image_batch, token_batch
from lightning_kd.testing.rig import NUM_SAMPLES, Inputs, MethodFactory, inputs_for, tiny_network
from lightning_kd.testing.scenes import collate_scenes, scene_samples

_BATCH_SIZE = 8


class TinyModule(L.LightningModule):
    """A tiny student. It seeds every step, so that a resumed run draws the random numbers of a whole one.

    Args:
        inputs: what its network sees.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.model = tiny_network(inputs, teacher=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy, or the sum of the detector's losses."""
        torch.manual_seed(self.global_step)
        if isinstance(batch, dict):
            output = self.model(batch["images"], batch["sizes"], batch["targets"])
            return torch.stack(list(output.losses.values())).sum()
        x, y = batch
        return F.cross_entropy(self.model(x).flatten(0, -2), y.flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


class _Interrupt(L.Callback):
    """Ends the training after the first epoch, as a time limit would."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


def check_resume(factory: MethodFactory, inputs: Inputs) -> None:
    """A run that is interrupted and resumed ends bit-equal to a whole one."""
    with tempfile.TemporaryDirectory() as folder, _silence():
        checkpoint = Path(folder, "interrupted.ckpt")
        module, callback = _prepare(factory, inputs)
        _trainer(folder, [callback]).fit(module, _loader(inputs))
        whole = _outcome(module, callback)

        module, callback = _prepare(factory, inputs)
        interrupted = _trainer(folder, [callback, _Interrupt()])
        interrupted.fit(module, _loader(inputs))
        interrupted.save_checkpoint(checkpoint)

        module, callback = _prepare(factory, inputs, seed=7)
        # The checkpoint was written a moment ago; schedules and optimizers of others may hold more than tensors.
        _trainer(folder, [callback]).fit(module, _loader(inputs), ckpt_path=checkpoint, weights_only=False)
        changed = _different(_outcome(module, callback), whole)
    if changed:
        raise ContractError(
            f"a resumed run ends with other values in {changed}: state is kept outside parameters and buffers, or a "
            "schedule counts calls instead of reading exchange.progress"
        )


def check_two_ranks(factory: MethodFactory, inputs: Inputs) -> None:
    """Two distributed ranks end with bit-equal students, method parameters and buffers."""
    problems = train_on_two_ranks({"method": (factory, inputs)})
    problem = problems.get("method", "the two processes ended without a result; their output says more")
    if problem:
        raise ContractError(problem)


def train_on_two_ranks(methods: Mapping[str, tuple[MethodFactory, Inputs]]) -> dict[str, str]:
    """Train methods one after another in one pair of processes (gloo, CPU).

    Args:
        methods: by name, how to make a method and what its networks see.

    Returns:
        By name, what went wrong; ``""`` for nothing. An exception ends the job: later methods then have no entry.
    """
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        ranks = [fork.Process(target=_rank_main, args=(rank, port, folder, methods)) for rank in range(2)]
        for process in ranks:
            process.start()
        waiting = list(ranks)
        while waiting:
            multiprocessing.connection.wait([process.sentinel for process in waiting])
            if any(process.exitcode for process in ranks):
                # the other rank waits for this one in a collective
                for process in ranks:
                    process.terminate()
            waiting = [process for process in waiting if process.exitcode is None]
        for process in ranks:
            process.join()
        return _merged(folder)


def _merged(folder: str) -> dict[str, str]:
    """The problems of both ranks. The first in time counts: the other rank only lost its partner."""
    problems: dict[str, tuple[float, str]] = {}
    for path in Path(folder).glob("rank-*.pt"):
        found: dict[str, tuple[float, str]] = torch.load(path)
        for name, (seconds, problem) in found.items():
            known = problems.get(name, (seconds, ""))
            problems[name] = (seconds, problem) if not known[1] or (problem and seconds < known[0]) else known
    return {name: problem for name, (_, problem) in problems.items()}


def _rank_main(rank: int, port: int, folder: str, methods: Mapping[str, tuple[MethodFactory, Inputs]]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank), WORLD_SIZE="2"
    )
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    problems: dict[str, tuple[float, str]] = {}
    for name, (factory, inputs) in methods.items():
        failed = False
        try:
            with _silence():
                problem = _train_on_this_rank(factory, inputs, folder)
        except Exception as error:
            problem, failed = f"training on two ranks fails with {type(error).__name__}: {error}", True
        problems[name] = (time.time(), problem)
        torch.save(problems, Path(folder, f"rank-{rank}.pt"))
        if failed:
            sys.exit(1)
    torch.distributed.destroy_process_group()


def _train_on_this_rank(factory: MethodFactory, inputs: Inputs, folder: str) -> str:
    module, callback = _prepare(factory, inputs)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    strategy = DDPStrategy(process_group_backend="gloo")
    _trainer(folder, [callback, _Interrupt()], devices=2, strategy=strategy).fit(module, _loader(inputs))
    mine = _outcome(module, callback, running_statistics=False)
    gathered: list[Any] = [None, None]
    torch.distributed.all_gather_object(gathered, mine)
    changed = _different(gathered[0], gathered[1])
    if changed:
        return (
            f"two ranks end with different values in {changed}: statistics, banks or random choices of the method must "
            "be gathered or made the same on all ranks"
        )
    if not all(value.isfinite().all() for value in mine.values() if value.is_floating_point()):
        return "training on two ranks ends with values that are not finite"
    if not _different(before, dict(module.model.state_dict())):
        return "training on two ranks does not change the student"
    return ""


def _prepare(factory: MethodFactory, inputs: Inputs, seed: int = 0) -> tuple[TinyModule, Distillation]:
    torch.manual_seed(100)
    teacher = tiny_network(inputs, teacher=True)
    torch.manual_seed(seed)
    module, method = TinyModule(inputs), factory()
    # Published weights reach thousands and belong to published recipes; here the networks must only move.
    method.weight = 0.1
    return module, Distillation(teacher if method.needs_teacher else None, method)


def _loader(inputs: Inputs) -> DataLoader[Any]:
    if inputs == "scenes":
        collate = IndexedCollate(collate_scenes)
        return DataLoader(WithIndex(scene_samples(NUM_SAMPLES)), batch_size=_BATCH_SIZE, collate_fn=collate)
    make = token_batch if inputs == "tokens" else image_batch
    return DataLoader(WithIndex(TensorDataset(*make(NUM_SAMPLES))), batch_size=_BATCH_SIZE)


def _trainer(folder: str, callbacks: list[L.Callback], devices: int = 1, strategy: Any = "auto") -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=2,
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _outcome(module: TinyModule, callback: Distillation, *, running_statistics: bool = True) -> dict[str, Tensor]:
    """All that training changes. The statistics of batch normalisation are each rank's own by design."""
    parts: list[nn.Module] = [module.model, *callback.engine.methods, *callback.peers]
    return {
        f"{type(part).__name__}.{name}": value.detach().clone()
        for part in parts
        for name, value in part.state_dict().items()
        if isinstance(value, Tensor) and (running_statistics or not name.endswith(("running_mean", "running_var")))
    }


def _different(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> list[str]:
    """Names of the first few entries that are not bit-equal."""
    return [name for name in left if name not in right or not torch.equal(left[name], right[name])][:3]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the Trainer's notes out of a report."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def targets(methods: Mapping[str, MethodFactory]) -> dict[str, tuple[MethodFactory, Inputs]]:
    """What :func:`train_on_two_ranks` takes, with each method's kind of inputs found out."""
    return {name: (factory, inputs_for(factory())) for name, factory in methods.items()}
