"""Where the numbers of every epoch go: a CSV file always, and the services that were asked for."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers import CSVLogger, Logger

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.names import unknown
from kd_bench.results import pair_slug, slug

_MLFLOW_URI = "MLFLOW_TRACKING_URI"

FLUSH_SECONDS = 1.0
"""How long the CSV file may lag behind; epochs of small trainings are shorter than it takes to open a file."""


class Curves:
    """The loggers of one attempt at an item.

    Their steps are epochs, of all of the item's trainings together. A logger that fails costs its own numbers only.

    Args:
        loggers: where the numbers go.
        describes: what the numbers are about.
    """

    def __init__(self, loggers: Iterable[Logger], describes: dict[str, Any]) -> None:
        self._loggers = list(loggers)
        self._saved = time.monotonic()
        self._try(lambda logger: logger.log_hyperparams(describes))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of an epoch."""
        self._try(lambda logger: logger.log_metrics(dict(values), step))
        if time.monotonic() - self._saved >= FLUSH_SECONDS:
            self._try(lambda logger: logger.save())
            self._saved = time.monotonic()

    def close(self, status: str) -> None:
        """Write what is left.

        Args:
            status: ``success`` or ``failed``.
        """
        self._try(lambda logger: _close(logger, status))

    def _try(self, act: Callable[[Logger], object]) -> None:
        for logger in list(self._loggers):
            try:
                act(logger)
            # a training must not fail because of a full disk, or of a service that cannot be reached
            except Exception as error:
                self._loggers.remove(logger)
                _leave_out(type(logger).__name__, error)


@contextmanager
def open_curves(item: Item) -> Iterator[Curves]:
    """The loggers of an item, in a folder of their own, so that no earlier attempt's numbers are lost.

    Args:
        item: what is trained; its options name the services.

    Raises:
        UserError: if one of the services is unknown or not installed.
    """
    check_loggers(item.options.loggers)
    # flushed by time, not by number of steps
    csv = CSVLogger(item.curves, name="", flush_logs_every_n_steps=2**62)
    services = (_open(name, item, csv.version) for name in dict.fromkeys(item.options.loggers))
    curves = Curves([csv, *(service for service in services if service is not None)], _describe(item))
    status = "failed"
    try:
        yield curves
        status = "success"
    finally:
        curves.close(status)


def check_loggers(names: Iterable[str]) -> None:
    """Find out early whether the services can be used.

    Args:
        names: such as ``wandb``.

    Raises:
        UserError: if one is unknown or not installed.
    """
    for name in names:
        if name not in _SERVICES:
            raise unknown("logger", name, list(_SERVICES))
        needed = [name]
        if name == "mlflow" and not os.environ.get(_MLFLOW_URI):
            needed.append("sqlalchemy")  # to keep the runs in a file; mlflow-skinny comes without
        if not all(map(_is_installed, needed)):
            raise UserError(
                f"the logger {name} was asked for, but is not installed: `pip install 'lightning-kd[{name}]'`, or "
                "leave it out; the curves are written as CSV anyway"
            )


def _is_installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    # a folder of that name in the working directory, where services like to write, looks like a package as well
    return found is not None and found.origin is not None


def _open(name: str, item: Item, version: int | str) -> Logger | None:
    try:
        return _SERVICES[name](item, version)
    except Exception as error:  # see Curves
        _leave_out(name, error)
        return None


def _leave_out(name: str, error: Exception) -> None:
    warnings.warn(f"the logger {name} does not work and is left out: {error}", stacklevel=3)


def _wandb(item: Item, version: int | str) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        name=f"seed-{item.seed}",
        save_dir=item.curves,
        project=os.environ.get("WANDB_PROJECT", "kd_bench"),
        group=_group(item),
        job_type=item.method_name,
        tags=[item.protocol.id, item.method_name, item.pair_name],
        # standard output belongs to the item's log
        settings=wandb.Settings(console="off", silent=True),
    )


def _tensorboard(item: Item, version: int | str) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(item.curves, name="", version=version, default_hp_metric=False)


def _mlflow(item: Item, version: int | str) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    folder = item.output.absolute()
    # several processes must not create the same database or experiment
    with FileLock(folder / ".mlflow.lock"):
        logger = MLFlowLogger(
            experiment_name=item.protocol.id,
            run_name=f"{_group(item)}/seed-{item.seed}",
            tags={"group": _group(item)},
            tracking_uri=os.environ.get(_MLFLOW_URI) or f"sqlite:///{folder / 'mlflow.db'}",
        )
        logger.experiment  # noqa: B018  # creates both
    return logger


_SERVICES: dict[str, Callable[[Item, int | str], Logger]] = {
    "wandb": _wandb,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}


def _group(item: Item) -> str:
    """The run set."""
    pair = pair_slug(item.pair.student, item.pair.teacher)
    return "/".join((slug(item.protocol.id), slug(item.method_name), pair))


def _describe(item: Item) -> dict[str, Any]:
    method = item.method.model_dump(mode="json", include={"name", "class_path", "parameters", "task_weight", "teacher"})
    return {
        "protocol": {"id": item.protocol.id, "hash": item.protocol.hash},
        "method": method,
        "pair": item.pair.model_dump(mode="json"),
        "seed": item.seed,
        "fingerprint": item.fingerprint,
    }


def _close(logger: Logger, status: str) -> None:
    logger.finalize(status)
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "finish"):  # Weights & Biases keeps a run open, which the next item would join
        experiment.finish(exit_code=0 if status == "success" else 1)
