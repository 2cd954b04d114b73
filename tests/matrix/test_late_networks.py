"""Networks that do not exist yet when the module is created."""

from __future__ import annotations

import pytest
import torch
from by_hand import DOORS, ByHand, fit_by_hand, seeded, through_door
from support import Innocent, Late, ResNetLike, difference


class LateByHand(Late, ByHand):
    training_step = ByHand.training_step

    def configure_model(self) -> None:
        super().configure_model()
        self.model.layer2.register_forward_hook(lambda m, i, o: self.seen.append(o))


@pytest.mark.situation("network made in configure_model")
@DOORS
def test_configure_model(door: int) -> None:
    distilled = seeded(Late)
    initial, final, _ = through_door(door, distilled)
    expected = fit_by_hand(seeded(LateByHand), initial)
    assert difference(distilled.model, expected.model) == 0.0
    assert difference(final, expected.connector) == 0.0


class SetUp(Innocent):
    def __init__(self) -> None:
        super().__init__()
        self.model = None

    def setup(self, stage: str) -> None:
        torch.manual_seed(4)
        self.model = ResNetLike()


@pytest.mark.situation("network made in setup")
@DOORS
def test_network_made_in_setup(door: int) -> None:
    distilled = seeded(SetUp)
    initial, _, _ = through_door(door, distilled)
    assert difference(distilled.model, fit_by_hand(seeded(LateByHand), initial).model) == 0.0
