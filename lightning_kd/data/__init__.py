"""Data sets whose samples can be told apart, and drawn again just as they were.

:class:`WithIndex` adds indices, for methods that remember samples. :class:`Replayed` also makes random transforms
repeatable, for :class:`~lightning_kd.callbacks.TeacherCache`; :class:`MixedUp` and :class:`CutMixed` mix such samples.
"""

from lightning_kd.data.indexed import Indexed, IndexedCollate, IndexedDraw, WithIndex
from lightning_kd.data.mixed import CutMixed, MixedUp
from lightning_kd.data.replay import Replayed
from lightning_kd.data.replay_check import ReplayError, check_replay
from lightning_kd.data.replayable import ReplayableDataset

__all__ = [
    "CutMixed",
    "Indexed",
    "IndexedCollate",
    "IndexedDraw",
    "MixedUp",
    "ReplayError",
    "ReplayableDataset",
    "Replayed",
    "WithIndex",
    "check_replay",
]
