import pytest
import torch
from torch import nn

from lightning_kd.connectors import (
    AttentionFusion,
    Autoencoder,
    Connector,
    ConvRegressor,
    LinearProjector,
    bottleneck,
    channel_adapter,
    conv_norm,
    factor_encoder,
)
from lightning_kd.connectors.stack import TolerantBatchNorm1d, TolerantBatchNorm2d


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((3, 8, 8), (5, 4, 4), nn.Conv2d, (3, 3)),
        ((3, 4, 4), (5, 8, 8), nn.ConvTranspose2d, (4, 4)),
        ((3, 7, 7), (5, 7, 7), nn.Conv2d, (1, 1)),
        ((3, 9, 8), (5, 7, 7), nn.Conv2d, (3, 2)),
        ((3, 32, 32), (5, 8, 8), nn.Conv2d, (1, 1)),
        ((3, 7, 7), (5, 16, 16), nn.Conv2d, (1, 1)),
    ],
)
def test_the_regressor_follows_the_sizes(student, teacher, kind, kernel):
    regressor = ConvRegressor(student, teacher)
    assert type(regressor.conv) is kind
    assert regressor.conv.kernel_size == kernel
    output = regressor(torch.randn(2, *student), teacher[1:])
    assert output.shape == (2, *teacher)
    assert (output >= 0).all()
    assert (ConvRegressor(student, teacher, relu=False)(torch.randn(2, *student), teacher[1:]) < 0).any()


def test_the_regressor_has_the_known_number_of_parameters():
    """FitNet's hint on resnet32x4 to resnet8x4, as the public re-implementation counts it."""
    regressor = ConvRegressor((128, 16, 16), (128, 16, 16))
    assert sum(parameter.numel() for parameter in regressor.parameters()) == 16_768


def test_stacks():
    feature = torch.randn(4, 3, 5, 5)
    assert torch.equal(channel_adapter(3, 3)(feature), feature)
    assert channel_adapter(3, 6)(feature).shape == (4, 6, 5, 5)
    assert conv_norm(3, 6, kernel=3)(feature).shape == (4, 6, 5, 5)
    assert (conv_norm(3, 6, relu=True)(feature) >= 0).all()
    assert (bottleneck(3, 2, 6, ends_in_relu=True)(feature) >= 0).all()
    assert (bottleneck(3, 2, 6, ends_in_relu=False)(feature) < 0).any()
    assert factor_encoder(3, 2, norm=True)(feature).shape == (4, 2, 5, 5)
    assert Autoencoder(3, 2, norm=False)(feature).shape == feature.shape
    assert LinearProjector(5, 7)(feature).shape == (4, 3, 5, 7)


def test_half_precision_features_meet_float32_layers():
    feature = torch.randn(4, 3, 5, 5, dtype=torch.bfloat16)
    assert conv_norm(3, 6)(feature).dtype == torch.float32
    assert LinearProjector(5, 7)(feature).dtype == torch.float32
    assert Connector()(feature).dtype == torch.bfloat16


@pytest.mark.parametrize(("norm", "shape"), [(TolerantBatchNorm1d(3), (1, 3)), (TolerantBatchNorm2d(3), (1, 3, 1, 1))])
def test_one_value_per_channel_is_normalised_with_the_running_statistics(norm, shape):
    feature = torch.randn(shape)
    torch.testing.assert_close(norm(feature), feature / (1 + norm.eps) ** 0.5)
    assert norm.num_batches_tracked == 0
    norm(torch.randn(4, *shape[1:]))
    assert norm.num_batches_tracked == 1
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3)(torch.randn(1, 3))


def test_fusion_mixes_the_residual_with_its_gates():
    fusion = AttentionFusion(3, 4, 5, fuses=True).eval()
    feature, residual = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 2, 2)
    output, passed = fusion(feature, residual, (4, 4))
    reduced = fusion.reduce(feature)
    grown = residual.repeat_interleave(2, 2).repeat_interleave(2, 3)
    gates = torch.sigmoid(fusion.attention(torch.cat([reduced, grown], 1)))
    expected = reduced * gates[:, 0:1] + grown * gates[:, 1:2]
    torch.testing.assert_close(passed, expected)
    torch.testing.assert_close(output, fusion.expand(expected))


def test_fusion_resizes_to_the_teachers_map_before_the_last_convolution():
    output, passed = AttentionFusion(3, 4, 5, fuses=False)(torch.randn(2, 3, 4, 4), None, (8, 8))
    assert output.shape == (2, 5, 8, 8)
    assert passed.shape == (2, 4, 8, 8)
