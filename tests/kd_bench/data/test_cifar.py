"""CIFAR-100 from files in its real format."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from kd_bench.data.base import TrainingNeeds
from kd_bench.data.cifar import CIFAR100
from kd_bench.data.cifar_files import ARCHIVE, FOLDER, read_cifar100
from kd_bench.errors import UserError
from torch import Tensor
from torchvision.datasets.utils import extract_archive

from lightning_kd.data import Indexed

Open = Callable[..., Any]
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def _public(parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have torchvision take the tiny copy for the public one."""
    md5, cifar = parameters["checksums"], torchvision.datasets.CIFAR100
    monkeypatch.setattr(cifar, "url", url)
    monkeypatch.setattr(cifar, "tgz_md5", md5["archive"])
    monkeypatch.setattr(cifar, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(cifar, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5["meta"]})


def _equal(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


@pytest.fixture
def server(cifar_parameters: dict[str, Any], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The archive, served."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(Path(cifar_parameters["root"]) / ARCHIVE, folder)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/{ARCHIVE}", folder
        running.shutdown()


def test_samples_are_those_of_torchvision(
    cifar: Open, cifar_parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cifar()
    images, labels = next(iter(data.test_dataloader()))
    _public(cifar_parameters, monkeypatch, "")
    finish = torchvision.transforms.Compose(
        [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(MEAN, STD)]
    )
    expected = torchvision.datasets.CIFAR100(cifar_parameters["root"], train=False, transform=finish)
    assert len(expected.classes) == 100
    assert torch.equal(images, torch.stack([image for image, _ in expected]))
    assert labels.tolist() == [label for _, label in expected]


def test_the_final_part_trains_on_everything_and_has_no_validation_split(cifar: Open) -> None:
    data = cifar(batch_size=64)
    data.keep_last = True
    assert (data.num_classes, data.image_shape) == (100, (3, 32, 32))
    assert not data.has_validation
    assert [len(labels) for _, labels in data.train_dataloader()] == [64, 64, 64, 38]
    (test,) = data.val_dataloader()
    assert len(test.dataset) == 100
    with pytest.raises(UserError, match=r"no validation split.*'tuning'"):
        data.eval_dataloader("validation")


def test_the_tuning_part_never_touches_the_test_images(cifar: Open) -> None:
    data, final = cifar(part="tuning"), cifar()
    validation, test = (next(iter(loader)) for loader in data.val_dataloader())
    assert data.has_validation
    assert torch.equal(validation[0], test[0])
    train = data.train_dataloader().dataset
    assert (len(train), len(test[1])) == (207, 23)
    whole = final.train_dataloader().dataset
    together = torch.cat([data._standardize(train.images), test[0]]).flatten(1)
    expected = data._standardize(whole.images).flatten(1)
    assert torch.equal(together.sort(0).values, expected.sort(0).values)
    unseen = next(iter(final.test_dataloader()))[0].flatten(1)
    assert not (unseen[:, None] == test[0].flatten(1)[None]).all(-1).any()


def test_the_checksum_is_known_before_the_data_is_there_and_holds_for_both_parts(cifar: Open) -> None:
    expected = cifar().checksum()
    assert cifar(part="tuning", root="/nowhere").checksum() == expected
    assert cifar(split_seed=1).checksum() != expected
    assert cifar(checksums={"archive": "", "train": "", "test": "", "meta": ""}).checksum() != expected
    resized = cifar(augmentation={"random_resized_crop": {}, "flip": True}, image_size=224)
    assert resized.checksum() == expected
    public = CIFAR100(1, 0, {"crop_padding": 4, "flip": True})
    assert public.checksum() == "f3110959b30324ee71c8868c17f477943e7e45685fca674ba7b19bcc3a2f14f9"


@pytest.mark.parametrize("workers", [0, 2])
def test_seed_and_epoch_determine_the_batches_whatever_else_happened(cifar: Open, epoch: Any, workers: int) -> None:
    first = epoch(cifar(seed=3), 2)
    torch.manual_seed(99)
    other = cifar(seed=3)
    other.loader_workers = workers
    assert _equal(first, epoch(other, 2))
    assert not _equal(first, epoch(other, 1))
    assert not _equal(first, epoch(cifar(seed=4), 2))


def test_ranks_together_train_on_the_batches_of_a_single_process(cifar: Open, epoch: Any) -> None:
    parts = []
    for rank in range(2):
        data = cifar()
        data.set_ranks(rank, 2)
        parts.append(epoch(data, 1))
    joined = [tuple(map(torch.cat, zip(*both, strict=True))) for both in zip(*parts, strict=True)]
    assert _equal(joined, epoch(cifar(), 1))


def test_indexed_batches_are_the_same_with_the_positions_of_their_samples(cifar: Open, epoch: Any) -> None:
    data = cifar(part="tuning")
    data.needs = TrainingNeeds(indexed=True)
    batches: list[Indexed] = epoch(data, 1)
    assert _equal([batch.sample for batch in batches], epoch(cifar(part="tuning"), 1))
    labels = data.train_dataloader().dataset.labels
    for batch in batches:
        assert torch.equal(labels[batch.index], batch.sample[1])


def test_held_out_samples_are_not_trained_on(cifar: Open) -> None:
    data = cifar()
    data.needs = TrainingNeeds(held_out=0.1)
    train, held_out = data.train_dataloader().dataset, data.held_out_dataloader()
    assert (len(train), len(held_out.dataset)) == (207, 23)
    images = torch.cat([images for images, _ in held_out])
    assert images.dtype == torch.float32
    assert torch.equal(images, data._standardize(held_out.dataset.images))


def test_resized_images_are_those_of_torchvisions_transforms(cifar: Open) -> None:
    settings = {"random_resized_crop": {}, "flip": True}
    data = cifar(augmentation=settings, image_size=48, eval_resize=56, mean=[0.5] * 3, std=[0.25] * 3)
    data.loader_workers = 0
    found = next(iter(data.test_dataloader()))[0]
    small = cifar(mean=[0.0] * 3, std=[1.0] * 3)
    pictures = next(iter(small.test_dataloader()))[0]
    t = torchvision.transforms
    transform = t.Compose(
        [
            t.ToPILImage(),
            t.Resize(56, t.InterpolationMode.BICUBIC),
            t.CenterCrop(48),
            t.ToTensor(),
            t.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    assert data.image_shape == (3, 48, 48)
    assert torch.equal(found, torch.stack([transform(picture) for picture in pictures[: len(found)]]))


EVERYTHING = {
    "random_resized_crop": {"scale": [0.2, 1.0], "interpolation": "random"},
    "flip": True,
    "rand_augment": {"magnitude": 9, "magnitude_std": 0.5, "increasing": True},
    "color_jitter": 0.4,
    "random_erasing": 0.25,
}
MIXED = {**EVERYTHING, "mixup": 0.8, "cutmix": 1.0}


def _samples(batches: list[Indexed]) -> dict[int, Tensor]:
    return {int(index): image for batch in batches for index, image in zip(batch.index, batch.sample[0], strict=True)}


def test_an_augmented_image_depends_on_seed_epoch_and_sample_only(cifar: Open, epoch: Any) -> None:
    pytest.importorskip("timm")

    def samples(number: int, workers: int = 0, **settings: Any) -> dict[int, Tensor]:
        data = cifar(augmentation=EVERYTHING, image_size=40, **settings)
        data.loader_workers, data.keep_last, data.needs = workers, True, TrainingNeeds(indexed=True)
        return _samples(epoch(data, number))

    first, other = samples(2), samples(2, workers=2, batch_size=50)
    assert first.keys() == other.keys() == set(range(230))
    assert all(torch.equal(first[index], other[index]) for index in first)
    for changed in (samples(1), samples(2, seed=1)):
        assert not any(torch.equal(first[index], changed[index]) for index in first)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_mixed_batches_have_soft_targets_and_are_the_same_on_any_number_of_ranks(
    cifar: Open, epoch: Any, world: int
) -> None:
    pytest.importorskip("timm")
    parts = []
    for rank in range(world):
        data = cifar(augmentation=MIXED, image_size=40, batch_size=64)
        data.loader_workers = 2
        data.set_ranks(rank, world)
        parts.append(epoch(data, 1))
    joined = [tuple(map(torch.cat, zip(*both, strict=True))) for both in zip(*parts, strict=True)]
    single = cifar(augmentation=MIXED, image_size=40, batch_size=64)
    single.loader_workers = 0
    assert single.soft_targets
    assert _equal(joined, epoch(single, 1))
    for _, targets in joined:
        assert targets.shape == (64, 100)
        assert torch.allclose(targets.sum(1), torch.ones(64))
    assert next(iter(single.test_dataloader()))[1].dtype == torch.int64
    assert not cifar(augmentation=EVERYTHING, image_size=40).soft_targets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": {"crop_padding": 4, "flip": True, "noise": 1}}, "noise.*crop_padding, flip"),
        ({"augmentation": {"crop_padding": -1, "flip": True}}, "crop_padding"),
        ({"augmentation": {"crop_padding": 4, "flip": True}, "image_size": 64}, "random_resized_crop"),
        ({"augmentation": {"random_resized_crop": {}, "flip": 3}, "image_size": 64}, "flip.*bool"),
        ({"part": "finale"}, "unknown data part 'finale'.*Did you mean 'final'"),
        ({"validation_fraction": 0.0}, "leaves one side of the split empty"),
        (
            {"augmentation": {"random_resized_crop": {}, "flip": True}, "image_size": 64, "eval_interpolation": "box"},
            "unknown interpolation 'box'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(cifar: Open, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cifar(**changes)


@pytest.mark.parametrize("place", ["", "cifar100"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_files_are_found_in_the_data_folder(
    cifar: Open, cifar_parameters: dict[str, Any], empty_home: Path, place: str, unpacked: bool
) -> None:
    target = empty_home / place
    target.mkdir(exist_ok=True)
    shutil.copy(Path(cifar_parameters["root"]) / ARCHIVE, target)
    if unpacked:
        extract_archive(str(target / ARCHIVE), str(target))
        (target / ARCHIVE).unlink()
    assert len(cifar(root=None).test_dataloader().dataset) == 100


def test_the_archive_is_downloaded_verified_and_unpacked_once(
    cifar_parameters: dict[str, Any],
    empty_home: Path,
    server: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, folder = server
    _public(cifar_parameters, monkeypatch, url)
    augmentation = {"crop_padding": 4, "flip": True}
    for _ in range(2):
        data = CIFAR100(32, 0, augmentation, sizes=cifar_parameters["sizes"])
        data.prepare_data()
        assert len(data.train_dataloader().dataset) == 230
        (folder / ARCHIVE).unlink(missing_ok=True)
    assert sorted(path.name for path in (empty_home / "cifar100").iterdir() if path.name[0] != ".") == [FOLDER]


def test_a_damaged_download_leaves_nothing_behind(
    cifar_parameters: dict[str, Any], empty_home: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server
    _public(cifar_parameters, monkeypatch, url)
    content = (folder / ARCHIVE).read_bytes()
    (folder / ARCHIVE).write_bytes(content[:-100] + bytes(100))
    (empty_home / "cifar100" / ".cifar-100-left").mkdir(parents=True)  # by a process that was killed
    data = CIFAR100(32, 0, {"crop_padding": 4, "flip": True}, sizes=cifar_parameters["sizes"])
    with pytest.raises(UserError, match=r"downloading it from .* failed: File not found or corrupted.*KD_BENCH_DATA"):
        data.train_dataloader()
    assert [path.name for path in (empty_home / "cifar100").iterdir()] == [".cifar-100.lock"]
    (folder / ARCHIVE).write_bytes(content)
    assert len(data.train_dataloader().dataset) == 230


@pytest.mark.usefixtures("no_network")
def test_without_files_and_network_the_error_says_what_to_do(empty_home: Path) -> None:
    data = CIFAR100(32, 0, {"crop_padding": 4, "flip": True})
    with pytest.raises(UserError) as raised:
        data.train_dataloader()
    message = str(raised.value)
    for expected in (str(empty_home / "cifar100" / ARCHIVE), "http://127.0.0.1:9/", "KD_BENCH_DATA", "refused"):
        assert expected in message


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_file_is_named_and_never_unpickled(
    cifar: Open, cifar_parameters: dict[str, Any], tmp_path: Path, name: str, damage: str
) -> None:
    extract_archive(str(Path(cifar_parameters["root"]) / ARCHIVE), str(tmp_path))
    file = tmp_path / FOLDER / name
    if damage == "missing":
        file.unlink()
        message = f"has no file '{name}'"
    else:
        # a pickle that would make itself known
        evil = tmp_path / "unpickled"
        file.write_bytes(b"cpathlib\nPath\n(S'" + str(evil).encode() + b"'\ntR.")
        message = f"{file} is corrupt or another file: expected md5 {cifar_parameters['checksums'][name]}, found"
    with pytest.raises(UserError, match=message):
        cifar(root=str(tmp_path)).train_dataloader()


def test_a_damaged_archive_is_named(cifar: Open, cifar_parameters: dict[str, Any], tmp_path: Path) -> None:
    content = (Path(cifar_parameters["root"]) / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(content[:1000])
    with pytest.raises(UserError, match=r"expected md5 .* found .* Remove it"):
        cifar(root=str(tmp_path)).train_dataloader()
    assert not (tmp_path / FOLDER).exists()


def test_a_place_that_cannot_be_written_is_named(cifar: Open, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot put CIFAR-100 into .*file/cifar.*make room"):
        cifar(root=str(tmp_path / "file" / "cifar")).train_dataloader()


def test_a_miniature_that_is_gone_is_not_downloaded(cifar: Open, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is neither"):
        cifar(root=str(tmp_path)).train_dataloader()


def test_another_number_of_images_is_refused(cifar: Open, cifar_parameters: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"has 230 train images, but data.parameters.sizes says 231"):
        cifar(sizes={"train": 231, "test": 100}).train_dataloader()


def test_the_files_are_read_once_in_a_process(cifar: Open) -> None:
    cifar().train_dataloader()
    hits = read_cifar100.cache_info().hits
    cifar(seed=1).train_dataloader()
    assert read_cifar100.cache_info().hits == hits + 1
