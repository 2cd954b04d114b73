import dataclasses
import math

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from largest_tensor import Largest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation
from lightning_kd.data import WithIndex
from lightning_kd.methods.relations import CRD, noise_contrastive_loss
from lightning_kd.methods.relations._memory import MemoryBank, draw_candidates
from lightning_kd.testing import Rig
from lightning_kd.testing.rig import NUM_SAMPLES


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(scores, log_partition, num_samples):
    """The paper's posterior, one candidate at a time: P / (P + K / n) with P = exp(f) / (n Z)."""
    negatives = scores.shape[1] - 1
    total = 0
    for row in scores:
        for position, score in enumerate(row):
            p = score.exp() / (num_samples * log_partition.exp())
            noise = negatives / num_samples
            total = total - torch.log(p / (p + noise) if position == 0 else noise / (p + noise))
    return total / len(scores)


@pytest.mark.parametrize("num_samples", [10, 50_000])
def test_equals_the_posterior_of_the_paper(num_samples):
    scores, log_partition = (3 * draw(4, 6)).requires_grad_(), torch.tensor(0.7, dtype=torch.float64)
    loss, expected = noise_contrastive_loss(scores, log_partition), reference(scores, log_partition, num_samples)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, scores)[0], torch.autograd.grad(expected, scores)[0])


def test_large_scores_are_finite():
    scores = (1e4 * draw(4, 6)).float().requires_grad_()
    loss = noise_contrastive_loss(scores, torch.tensor(0.0))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_a_sample_without_negatives_keeps_its_positive():
    scores = draw(2, 4)
    valid = torch.tensor([True, False])
    expected = (
        noise_contrastive_loss(scores[:1], scores.new_zeros(())) + F.softplus(-(scores[1, 0] - math.log(3)))
    ) / 2
    torch.testing.assert_close(noise_contrastive_loss(scores, scores.new_zeros(()), valid), expected)


def test_negatives_are_uniform_over_the_other_classes():
    torch.manual_seed(0)
    bank_labels = torch.tensor([2, 0, 1, -1, 0, 2, 1, 1])
    index = torch.arange(8)[bank_labels >= 0]
    draws = 40_000
    candidates, valid = draw_candidates(bank_labels, index, bank_labels[index], draws)
    assert valid.all()
    assert candidates[:, 0].tolist() == index.tolist()
    for row, own in zip(candidates[:, 1:], bank_labels[index], strict=True):
        counts = torch.bincount(row, minlength=8)
        allowed = bank_labels != own
        assert not counts[~allowed].any()
        expected = draws / int(allowed.sum())
        # five standard deviations of a binomial count
        assert (counts[allowed] - expected).abs().max() < 5 * math.sqrt(expected)


def test_relaxed_positives_share_the_class():
    torch.manual_seed(0)
    bank_labels = torch.tensor([0, 1, 0, 1, 1, 0])
    index = torch.arange(6).repeat(200)
    candidates, _ = draw_candidates(bank_labels, index, bank_labels[index], 2, "relax")
    assert torch.equal(bank_labels[candidates[:, 0]], bank_labels[index])
    assert set(candidates[bank_labels[index] == 1, 0].tolist()) == {1, 3, 4}


def test_a_single_class_has_no_negatives():
    candidates, valid = draw_candidates(torch.zeros(4, dtype=torch.long), torch.tensor([1]), torch.tensor([0]), 3)
    assert not valid.any()
    assert candidates.max() < 4


def test_memory_does_not_grow_with_a_large_bank():
    bank, embeddings = MemoryBank(3000, 4, 0.5), draw(2, 4).float().requires_grad_()
    candidates = torch.randint(3000, (2, 1000))
    with Largest() as largest:
        bank.similarities(embeddings, "teacher", candidates).sum().backward()
    assert largest.elements <= candidates.numel() * 4 < bank.teacher.numel()


@pytest.mark.parametrize("negatives", [2, 30])
def test_similarities_by_product_and_by_choice_agree(negatives):
    torch.manual_seed(0)
    bank = MemoryBank(40, 8, 0.5)
    assert (3 * negatives * 8 >= 40 * (8 + 3)) == (negatives == 30)
    embeddings = draw(3, 8).float().requires_grad_()
    candidates = torch.randint(40, (3, negatives))
    values = bank.similarities(embeddings, "teacher", candidates)
    expected = torch.stack(
        [torch.stack([embeddings[b] @ bank.teacher[c] for c in row]) for b, row in enumerate(candidates)]
    )
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(
        torch.autograd.grad(values.square().sum(), embeddings)[0],
        torch.autograd.grad(expected.square().sum(), embeddings)[0],
    )


