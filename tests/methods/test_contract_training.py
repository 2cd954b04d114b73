"""Every discovered method through a real Trainer: two DDP ranks end equal, a resumed run ends where a whole one does.

All methods are trained by one pair of processes: starting processes costs far more than training tiny networks.
"""

from __future__ import annotations

import pytest
import torch

from lightning_kd.methods import KD, discover
from lightning_kd.testing.checks import ContractError
from lightning_kd.testing.rig import inputs_for
from lightning_kd.testing.training import check_resume, check_two_ranks, targets, train_on_two_ranks

METHODS = discover()


@pytest.mark.slow
def test_two_ranks_end_equal() -> None:
    assert train_on_two_ranks(targets(METHODS)) == dict.fromkeys(METHODS, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_where_a_whole_one_does(name: str) -> None:
    check_resume(METHODS[name], inputs_for(METHODS[name]))


class Drifts(KD):
    """Keeps a different random number on every rank."""

    def __init__(self):
        super().__init__()
        self.register_buffer("noise", torch.zeros(()))

    def forward(self, exchange):
        rank = torch.distributed.get_rank()
        self.noise.fill_(float(rank))
        return super().forward(exchange)


class Forgets(KD):
    """Counts its calls where no checkpoint sees it."""

    calls = 0

    def forward(self, exchange):
        self.calls += 1
        return super().forward(exchange) * self.calls


class Fails(KD):
    """Raises on one rank only."""

    def forward(self, exchange):
        if torch.distributed.get_rank() == 1:
            raise KeyError("layer9")
        return super().forward(exchange)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "check", "diagnosis"),
    [
        (Drifts, check_two_ranks, r"different values in \['Drifts.noise'\]"),
        (Fails, check_two_ranks, "fails with KeyError: 'layer9'"),
        (Forgets, check_resume, "a resumed run ends with other values"),
    ],
)
def test_a_broken_method_is_diagnosed(method, check, diagnosis):
    with pytest.raises(ContractError, match=diagnosis):
        check(method, "images")
