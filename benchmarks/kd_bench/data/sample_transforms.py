"""Transforms of single images: the random ones that networks are trained with, and the fixed ones they are tested with.

All are torchvision's, but for timm's RandAugment, whose operations and strengths differ from torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from PIL import Image
from pydantic import Field
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from kd_bench.data.standardize import Standardize
from kd_bench.errors import UserError
from kd_bench.names import unknown
from kd_bench.recipe import Fraction, NonNegative, Positive, Spec, Whole

Transform = Callable[[Image.Image], Tensor]

Interpolation = Literal["bilinear", "bicubic"]

_STRONGEST = 9.999


class RandomResizedCrop(Spec):
    """A random rectangle of the image, resized.

    Attributes:
        scale: smallest and largest area, as shares of the image.
        ratio: smallest and largest ratio of width to height.
        interpolation: of the resizing; ``random``: either, with an even chance.
    """

    scale: tuple[Positive, Positive] = (0.08, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"


class RandAugment(Spec):
    """Random operations on the colours and the geometry, by timm, whose ``rand-m9-mstd0.5-inc1`` has strength 9 ± 0.5.

    Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020,
    arXiv:1909.13719.

    Attributes:
        magnitude: strength, of 10; never quite that.
        magnitude_std: standard deviation of the strength.
        increasing: whether all operations become stronger with the magnitude.
        operations: number of operations for an image; each is left out with a chance of one half.
    """

    magnitude: Annotated[int, Field(ge=0, le=10)]
    magnitude_std: NonNegative = 0.0
    increasing: bool = False
    operations: Whole = 2

    @property
    def policy(self) -> str:
        """What timm calls it."""
        strength = f"m{self.magnitude}-n{self.operations}-mstd{self.magnitude_std}"
        return f"rand-{strength}-inc{int(self.increasing)}"


class SampleAugmentation(Spec):
    """Random transforms of training images, in the order of the attributes.

    Attributes:
        random_resized_crop: see there.
        flip: whether half of the images are mirrored horizontally.
        rand_augment: see there; ``None`` for none.
        color_jitter: strength of random changes of brightness, contrast and saturation.
        random_erasing: probability that a rectangle of the standardized image is replaced by noise.
        mixup: see :class:`~kd_bench.data.mixing.Mixing`; 0 for none.
        cutmix: the same.
    """

    random_resized_crop: RandomResizedCrop
    flip: bool
    rand_augment: RandAugment | None = None
    color_jitter: NonNegative = 0.0
    random_erasing: Fraction = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0


@dataclass(frozen=True)
class Pixels:
    """What an image becomes at the end.

    Attributes:
        size: height and width.
        mean: of each channel, in units of the full range.
        std: standard deviation of each channel.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def steps(self) -> list[Any]:
        """To a standardized tensor."""
        return [v2.PILToTensor(), Standardize(self.mean, self.std)]


def training_transform(augmentation: SampleAugmentation, pixels: Pixels) -> Transform:
    """The random transform; it draws from the global random states.

    Raises:
        UserError: if RandAugment is asked for and timm is not installed.
    """
    steps: list[Any] = [_crop(augmentation.random_resized_crop, pixels.size)]
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    if augmentation.rand_augment is not None:
        steps.append(_rand_augment(augmentation.rand_augment, augmentation.random_resized_crop, pixels))
    if strength := augmentation.color_jitter:
        steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    steps += pixels.steps()
    if augmentation.random_erasing:
        steps.append(v2.RandomErasing(augmentation.random_erasing, (0.02, 1 / 3), (0.3, 1 / 0.3), value="random"))
    transform: Transform = v2.Compose(steps)
    return transform


def evaluation_transform(resize: int, interpolation: Interpolation, pixels: Pixels) -> Transform:
    """The fixed transform: the shorter side is resized to ``resize`` pixels and the centre cut out.

    Raises:
        UserError: if there is no such interpolation.
    """
    if interpolation not in get_args(Interpolation):
        raise unknown("interpolation", interpolation, get_args(Interpolation))
    steps = [v2.Resize(resize, InterpolationMode(interpolation)), v2.CenterCrop(pixels.size)]
    transform: Transform = v2.Compose([*steps, *pixels.steps()])
    return transform


def _crop(crop: RandomResizedCrop, size: int) -> Any:
    modes = get_args(Interpolation) if crop.interpolation == "random" else [crop.interpolation]
    crops = [v2.RandomResizedCrop(size, crop.scale, crop.ratio, InterpolationMode(mode)) for mode in modes]
    return crops[0] if len(crops) == 1 else v2.RandomChoice(crops)


def _rand_augment(settings: RandAugment, crop: RandomResizedCrop, pixels: Pixels) -> Any:
    try:
        from timm.data.auto_augment import rand_augment_transform
    except ImportError as error:
        raise UserError(f"the augmentation rand_augment needs timm: `pip install timm` ({error}).") from error
    # what timm itself sets, see timm.data.create_transform
    details: dict[str, Any] = {
        "translate_const": int(0.45 * pixels.size),
        "img_mean": tuple(min(255, round(255 * mean)) for mean in pixels.mean),
        # at 10 of 10 an image would be reduced to no bits at all, which Pillow refuses from version 13 on
        "magnitude_max": _STRONGEST,
    }
    if crop.interpolation != "random":
        details["interpolation"] = Image.Resampling[crop.interpolation.upper()]
    return rand_augment_transform(settings.policy, details)
