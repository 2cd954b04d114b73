from __future__ import annotations

import math

import pytest
import torch
from kd_bench.errors import UserError
from kd_bench.models import create_model, list_models
from kd_bench.models.cifar._shuffle import channel_shuffle
from kd_bench.models.cifar.resnet import ResNet
from kd_bench.models.cifar.wide_resnet import WideResNet
from kd_bench.models.registry import canonical_name, register
from torch import Tensor, nn

from lightning_kd.engine.stages import align, anatomy

OTHERS = ("mini_", "fashion_", "swin_")
"""For images of other sizes than CIFAR's and ImageNet's."""
ZOO = [name for name in list_models() if not name.startswith(OTHERS)]
CIFAR_PAIRS = [
    # student, teacher, and the shapes of the stages that the reference's index pairing compares
    ("wrn_16_2", "wrn_40_2", [(32, 32, 32), (64, 16, 16), (128, 8, 8)], [(32, 32, 32), (64, 16, 16), (128, 8, 8)]),
    ("resnet20", "resnet56", [(16, 32, 32), (32, 16, 16), (64, 8, 8)], [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
    (
        "resnet8x4",
        "resnet32x4",
        [(64, 32, 32), (128, 16, 16), (256, 8, 8)],
        [(64, 32, 32), (128, 16, 16), (256, 8, 8)],
    ),
    (
        "vgg8",
        "vgg13",
        [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)],
        [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)],
    ),
    (
        "MobileNetV2",
        "vgg13",
        [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)],
        [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)],
    ),
    (
        "vgg8",
        "ResNet50",
        [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)],
        [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)],
    ),
    (
        "ShuffleV1",
        "resnet32x4",
        [(240, 16, 16), (480, 8, 8), (960, 4, 4)],
        [(64, 32, 32), (128, 16, 16), (256, 8, 8)],
    ),
    (
        "ShuffleV2",
        "resnet32x4",
        [(116, 16, 16), (232, 8, 8), (464, 4, 4)],
        [(64, 32, 32), (128, 16, 16), (256, 8, 8)],
    ),
]


def stage_shapes(network: nn.Module, names: list[str], images: Tensor) -> list[tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    network(images)
    return [shapes[name] for name in names]


@pytest.mark.parametrize(("student", "teacher", "student_shapes", "teacher_shapes"), CIFAR_PAIRS)
def test_auto_layers_pair_the_stages_as_the_reference_does(
    student: str, teacher: str, student_shapes: list[tuple[int, ...]], teacher_shapes: list[tuple[int, ...]]
) -> None:
    images = torch.zeros(2, 3, 32, 32)
    networks = [create_model(name, num_classes=10) for name in (student, teacher)]
    found = [anatomy(network, lambda network=network: network(images)) for network in networks]
    pairs = align(found[0].stages, found[1].stages)
    assert stage_shapes(networks[0], [pair[0] for pair in pairs], images) == student_shapes
    assert stage_shapes(networks[1], [pair[1] for pair in pairs], images) == teacher_shapes
    assert all(part.classifier is not None for part in found)


@pytest.mark.parametrize("name", ZOO)
def test_a_training_step_updates_each_batch_norm_once_and_reaches_every_parameter(name: str) -> None:
    network = create_model(name, num_classes=5)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    counters = [module.num_batches_tracked for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert counters
    assert all(counter == 1 for counter in counters)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_swin_pico_is_a_narrow_swin_with_four_stages() -> None:
    network = create_model("swin_pico", num_classes=7)
    images = torch.randn(1, 3, 224, 224)
    assert network(images).shape == (1, 7)
    shapes = stage_shapes(network, [f"layers.{stage}" for stage in range(4)], images)
    assert shapes == [(56, 56, 48), (28, 28, 96), (14, 14, 192), (7, 7, 384)]


@pytest.mark.parametrize(
    "name", ["resnet8", "wrn_16_1", "vgg8", "cifar_resnet18", "mobilenet_v2_half", "shufflenet_v2"]
)
def test_tapped_stages_are_not_changed_afterwards(name: str) -> None:
    network = create_model(name, num_classes=5).eval()
    kept: list[tuple[Tensor, Tensor]] = []
    for stage in network.distillation_stages:
        network.get_submodule(stage).register_forward_hook(lambda _, __, output: kept.append((output, output.clone())))
    network(torch.randn(1, 3, 32, 32))
    assert kept
    assert all(torch.equal(now, then) for now, then in kept)


def test_the_activation_of_a_residual_block_can_be_tapped_from_before() -> None:
    network = create_model("resnet8", num_classes=5).eval()
    seen: dict[str, Tensor] = {}
    network.get_submodule("layer1").register_forward_hook(lambda _, __, output: seen.update(after=output))
    network.get_submodule("layer1.0.relu2").register_forward_hook(lambda _, args, __: seen.update(before=args[0]))
    network(torch.randn(2, 3, 32, 32))
    assert seen["before"].min() < 0
    assert torch.equal(seen["before"].relu(), seen["after"])


@pytest.mark.parametrize(
    "name", ["resnet8x4", "wrn_16_2", "vgg13", "ResNet18", "MobileNetV2", "ShuffleV1", "ShuffleV2"]
)
def test_other_sizes_and_channels_of_images(name: str) -> None:
    network = create_model(name, num_classes=5, in_channels=1).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 5)
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 5)


