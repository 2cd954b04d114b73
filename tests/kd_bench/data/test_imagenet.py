"""ImageNet from a folder of images and from shards."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from kd_bench.data.base import TrainingNeeds
from kd_bench.data.imagenet import COUNTS, ImageNet, listing_checksum, open_images
from kd_bench.data.miniature import write_imagenet
from kd_bench.data.packing import pack
from kd_bench.data.parts import fixed_split
from kd_bench.data.seeding import seeded
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from kd_bench.training.fit import fit

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def shards(imagenet_parameters: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    pack(Path(imagenet_parameters["root"]), folder, shard_size=7)
    return str(folder)


@pytest.fixture
def copy(imagenet_parameters: dict[str, Any], tmp_path: Path) -> Path:
    """A folder of images that a test may damage."""
    return Path(shutil.copytree(imagenet_parameters["root"], tmp_path / "imagenet"))


def _equal(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


def test_samples_are_those_of_torchvision(imagenet: Open, imagenet_parameters: dict[str, Any]) -> None:
    t = torchvision.transforms
    normalize = t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    test = t.Compose([t.Resize(36), t.CenterCrop(32), t.ToTensor(), normalize])
    expected = torchvision.datasets.ImageFolder(f"{imagenet_parameters['root']}/val", test)
    found = [sample for batch in imagenet().test_dataloader() for sample in zip(*batch, strict=True)]
    assert len(found) == len(expected) == 20
    for (image, label), (expected_image, expected_label) in zip(found, expected, strict=True):
        assert torch.equal(image, expected_image)
        assert label == expected_label


def test_training_images_are_those_of_torchvision_for_the_same_draws(
    imagenet: Open, imagenet_parameters: dict[str, Any], epoch: Any
) -> None:
    v2 = torchvision.transforms.v2
    train = v2.Compose(
        [
            v2.RandomResizedCrop(32),
            v2.RandomHorizontalFlip(),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    expected = torchvision.datasets.ImageFolder(f"{imagenet_parameters['root']}/train", train)
    data = imagenet(seed=7)
    data.needs = TrainingNeeds(indexed=True)
    for batch in epoch(data, 3):
        for index, image, label in zip(batch.index.tolist(), *batch.sample, strict=True):
            with seeded(7, 3, index):
                expected_image, expected_label = expected[index]
            assert torch.equal(image, expected_image)
            assert label == expected_label


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("part", ["final", "tuning"])
def test_shards_and_folder_give_the_same_batches(
    imagenet: Open, shards: str, epoch: Any, workers: int, part: str
) -> None:
    folder, packed = imagenet(part=part), imagenet(part=part, root=shards)
    packed.loader_workers = workers
    assert folder.checksum() == packed.checksum()
    for number in (0, 1):
        assert _equal(epoch(folder, number), epoch(packed, number))
    for split in folder.splits():
        assert _equal(list(folder.eval_dataloader(split)), list(packed.eval_dataloader(split)))


def test_a_student_that_is_trained_on_shards_is_that_trained_on_the_folder(imagenet: Open, shards: str) -> None:
    recipe = load_protocol("digits-v1").student_recipe.model_copy(update={"epochs": 2})
    weights = []
    for root, workers in ((None, 0), (shards, 1)):
        # the validation split, since what is trained here is evaluated on both
        data = imagenet(part="tuning", validation_fraction=0.2, **({"root": root} if root else {}))
        data.loader_workers = workers
        torch.manual_seed(0)
        network = create_model("mini_cnn4", num_classes=10, in_channels=3)
        fit(network, recipe, data, accelerator="cpu")
        weights.append(torch.cat([value.flatten() for value in network.parameters()]))
    assert torch.equal(*weights)


def test_ranks_together_train_on_the_batches_of_a_single_process(imagenet: Open, epoch: Any) -> None:
    parts = []
    for rank in range(4):
        data = imagenet()
        data.set_ranks(rank, 4)
        parts.append(epoch(data, 1))
    joined = [tuple(map(torch.cat, zip(*both, strict=True))) for both in zip(*parts, strict=True)]
    assert _equal(joined, epoch(imagenet(), 1))


def test_the_parts(imagenet: Open) -> None:
    final, tuning = imagenet(), imagenet(part="tuning", validation_fraction=0.2)
    assert (final.num_classes, final.image_shape, final.has_validation) == (10, (3, 32, 32), False)
    assert len(final.train_dataloader().dataset) == 50
    assert [len(loader.dataset) for loader in final.val_dataloader()] == [20]
    validation, test = (loader.dataset for loader in tuning.val_dataloader())
    train = tuning.train_dataloader().dataset
    assert validation.source is test.source is train.source
    assert torch.equal(torch.cat([train.positions, test.positions]).sort().values, torch.arange(50))
    assert len(test) == 10
    with pytest.raises(UserError, match="ImageNet has no validation split"):
        final.eval_dataloader("validation")


def test_indexed_and_held_out_samples(imagenet: Open, epoch: Any) -> None:
    data = imagenet()
    data.needs = TrainingNeeds(indexed=True, held_out=0.2)
    held_out, train = data.held_out_dataloader(), data.train_dataloader().dataset
    assert held_out.dataset.labels.bincount().tolist() == [1] * 10
    positions = torch.cat([train.positions, held_out.dataset.positions])
    assert torch.equal(positions.sort().values, torch.arange(50))
    for batch in epoch(data, 0):
        assert torch.equal(train.labels[batch.index], batch.sample[1])
    images, labels = next(iter(held_out))
    assert images.shape == (8, 3, 32, 32)
    assert torch.equal(labels, held_out.dataset.labels[:8])


def test_a_data_set_of_shards_can_be_sent_to_a_process_that_was_not_forked(imagenet: Open, shards: str) -> None:
    dataset = imagenet(root=shards).test_dataloader().dataset
    image, label = dataset[3]
    again, same = pickle.loads(pickle.dumps(dataset))[3]
    assert torch.equal(again, image)
    assert same == label


def test_the_checksum_of_the_real_data_follows_from_the_list_of_classes(imagenet: Open) -> None:
    listing = pytest.importorskip("timm.data") and resources.files("timm.data") / "_info" / "imagenet_synsets.txt"
    wnids = listing.read_text(encoding="utf-8").split()
    assert len(wnids) == 1000
    split = fixed_split(COUNTS["train"], 0.04, 0)
    checksum = listing_checksum(wnids, COUNTS, split)
    assert checksum == CHECKSUM
    assert listing_checksum(wnids[::-1], COUNTS, split) == checksum
    assert listing_checksum(wnids[1:], COUNTS, split) != checksum
    assert listing_checksum(wnids, {**COUNTS, "val": 49_999}, split) != checksum
    parameters = imagenet(part="tuning")
    assert parameters.checksum() == imagenet().checksum() != imagenet(split_seed=1).checksum()


CHECKSUM = "9d4db6f4ac7bdb3e4ecfb06dc0af0b6a957bc8c15b2b0dde20880a6787acdc41"


def test_the_miniature_is_read_by_the_same_class(tmp_path: Path) -> None:
    parameters = write_imagenet(tmp_path)
    assert write_imagenet(tmp_path) == parameters
    data = ImageNet(4, 0, {"random_resized_crop": {}, "flip": True}, **parameters)
    assert data.image_shape == (3, 224, 224)
    assert len(data.train_dataloader().dataset) == 60
    modes = {
        torchvision.datasets.folder.Image.open(path).mode for path in Path(parameters["root"]).glob("train/*/*.JPEG")
    }
    assert modes == {"RGB", "L"}


def test_nothing_there(tmp_path: Path, empty_home: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*data/imagenet.*train/<wnid>.*image-net.org.*KD_BENCH_DATA"):
        ImageNet(8, 0, {"random_resized_crop": {}, "flip": True})
    (empty_home / "imagenet" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"not sorted into classes"):
        ImageNet(8, 0, {"random_resized_crop": {}, "flip": True})


def test_validation_images_that_are_not_sorted_into_classes(imagenet: Open, copy: Path) -> None:
    for file in sorted(copy.glob("val/*/*.JPEG")):
        file.rename(copy / "val" / file.name)
    for folder in (copy / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()
    with pytest.raises(UserError, match=r"val are not sorted into classes.*move each into the folder of its class"):
        imagenet(root=str(copy))


def test_archives_that_were_not_unpacked(imagenet: Open, copy: Path) -> None:
    for folder in list((copy / "train").iterdir()):
        shutil.rmtree(folder)
        (copy / "train" / f"{folder.name}.tar").touch()
    with pytest.raises(UserError, match=r"has the archives of the classes \(n90000000.tar"):
        imagenet(root=str(copy))


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_classes_and_images(imagenet: Open, copy: Path, split: str) -> None:
    next((copy / split / "n90000003").iterdir()).unlink()
    with pytest.raises(UserError, match=rf"there are (49|19) {split} images .*{split}/n90000000.*expected (50|20)"):
        imagenet(root=str(copy))
    open_images.cache_clear()
    shutil.rmtree(copy / split / "n90000003")
    with pytest.raises(UserError, match=rf"{split} images .* are of 9 classes; expected 10"):
        imagenet(root=str(copy))
    open_images.cache_clear()
    (copy / split / "n90000003").mkdir()
    with pytest.raises(UserError, match=r"has classes without images: .*n90000003"):
        imagenet(root=str(copy))


def test_classes_that_differ(imagenet: Open, copy: Path) -> None:
    (copy / "val" / "n90000003").rename(copy / "val" / "n90000013")
    with pytest.raises(UserError, match="n90000003 is in one of them only"):
        imagenet(root=str(copy))


# PyTorch takes five seconds to end a worker that has failed
@pytest.mark.parametrize(("workers", "packed"), [(0, False), (0, True), pytest.param(1, False, marks=pytest.mark.slow)])
def test_an_image_that_cannot_be_decoded_is_named(
    imagenet: Open, copy: Path, tmp_path: Path, workers: int, packed: bool
) -> None:
    damaged = copy / "val" / "n90000004" / "ILSVRC2012_val_00040001.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:300])
    named = str(damaged)
    if packed:
        pack(copy, tmp_path / "shards", shard_size=100)
        named = f"n90000004/ILSVRC2012_val_00040001 in {tmp_path}/shards/imagenet-val-000000.tar"
    data = imagenet(root=str(tmp_path / "shards" if packed else copy))
    data.loader_workers = workers
    with pytest.raises(UserError, match=f"{named} is not an image that can be read"):
        list(data.test_dataloader())
