"""Stacks of convolution, batch norm and ReLU: what most connectors are made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters


class TolerantBatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d``, except that one value per channel is normalised with the running statistics.

    The last batch of an epoch may hold a single sample. Its embedding has no variance, and ``nn.BatchNorm1d``
    raises; a connector should not end a training for that.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C)``."""
        return _running_norm(self, input) if _one_value(self, input) else super().forward(input)


class TolerantBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, except that one value per channel is normalised with the running statistics.

    See :class:`TolerantBatchNorm1d`; a pooled feature is a 1×1 map.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        return _running_norm(self, input) if _one_value(self, input) else super().forward(input)


def _one_value(norm: nn.BatchNorm1d | nn.BatchNorm2d, input: Tensor) -> bool:
    return norm.training and input.shape[0] * input.shape[2:].numel() == 1


def _running_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, input: Tensor) -> Tensor:
    return F.batch_norm(input, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class Connector(nn.Sequential):
    """Layers between a student's and a teacher's feature; without layers, the identity.

    Outside autocast the input is cast to the dtype of the layers, so that a half-precision feature can meet
    float32 layers.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layers one after another."""
        output = like_parameters(input, self)
        for layer in self:
            output = layer(output)
        return output


def channel_adapter(student_channels: int, teacher_channels: int) -> Connector:
    """The identity for equal widths, else a 1×1 convolution.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
    """
    if student_channels == teacher_channels:
        return Connector()
    return Connector(nn.Conv2d(student_channels, teacher_channels, 1))


def conv_norm(student_channels: int, teacher_channels: int, *, kernel: int = 1, relu: bool = False) -> Connector:
    """Convolution without bias, batch norm and, if wanted, ReLU.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
        kernel: odd size of the kernel; the map keeps its size.
        relu: whether a ReLU ends the stack.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(student_channels, teacher_channels, kernel, padding=kernel // 2, bias=False),
        TolerantBatchNorm2d(teacher_channels),
    ]
    return Connector(*layers, nn.ReLU()) if relu else Connector(*layers)


def bottleneck(student_channels: int, hidden_channels: int, teacher_channels: int, *, ends_in_relu: bool) -> Connector:
    """1×1, 3×3 and 1×1 convolutions without biases, batch norm and ReLU after the first two.

    Args:
        student_channels: channels of the student's map.
        hidden_channels: channels in between.
        teacher_channels: channels of the teacher's map.
        ends_in_relu: whether batch norm and ReLU follow the last convolution too.
    """
    layers = [
        *conv_norm(student_channels, hidden_channels, relu=True),
        *conv_norm(hidden_channels, hidden_channels, kernel=3, relu=True),
    ]
    if ends_in_relu:
        return Connector(*layers, *conv_norm(hidden_channels, teacher_channels, relu=True))
    return Connector(*layers, nn.Conv2d(hidden_channels, teacher_channels, 1, bias=False))
