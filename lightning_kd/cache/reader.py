"""One teacher's entries in a training step: read where all of the batch are there, computed and kept otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.inputs import batch_size, device_of, input_checksums
from lightning_kd.cache.key import Key
from lightning_kd.cache.layout import Layout
from lightning_kd.cache.records import Selection
from lightning_kd.cache.store import Store
from lightning_kd.engine.exchange import View
from lightning_kd.engine.taps import Call


class Reader:
    """Answers for one teacher.

    The views are those of the entries also where the teacher has just been called: a run that fills the cache and one
    that reads it see the same numbers.

    Args:
        directory: of the entries.
        key: what they are.
        selection: what is kept.
        samples: size of the data set.
        views: views of each sample.
        budget: bytes allowed, or ``None``.

    Attributes:
        hits: samples that were read.
        misses: samples of the batches for which the teacher was called.
        check_next: whether to compare the next batch's inputs also where that makes the device wait.
    """

    def __init__(
        self, directory: Path, key: Key, selection: Selection, samples: int, views: int, budget: int | None
    ) -> None:
        self.directory, self.key, self.selection, self.budget = directory, key, selection, budget
        self.samples, self.views = samples, views
        self.hits = self.misses = 0
        self.check_next = True
        self.store = Store.open(directory)

    def view(self, keys: Sequence[str], call: Call, teach: Callable[[], View]) -> View:
        """The teacher's view of a batch.

        Args:
            keys: which draws its samples are; see :class:`~lightning_kd.data.IndexedDraw`.
            call: the student's call.
            teach: calls the teacher.

        Raises:
            TeacherCacheError: if samples cannot be told apart, or their input is not what the entries are for.
        """
        slots = self._slots(keys, call)
        device = device_of(call.args, call.kwargs)
        checks = self.check_next or device.type == "cpu"
        self.check_next = False
        found = self.store.read(slots) if self.store is not None else None
        if found is not None:
            rows, given = found
            if checks:
                _check_inputs(keys, given, input_checksums(call.args, call.kwargs, len(slots)))
            self.hits += len(slots)
        else:
            rows = self._computed(slots, keys, call, teach())
            self.misses += len(slots)
        assert self.store is not None
        layout = self.store.layout
        return self.selection.view(layout.unpack(rows), {field.name: field for field in layout.fields}, device)

    def close(self) -> None:
        """Close the files."""
        if self.store is not None:
            self.store.close()

    def _slots(self, keys: Sequence[str], call: Call) -> list[int]:
        count = batch_size(call.args, call.kwargs)
        if not all(keys) or not keys:
            raise TeacherCacheError(
                "the batch does not say which samples it holds, so a teacher's answers cannot be kept: wrap the "
                "training data, DataLoader(lightning_kd.data.Replayed(dataset, transform, views=...)); with a collate "
                "function of your own, collate_fn=IndexedCollate(yours)"
            )
        if len(keys) != count:
            raise TeacherCacheError(
                f"the batch has {len(keys)} samples, but the student's network was called with {count}; a cache has "
                "one entry a sample and view, so it cannot serve a step that repeats, splits or drops samples"
            )
        pairs = [(int(view), int(index)) for view, index in (key.split(".") for key in keys)]
        return [view * self.samples + index for view, index in pairs]

    def _computed(self, slots: list[int], keys: Sequence[str], call: Call, view: View) -> Tensor:
        tensors = self.selection.tensors(view)
        for name, tensor in tensors.items():
            if not tensor.dim() or len(tensor) != len(slots):
                raise TeacherCacheError(
                    f"the teacher's {name} have shape {tuple(tensor.shape)} for a batch of {len(slots)}; only tensors "
                    "with one row a sample can be kept"
                )
        if self.store is None:
            layout = Layout(self.selection.fields(tensors))
            self.store = Store.create(self.directory, layout, self.samples * self.views, self.key, self.budget)
        rows = self.store.layout.pack(tensors)
        checksums = input_checksums(call.args, call.kwargs, len(slots))
        known = self.store.given(slots)
        present = [position for position, given in enumerate(known) if given is not None]
        _check_inputs(
            [keys[position] for position in present],
            [given for given in known if given is not None],
            [checksums[position] for position in present],
        )
        missing = [position for position, given in enumerate(known) if given is None]
        if missing:
            self.store.write(
                [slots[position] for position in missing],
                rows[missing],
                [checksums[position] for position in missing],
            )
        return rows


def _check_inputs(keys: Sequence[str], given: Sequence[int], now: Sequence[int]) -> None:
    for key, before, after in zip(keys, given, now, strict=True):
        if before != after:
            view, index = key.split(".")
            raise TeacherCacheError(
                f"sample {index} in view {view} reaches the network with other values than when the teacher's answer "
                "to it was kept. Is it changed on the way, by noise, augmentation or mixing in training_step or on the "
                "device, or is the network called more than once a step? Move random changes into the data set: "
                "Replayed(dataset, transform), MixedUp, CutMixed; or train without the cache. If the data themselves "
                "have changed, change `fingerprint=` of Replayed."
            )
