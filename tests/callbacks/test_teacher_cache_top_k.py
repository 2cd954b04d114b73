"""Caches that keep the likeliest classes and the mass of the others."""

import pytest
import torch
from cached_training import Student, fit, samples
from support import difference, make_teacher
from torch import nn
from torch.utils.data import TensorDataset

from lightning_kd.cache.layout import Layout
from lightning_kd.cache.records import Selection
from lightning_kd.callbacks import TeacherCache
from lightning_kd.data import Replayed
from lightning_kd.engine.exchange import View
from lightning_kd.engine.top import top_of
from lightning_kd.methods import TopKDecoupledKL, TopKKD


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_live_cold_and_warm_are_equal(tmp_path, k):
    runs = [fit(cache, methods=TopKKD(k)) for cache in (None, *(TeacherCache(tmp_path, None, "float32", k),) * 2)]
    assert runs[2].counts == (96, 0)
    assert runs[2].calls == 0
    assert difference(runs[0].student, runs[1].student) == difference(runs[0].student, runs[2].student) == 0


def test_smaller_sets_come_from_larger_ones(tmp_path):
    live = fit(methods=[TopKKD(2), TopKKD(3)])
    cached = fit(TeacherCache(tmp_path, dtype="float32", top_k=4), methods=[TopKKD(2), TopKKD(3)])
    assert difference(live.student, cached.student) < 1e-5


def test_half_precision(tmp_path):
    live = fit(methods=TopKKD(2))
    cold, warm = (fit(TeacherCache(tmp_path, top_k=2), methods=TopKKD(2)) for _ in range(2))
    assert difference(cold.student, warm.student) == 0
    assert 0 < difference(live.student, warm.student) < 1e-2
    fields = {field.name: str(field.stored) for field in warm.cache._readers[0].store.layout.fields}
    assert fields == {"indices": "torch.int32", "log_probabilities": "torch.float16", "log_tail": "torch.float32"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("logits", [[30.0, 0.0, -5.0, -5.0], [0.0, 0.1, 0.2, 0.3], [200.0, 0.0, 0.0, 0.0]])
def test_what_is_kept_adds_up_to_one(dtype, logits):
    view = View(torch.tensor([logits, logits[::-1]]))
    selection = Selection(dtype, True, 2, ())
    tensors = selection.tensors(view)
    layout = Layout(selection.fields(tensors))
    fields = {field.name: field for field in layout.fields}
    kept = selection.view(layout.unpack(layout.pack(tensors)), fields, torch.device("cpu")).top(2)
    exact = top_of(view.logits, 2)
    assert torch.equal(kept.indices, exact.indices)
    mass = kept.log_probabilities.exp().sum(-1) + kept.log_tail.exp()
    torch.testing.assert_close(mass, torch.ones(2), rtol=1e-5, atol=1e-6)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 0}[dtype]
    torch.testing.assert_close(kept.log_tail, exact.log_tail, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(kept.log_probabilities, exact.log_probabilities, rtol=tolerance, atol=tolerance)


def test_all_classes_leave_no_tail():
    top = top_of(torch.randn(3, 4), 9)
    assert top.indices.tolist() == [[0, 1, 2, 3]] * 3
    assert (top.log_tail == -torch.inf).all()
    logits = torch.randn(50, 12, dtype=torch.float64)
    for k in (1, 5, 11):
        whole, narrowed = top_of(logits, k), top_of(logits, 12).narrowed(k)
        assert torch.equal(whole.indices, narrowed.indices)
        torch.testing.assert_close(whole.log_tail, narrowed.log_tail)


class Tokens(nn.Module):
    """A tiny language model: (B, T) to (B, T, V)."""

    def __init__(self, width):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, width), nn.Linear(width, 11)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


class Speaker(Student):
    def __init__(self):
        super().__init__(lr=0.02)
        torch.manual_seed(1)
        self.model = Tokens(6)

    def training_step(self, batch, batch_idx):
        tokens, labels = batch
        return nn.functional.cross_entropy(self.model(tokens).flatten(0, 1), labels.flatten(), ignore_index=-100)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_tokens_at_any_temperature(tmp_path, temperature):
    def run(cache):
        torch.manual_seed(2)
        tokens = torch.randint(11, (16, 6))
        labels = torch.where(torch.rand(16, 6) < 0.2, -100, tokens)
        teacher, methods = Tokens(9), TopKDecoupledKL(k=4, temperature=temperature)
        dataset = Replayed(TensorDataset(tokens, labels))
        return fit(cache, dataset=dataset, teacher=teacher, student=Speaker(), methods=methods, epochs=3)

    live, cold, warm = (run(cache) for cache in (None, *(TeacherCache(tmp_path, None, "float32", 4),) * 2))
    assert warm.counts == (48, 0)
    assert difference(cold.student, warm.student) == 0
    assert difference(live.student, warm.student) < 1e-6


def test_images_without_a_teacher_module_in_memory_order(tmp_path):
    teacher = make_teacher()
    fit(TeacherCache(tmp_path, top_k=2), methods=TopKKD(1), teacher=teacher, dataset=samples(views=1), epochs=1)
    again = fit(TeacherCache(tmp_path, top_k=2), methods=TopKKD(2), dataset=samples(views=1), epochs=1)
    assert again.counts == (24, 0)
