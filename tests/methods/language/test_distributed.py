"""Two ranks with unequally many valid tokens train on the mean over all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.language import TAID, ForwardKL, forward_kl_loss

LABELS = torch.tensor([[1, 2, 3, 4], [1, -100, -100, -100]])


def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def rank_main(rank: int, root: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{root}/store", rank=rank, world_size=2)
    student, teacher = logits()
    student.requires_grad_()
    rows = slice(rank, rank + 1)
    exchange = Exchange((), LABELS[rows], View(student[rows]), [View(teacher[rows])])
    loss = ForwardKL()(exchange)
    loss.backward()
    taid = TAID(alpha=0.1)
    for _ in range(3):
        exchange.progress = type(exchange.progress)(step=exchange.progress.step + 1)
        taid(exchange)
    torch.save({"loss": loss.detach(), "gradient": student.grad, "t": taid.t}, root / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_average_over_ranks_is_the_mean_over_all_valid_tokens(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(rank_main, (tmp_path,), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    student, teacher = logits()
    student.requires_grad_()
    expected = forward_kl_loss(student, teacher, LABELS != -100)
    expected.backward()
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, expected.detach())
    torch.testing.assert_close((ranks[0]["gradient"] + ranks[1]["gradient"]) / 2, student.grad)
    assert ranks[0]["t"] == ranks[1]["t"]
    assert ranks[0]["t"] > 0.4