def test_vgg_pools_before_its_last_block_only_for_images_of_64() -> None:
    for size, expected in ((32, 4), (64, 4)):
        network = create_model("vgg8", num_classes=5).eval()
        assert stage_shapes(network, ["relu4"], torch.zeros(1, 3, size, size)) == [(512, expected, expected)]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ResNet50", "cifar_resnet50"),
        ("cifar_ResNet50", "cifar_resnet50"),
        ("ResNet18", "cifar_resnet18"),
        ("MobileNetV2", "mobilenet_v2_half"),
        ("mobile_half", "mobilenet_v2_half"),
        ("cifar_mobile_half", "mobilenet_v2_half"),
        ("ShuffleV1", "shufflenet_v1"),
        ("shufflev1", "shufflenet_v1"),
        ("ShuffleV2", "shufflenet_v2"),
        ("wrn-40-2", "wrn_40_2"),
        ("cifar_resnet32x4", "resnet32x4"),
        ("cifar_vgg13", "vgg13"),
        ("MobileNetV1", "mobilenet_v1"),
        ("resnet20", "resnet20"),
        ("timm:resnet18", "timm:resnet18"),
    ],
)
def test_names_of_other_repositories(alias: str, name: str) -> None:
    assert canonical_name(alias) == name
    assert alias == name or alias not in list_models()


def test_a_name_in_the_wrong_case_suggests_the_right_one() -> None:
    with pytest.raises(UserError, match="Did you mean 'ResNet50'"):
        create_model("resnet50", num_classes=100)


def test_a_name_cannot_be_given_twice() -> None:
    for taken in ("resnet20", "ResNet50"):
        with pytest.raises(ValueError, match=f"two networks are called '{taken}'"):
            register("something_new", ResNet, taken)
    assert "something_new" not in list_models()


def test_depths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"6n \+ 2.*got 21"):
        ResNet(10, depth=21)
    with pytest.raises(ValueError, match=r"6n \+ 4.*got 20"):
        WideResNet(10, depth=20, widen=1)


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_40_2", "vgg13", "ResNet50", "MobileNetV2"])
def test_convolutions_start_with_the_variance_of_their_fan_out(name: str) -> None:
    torch.manual_seed(0)
    for module in create_model(name, num_classes=100).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            expected = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize(
    ("name", "std"), [("vgg8", 0.01), ("MobileNetV2", 0.01), ("resnet32x4", 1 / math.sqrt(3 * 256))]
)
def test_classifiers_start_as_in_the_reference(name: str, std: float) -> None:
    torch.manual_seed(0)
    *_, linear = (module for module in create_model(name, num_classes=100).modules() if isinstance(module, nn.Linear))
    assert linear.weight.std().item() == pytest.approx(std, rel=0.02)
    assert bool(linear.bias.any()) == (std != 0.01)


def test_channel_shuffle_deals_the_groups_out_in_turn() -> None:
    channels = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(channels, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(channels, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
