"""Class means, the distribution of the ratios and the order of held-out batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_kd.callbacks.fusion.batches import HeldOutBatches
from lightning_kd.callbacks.fusion.class_means import ClassMeans
from lightning_kd.callbacks.fusion.distribution import AlphaDistribution


def test_class_means() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4), torch.randint(3, (30,))
    gathered = ClassMeans(4)
    for start in range(0, 30, 7):
        gathered.add(logits[start : start + 7], labels[start : start + 7])
    means = gathered.means()
    for label in range(3):
        expected = logits[labels == label].softmax(-1).double().mean(0)
        torch.testing.assert_close(means[label], expected, rtol=1e-6, atol=1e-7)
    assert means[3].tolist() == [0.25] * 4


class OneProcess:
    def reduce(self, value: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return value


def test_distribution() -> None:
    torch.manual_seed(0)
    alpha, right = torch.rand(5000), torch.rand(5000) < 0.3
    gathered = AlphaDistribution()
    assert gathered.take(OneProcess()) == {}
    for part, truth in zip(alpha.split(64), right.split(64), strict=True):
        gathered.add(part, truth)
    summary = gathered.take(OneProcess())
    assert summary["mean"].item() == pytest.approx(alpha.mean().item(), abs=1e-5)
    assert summary["std"].item() == pytest.approx(alpha.std(correction=0).item(), abs=1e-5)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        found = summary[f"q{round(100 * quantile):02d}"].item()
        assert found == pytest.approx(alpha.quantile(quantile).item(), abs=1.5e-3)
    assert summary["teacher_right"].item() == pytest.approx(alpha[right].mean().item(), abs=1e-5)
    assert summary["teacher_wrong"].item() == pytest.approx(alpha[~right].mean().item(), abs=1e-5)
    assert gathered.take(OneProcess()) == {}


def test_distribution_at_the_ends() -> None:
    gathered = AlphaDistribution()
    gathered.add(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([True, True, True]))
    summary = gathered.take(OneProcess())
    assert "teacher_wrong" not in summary
    assert summary["q95"].item() == pytest.approx(1.0, abs=1e-3)
    gathered.add(torch.tensor([0.5]), None)
    assert set(gathered.take(OneProcess())) == {"mean", "std", "q05", "q25", "q50", "q75", "q95"}


def held_out(**kwargs: Any) -> HeldOutBatches:
    return HeldOutBatches(DataLoader(TensorDataset(torch.arange(11)), batch_size=3), None, 5, **kwargs)  # type: ignore[arg-type]


def test_held_out_batches_are_determined_by_their_number() -> None:
    batches = held_out()
    visits = [[batches.indices(3 * visit + place) for place in range(3)] for visit in range(2)]
    for visit in visits:
        assert len({index for batch in visit for index in batch}) == 9
    assert visits[0] != visits[1]
    assert held_out().indices(4) == visits[1][1]


def test_ranks_share_the_held_out_batches() -> None:
    ranks = [held_out(rank=rank, world_size=2) for rank in range(2)]
    together = [ranks[number % 2].indices(number // 2) for number in range(6)]
    assert together == [held_out().indices(number) for number in range(6)]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(10))


@pytest.mark.parametrize("loader", [DataLoader(Stream()), DataLoader([1, 2], batch_size=None), [1, 2]])  # type: ignore[arg-type]
def test_unsuitable_held_out_loaders(loader: Any) -> None:
    with pytest.raises(TypeError, match="validation must be a DataLoader with a batch size over a map-style"):
        HeldOutBatches(loader, None, 0)  # type: ignore[arg-type]
