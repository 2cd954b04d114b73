"""How a benchmark is run, as opposed to what is run: nothing here changes a number."""

from __future__ import annotations

from dataclasses import dataclass

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class RunOptions:
    """Choices of whoever starts a benchmark; they travel with the items to wherever these are done.

    Attributes:
        loggers: where the curves of the trainings go besides the CSV files: ``wandb``, ``tensorboard``, ``mlflow``.
        checkpoint_seconds: a training that lasts longer leaves a checkpoint this often, from which it goes on if it is
            interrupted.
    """

    loggers: tuple[str, ...] = ()
    checkpoint_seconds: float = CHECKPOINT_SECONDS
