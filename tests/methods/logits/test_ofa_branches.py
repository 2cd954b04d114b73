"""OFA's branches for every kind of student stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_kd.methods.logits import OFA
from lightning_kd.methods.logits._ofa_branches import ConvBranch, PatchMerging, TokenBranch, make_branch
from lightning_kd.methods.logits.ofa import stage_width
from lightning_kd.testing import Rig
from lightning_kd.testing.networks import TinyCNN


def test_convolutional_stages_shrink_once_for_every_deeper_stage():
    branch = make_branch(torch.zeros(2, 16, 32, 32), 3, 256, 10, channels_last=False)
    strides = [module.stride for module in branch.modules() if isinstance(module, nn.Conv2d)]
    widths = [module.num_features for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
    assert strides.count((2, 2)) == 3
    assert widths == [16, 32, 32, 64, 64, 256]
    assert branch(torch.randn(2, 16, 32, 32)).shape == (2, 10)


def test_the_deepest_convolutional_stage_gets_one_convolution():
    branch = make_branch(torch.zeros(2, 16, 4, 4), 0, 64, 10, channels_last=False)
    assert [type(module) for module in branch.layers] == [nn.Conv2d]
    assert branch(torch.randn(2, 16, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize(("tokens", "has_class_token"), [(197, True), (196, False), (5, True), (1, False), (6, False)])
def test_tokens_keep_their_class_token_if_there_is_one(tokens, has_class_token):
    branch = make_branch(torch.zeros(2, tokens, 16), 2, 64, 10, channels_last=False)
    assert isinstance(branch, TokenBranch)
    assert branch.has_class_token is has_class_token
    assert len(branch.blocks) == 2
    assert branch(torch.randn(2, tokens, 16)).shape == (2, 10)


def test_the_deepest_token_stage_still_gets_a_block():
    assert len(make_branch(torch.zeros(2, 9, 16), 0, 64, 10, channels_last=False).blocks) == 1


@pytest.mark.parametrize(("side", "merges"), [(56, 3), (28, 2), (14, 1), (7, 0), (9, 1)])
def test_swin_maps_are_merged_down_to_seven(side, merges):
    stage = torch.randn(1, 8, side, side)
    branch = make_branch(stage, 1, 64, 10, channels_last=True)
    assert len(branch.merges) == merges
    assert branch(stage).shape == (1, 10)


def test_embeddings_get_a_classifier():
    branch = make_branch(torch.zeros(2, 16), 0, 64, 10, channels_last=False)
    assert isinstance(branch, ConvBranch)
    assert branch(torch.randn(2, 16)).shape == (2, 10)


def test_merging_concatenates_neighbours():
    grid = torch.arange(16.0).reshape(1, 4, 4, 1)
    merging = PatchMerging(1)
    merging.norm, merging.activation = nn.Identity(), nn.Identity()
    merging.reduction = nn.Identity()
    assert merging(grid)[0, 0, 0].tolist() == [0.0, 4.0, 1.0, 5.0]


class TinyViT(nn.Module):
    """A class token and sixteen patches through four blocks."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.GELU()) for _ in range(4))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.head(tokens[:, 0])


def test_a_token_student_learns_from_a_convolutional_teacher(monkeypatch):
    # the rig's student is the network with a strided stem
    monkeypatch.setattr(
        "lightning_kd.testing.rig.TinyCNN", lambda widths, stride: TinyCNN(widths, stride) if stride == 1 else TinyViT()
    )
    rig = Rig(OFA)
    assert all(isinstance(branch, TokenBranch) and branch.has_class_token for branch in rig.method.branches)
    rig.method(rig.exchange()).backward()
    assert all(parameter.grad is not None for parameter in rig.student.blocks.parameters())


def test_a_stage_of_another_rank_is_refused():
    with pytest.raises(ValueError, match="OFA takes maps"):
        stage_width(torch.zeros(2, 3, 4, 5, 6), "stage")