def test_entries_move_by_momentum_and_keep_unit_length():
    bank = MemoryBank(5, 3, 0.25)
    before = bank.student.clone(), bank.teacher.clone()
    student, teacher = F.normalize(draw(2, 3).float()), F.normalize(draw(2, 3, seed=1).float())
    bank.renew(torch.tensor([4, 1]), student, teacher)
    for now, old, fresh in zip((bank.student, bank.teacher), before, (student, teacher), strict=True):
        torch.testing.assert_close(now[4], F.normalize(0.25 * old[4] + 0.75 * fresh[0], dim=0))
        torch.testing.assert_close(now[1], F.normalize(0.25 * old[1] + 0.75 * fresh[1], dim=0))
        assert torch.equal(now[[0, 2, 3]], old[[0, 2, 3]])


def test_of_a_repeated_sample_the_first_counts():
    bank, once = MemoryBank(3, 4, 0.5), MemoryBank(3, 4, 0.5)
    once.load_state_dict(bank.state_dict())
    fresh = F.normalize(draw(3, 4).float())
    bank.renew(torch.tensor([2, 0, 2]), fresh, fresh)
    once.renew(torch.tensor([2, 0]), fresh[:2], fresh[:2])
    assert torch.equal(bank.student, once.student)


def test_the_step_as_a_whole_against_a_slow_one(monkeypatch):
    rig = Rig(lambda: CRD(embedding_dim=6, negatives=5, temperature=0.2, momentum=0.3))
    method, exchange = rig.method, rig.exchange()
    for seed in range(4):
        method(rig.exchange(seed=seed))
    student_bank, teacher_bank = method.bank.student.clone(), method.bank.teacher.clone()
    log_partitions = method.log_partitions.clone()
    (student_tap, teacher_tap) = method.pairs[0]
    student = F.normalize(method.student_embedding(exchange.student.feature(student_tap)))
    teacher = F.normalize(method.teacher_embedding(exchange.teacher.feature(teacher_tap)))
    torch.manual_seed(3)
    candidates, _ = draw_candidates(method.bank.labels, exchange.index, exchange.target, 5)
    expected = 0
    for side, bank, log_partition in ((student, teacher_bank, 0), (teacher, student_bank, 1)):
        scores = torch.stack([bank[row] @ side[b] / 0.2 for b, row in enumerate(candidates)])
        expected = expected + reference(scores.double(), log_partitions[log_partition].double(), NUM_SAMPLES)
    torch.manual_seed(3)
    assert method(exchange).item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        method.bank.student[exchange.index], F.normalize(0.3 * student_bank[exchange.index] + 0.7 * student)
    )
    assert torch.equal(method.log_partitions, log_partitions)


def test_the_partition_is_that_of_the_first_batch():
    rig = Rig(lambda: CRD(negatives=7))
    scores = []
    similarities = rig.method.bank.similarities
    rig.method.bank.similarities = lambda *args: scores.append(similarities(*args)) or scores[-1]
    rig.method(rig.exchange())
    expected = torch.stack([(side / rig.method.temperature).exp().mean().log() for side in scores])
    torch.testing.assert_close(rig.method.log_partitions, expected.detach())


def test_classes_are_learned_as_samples_are_seen():
    rig = Rig(CRD)
    assert (rig.method.bank.labels == -1).all()
    exchange = rig.exchange(seed=1)
    rig.method(exchange)
    assert torch.equal(rig.method.bank.labels[exchange.index], exchange.target)
    assert (rig.method.bank.labels == -1).sum() == NUM_SAMPLES - 8


def test_refusals():
    rig = Rig(CRD)
    with pytest.raises(ValueError, match="WithIndex"):
        rig.method(dataclasses.replace(rig.exchange(), index=None))
    with pytest.raises(ValueError, match="class indices"):
        rig.method(dataclasses.replace(rig.exchange(), target=torch.rand(8, 5)))
    with pytest.raises(ValueError, match="momentum"):
        CRD(momentum=1.0)
    with pytest.raises(ValueError, match="positives"):
        CRD(positives="any")


class Student(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.seen = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen.append(type(batch))
        return F.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(trainer, student, wrap=WithIndex):
    torch.manual_seed(0)
    dataset = TensorDataset(draw(12, 4).float(), torch.arange(12) % 3)
    teacher = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    method = CRD(embedding_dim=5, negatives=6)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
        callbacks=[Distillation(teacher, method)],
        **trainer,
    )
    trainer.fit(student, DataLoader(wrap(dataset), batch_size=3))
    return method


def test_trains_on_a_plain_data_set_behind_the_index_wrapper():
    student = Student()
    method = fit({}, student)
    assert set(student.seen) == {list}
    assert method.bank.labels.tolist() == [0, 1, 2] * 4
    torch.testing.assert_close(method.bank.student.norm(dim=1), torch.ones(12))


def test_an_unwrapped_data_set_is_refused():
    with pytest.raises(ValueError, match="WithIndex"):
        fit({}, Student(), wrap=lambda dataset: dataset)
