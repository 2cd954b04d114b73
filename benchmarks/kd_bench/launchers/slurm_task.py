"""What a job of the scheduler does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from submitit.helpers import DelayedSubmission

from kd_bench.items import Item
from kd_bench.launchers.attempt import Outcome, attempt


@dataclass(frozen=True)
class SlurmTask:
    """An item, as submitit calls it on a node.

    Attributes:
        item: what to do; its output directory is absolute, and every node sees it.
        expected: its fingerprint where the benchmark was started.
        threads: PyTorch threads.
    """

    item: Item
    expected: str
    threads: int

    def __call__(self) -> Outcome:
        """Do the item."""
        torch.set_num_threads(self.threads)
        return attempt(self.item, expected=self.expected)

    def checkpoint(self) -> DelayedSubmission:
        """What is submitted again if the job is preempted or runs out of time: the item goes on from its checkpoint."""
        return DelayedSubmission(self)
