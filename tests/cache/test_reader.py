"""One teacher's entries in a step: when inputs are compared, and what is asked of the batch."""

import pytest
import torch

from lightning_kd.cache import reader as reader_module
from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.reader import Reader
from lightning_kd.cache.records import Selection
from lightning_kd.engine.exchange import View
from lightning_kd.engine.taps import Call

KEYS = ["0.0", "1.2", "0.1"]


def make(folder):
    return Reader(folder, {}, Selection(torch.float32, True, None, ()), samples=3, views=2, budget=None)


def call(x):
    return Call((x,), {}, None, {})


def never():
    raise AssertionError("the teacher was called")


def test_reads_what_it_has_written(tmp_path):
    x, logits = torch.randn(3, 4), torch.randn(3, 5)
    first, second = make(tmp_path), make(tmp_path)
    assert torch.equal(first.view(KEYS, call(x), lambda: View(logits)).logits, logits)
    assert second.store is None  # it was made before there was anything
    second = make(tmp_path)
    order = [2, 0, 1]
    found = second.view([KEYS[i] for i in order], call(x[order]), never)
    assert torch.equal(found.logits, logits[order])
    assert (first.hits, first.misses, second.hits, second.misses) == (0, 3, 3, 0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_inputs_are_compared_where_that_is_free_and_once_an_epoch_elsewhere(tmp_path, monkeypatch, device):
    monkeypatch.setattr(reader_module, "device_of", lambda *args: torch.device(device))
    monkeypatch.setattr(Selection, "view", lambda self, tensors, fields, device: View(tensors["logits"]))
    x = torch.randn(3, 4)
    reader = make(tmp_path)
    reader.view(KEYS, call(x), lambda: View(torch.randn(3, 5)))
    reader.view(KEYS, call(x), never)
    if device == "cuda":
        reader.view(KEYS, call(x + 1), never)
    reader.check_next = True
    with pytest.raises(TeacherCacheError, match="sample 0 in view 0 reaches the network with other values"):
        reader.view(KEYS, call(x + 1), never)


def test_inputs_of_half_filled_batches_are_always_compared(tmp_path):
    x, logits = torch.randn(3, 4), torch.randn(3, 5)
    reader = make(tmp_path)
    reader.view(KEYS[:2], call(x[:2]), lambda: View(logits[:2]))
    changed = x.clone()
    changed[1] += 1
    with pytest.raises(TeacherCacheError, match="sample 2 in view 1"):
        reader.view(KEYS, call(changed), lambda: View(logits))
    assert reader.store.given([1]) == [None]  # nothing of such a batch is kept
    reader.view(KEYS, call(x), lambda: View(logits))
    assert reader.misses == 5


@pytest.mark.parametrize("keys", [(), ["", "", ""]])
def test_batches_without_keys(tmp_path, keys):
    with pytest.raises(TeacherCacheError, match=r"wrap the training data.*Replayed"):
        make(tmp_path).view(keys, call(torch.zeros(3, 4)), never)
