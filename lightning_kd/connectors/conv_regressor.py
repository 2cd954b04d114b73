"""The hint regressor of FitNet: a convolution from the student's map to the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters, resize_map
from lightning_kd.connectors.stack import TolerantBatchNorm2d

# A valid convolution that bridges more than this has a kernel too large to be meant.
_LARGEST_VALID_KERNEL = 7


class ConvRegressor(nn.Module):
    """Convolution, batch norm and ReLU whose kernel follows from the two map sizes.

    ==========================  ======================================================
    sizes (in each direction)   convolution
    ==========================  ======================================================
    student is twice teacher    3×3, stride 2, padding 1
    teacher is twice student    4×4 transposed, stride 2, padding 1
    student larger by ``d < 7`` ``(1 + d)``×``(1 + d)``, valid (``d = 0``: 1×1)
    any other ratio             1×1, then average pooling or bilinear interpolation
    ==========================  ======================================================

    The first three rows are those of the public re-implementations. They also build a valid convolution for larger
    differences, with kernels of up to 25×25, which the fourth row replaces.

    Args:
        student_shape: ``(C, H, W)`` of the student's map.
        teacher_shape: ``(C, H, W)`` of the teacher's map.
        relu: whether a ReLU ends it; switch it off where the teacher's feature is not the output of a ReLU.
    """

    def __init__(
        self, student_shape: tuple[int, int, int], teacher_shape: tuple[int, int, int], relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = _bridge(student_shape, teacher_shape)
        self.norm = TolerantBatchNorm2d(teacher_shape[0])
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, feature: Tensor, size: tuple[int, int]) -> Tensor:
        """Map the student's feature to the teacher's channels and to ``size``.

        Args:
            feature: ``(B, C_s, H_s, W_s)``.
            size: height and width of the teacher's map in this step; inputs may vary in size.

        Returns:
            ``(B, C_t, *size)``.
        """
        projected = self.norm(self.conv(like_parameters(feature, self)))
        activated: Tensor = self.activation(projected)
        return resize_map(activated, size)


def _bridge(student_shape: tuple[int, int, int], teacher_shape: tuple[int, int, int]) -> nn.Conv2d | nn.ConvTranspose2d:
    (inputs, *student_size), (outputs, *teacher_size) = student_shape, teacher_shape
    if all(s == 2 * t for s, t in zip(student_size, teacher_size, strict=True)):
        return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    if all(2 * s == t for s, t in zip(student_size, teacher_size, strict=True)):
        return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    kernel = tuple(1 + s - t for s, t in zip(student_size, teacher_size, strict=True))
    if all(1 <= k <= _LARGEST_VALID_KERNEL for k in kernel):
        return nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]))
    return nn.Conv2d(inputs, outputs, 1)
