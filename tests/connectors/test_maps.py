import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_kd.connectors import pool_to_smaller, pooled, resize_map, to_map
from lightning_kd.connectors.maps import like_parameters


def test_maps_stay_as_they_are():
    feature = torch.randn(2, 3, 4, 4)
    assert to_map(feature) is feature


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_tokens_become_a_grid_without_their_prefix(prefix):
    feature = torch.randn(2, 3, 4, 4)
    tokens = torch.cat([torch.randn(2, prefix, 3), feature.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(to_map(tokens), feature)


@pytest.mark.parametrize(("shape", "message"), [((2, 8, 3), "no square grid"), ((2, 3), "spatial extent")])
def test_refusals(shape, message):
    with pytest.raises(ValueError, match=message):
        to_map(torch.zeros(shape))


def test_pooling_to_the_smaller_goes_direction_by_direction():
    student, teacher = pool_to_smaller(torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 8))
    assert student.shape == (2, 3, 4, 4)
    assert teacher.shape == (2, 5, 4, 4)


def test_resizing_averages_to_shrink_and_interpolates_to_grow():
    feature = torch.randn(2, 3, 4, 4)
    assert resize_map(feature, (4, 4)) is feature
    assert torch.equal(resize_map(feature, (2, 2)), F.avg_pool2d(feature, 2))
    grown = F.interpolate(feature, (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(resize_map(feature, (8, 8)), grown)
    assert resize_map(feature, (2, 8)).shape == (2, 3, 2, 8)


def test_pooled_averages_over_positions():
    feature = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(pooled(feature), feature.flatten(2).mean(2))
    torch.testing.assert_close(pooled(feature.flatten(2).transpose(1, 2)), feature.flatten(2).mean(2))
    assert pooled(feature[:, :, 0, 0]).shape == (2, 3)
    with pytest.raises(ValueError, match="spatial extent"):
        pooled(torch.zeros(2))


def test_features_take_the_dtype_of_the_layers_except_under_autocast():
    layer, feature = nn.Linear(2, 2), torch.zeros(1, 2, dtype=torch.bfloat16)
    assert like_parameters(feature, layer).dtype == torch.float32
    assert like_parameters(feature, nn.Identity()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert like_parameters(feature, layer).dtype == torch.bfloat16
