from __future__ import annotations

import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kd_bench.detection.boxes import usable_boxes
from kd_bench.detection.coco import COCO
from kd_bench.detection.coco_files import ARCHIVES, Archive, download_coco, find_coco
from kd_bench.detection.dataset import DetectionAugmentation, DetectionImages
from kd_bench.detection.detections import Detections
from kd_bench.detection.evaluate import evaluate
from kd_bench.detection.miniature_coco import coco_categories
from kd_bench.errors import UserError
from PIL import Image

Open = Callable[..., COCO]


@pytest.fixture
def coco(coco_parameters: dict[str, Any]) -> Open:
    def open_coco(seed: int = 0, batch_size: int = 4, flip: float = 0.5, **changes: Any) -> COCO:
        data = COCO(batch_size, seed, {"flip": flip}, **{**coco_parameters, **changes})
        data.loader_workers = 0
        return data

    return open_coco


def epoch(data: COCO, number: int = 0) -> list[Any]:
    loader = data.train_dataloader()
    sampler: Any = loader.sampler
    sampler.set_epoch(number)
    return list(loader)


def flat(batches: list[Any]) -> list[tuple[torch.Tensor, dict[str, Any]]]:
    return [pair for images, targets in batches for pair in zip(images, targets, strict=True)]


def assert_same(first: list[Any], second: list[Any]) -> None:
    for (image, target), (other, expected) in zip(flat(first), flat(second), strict=True):
        assert target["image_id"] == expected["image_id"]
        assert torch.equal(image, other)
        assert torch.equal(target["boxes"], expected["boxes"])
        assert torch.equal(target["labels"], expected["labels"])


class TestMiniature:
    def test_it_has_the_classes_of_coco(self, coco: Open) -> None:
        ids = [item["id"] for item in coco_categories()]
        assert len(ids) == 80
        assert sorted(set(range(1, 91)) - set(ids)) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
        assert coco().categories.names[:2] == ("person", "bicycle")

    def test_it_has_the_oddities_of_coco(self, coco: Open) -> None:
        for split in ("train", "test"):
            counts = usable_boxes(coco().truth(split)).counts
            found = counts.crowds, counts.empty, counts.outside, counts.images_without, counts.clipped
            assert found == (1, 1, 1, 1, 1)
        folder = coco().folder("train")
        assert {Image.open(path).mode for path in folder.iterdir()} == {"RGB", "L"}
        assert len({Image.open(path).size for path in folder.iterdir()}) == 2


class TestSplits:
    def test_in_the_end_all_of_train2017_is_trained_on(self, coco: Open) -> None:
        data = coco()
        assert (data.splits(), len(data.truth("train")), len(data.truth("test"))) == ((), 16, 5)
        assert (data.folder("train").name, data.folder("test").name) == ("train2017", "val2017")
        assert sum(len(images) for images, _ in data.test_dataloader()) == 5
        with pytest.raises(UserError, match="has no validation split"):
            data.eval_dataloader("validation")

    def test_tuning_leaves_val2017_alone(self, coco: Open) -> None:
        data = coco(part="tuning")
        parts = {split: set(data.truth(split).image_id.tolist()) for split in ("train", "validation", "test")}
        assert data.splits() == ("validation",)
        assert parts["validation"] == parts["test"]
        assert len(parts["test"]) == 4
        assert not parts["train"] & parts["test"]
        assert parts["train"] | parts["test"] == set(coco().truth("train").image_id.tolist())
        assert {data.folder(split).name for split in parts} == {"train2017"}
        assert set(coco(part="tuning", split_seed=1).truth("test").image_id.tolist()) != parts["test"]

    def test_the_checksum_is_that_of_both_parts_and_of_the_split(self, coco: Open) -> None:
        assert coco().checksum() == coco(seed=5, part="tuning").checksum() != coco(split_seed=1).checksum()


class TestTraining:
    def test_images_without_boxes_are_left_out(self, coco: Open) -> None:
        data = coco(batch_size=1, ratio_factor=0)
        found = flat(epoch(data))
        assert len(found) == 15
        assert all(len(target["boxes"]) for _, target in found)

    def test_targets_are_what_the_file_says(self, coco: Open) -> None:
        data = coco()
        images = data.images("train")
        image, target = images[0]
        path = data.folder("train") / "000000001000.jpg"
        assert torch.equal(image, torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255)
        assert target["image_id"] == 1000
        content = json.loads((data.folder("train").parent / "annotations/instances_train2017.json").read_text())
        own = [item for item in content["annotations"] if item["image_id"] == 1000 and not item["iscrowd"]]
        boxes = torch.tensor([item["bbox"] for item in own])
        assert torch.equal(target["boxes"], torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        ids = sorted(item["id"] for item in content["categories"])
        assert target["labels"].tolist() == [1 + ids.index(item["category_id"]) for item in own]
        numbered = coco(numbering="ids").images("train")[0][1]["labels"]
        assert numbered.tolist() == [item["category_id"] for item in own]

    def test_grey_images_get_three_channels(self, coco: Open) -> None:
        images = coco().images("train")
        grey = next(image for image, target in map(images.__getitem__, range(15)) if target["image_id"] == 1021)
        assert grey.shape[0] == 3
        assert torch.equal(grey[0], grey[2])

    def test_mirrored_boxes_are_where_the_objects_are(self, coco: Open) -> None:
        plain, flipped = (dict(by_id(epoch(coco(flip=flip)))) for flip in (0.0, 1.0))
        for id_, (image, target) in flipped.items():
            original, expected = plain[id_]
            assert torch.equal(image.flip(2), original)
            x1, y1, x2, y2 = target["boxes"].unbind(1)
            width = image.shape[2]
            assert torch.allclose(torch.stack([width - x2, y1, width - x1, y2], 1), expected["boxes"])
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()

    def test_augmentation_depends_on_seed_epoch_and_image_alone(self, coco: Open) -> None:
        first = epoch(coco(), 1)
        torch.manual_seed(99)
        assert_same(first, epoch(coco(), 1))
        one_by_one = dict(by_id(epoch(coco(batch_size=1, ratio_factor=0), 1)))
        for id_, (image, _) in by_id(first):
            assert torch.equal(image, one_by_one[id_][0])
        other = dict(by_id(epoch(coco(batch_size=1, ratio_factor=0), 2)))
        changed = [id_ for id_, (image, _) in one_by_one.items() if not torch.equal(image, other[id_][0])]
        assert 0 < len(changed) < 15

    def test_worker_processes_make_the_same_batches(self, coco: Open) -> None:
        data = coco()
        data.loader_workers = 2
        assert_same(epoch(data, 3), epoch(coco(), 3))

    def test_two_ranks_see_what_one_sees(self, coco: Open) -> None:
        parts = [coco(), coco()]
        for rank, data in enumerate(parts):
            data.set_ranks(rank, 2)
        halves = [epoch(data) for data in parts]
        joined = [(first[0] + second[0], first[1] + second[1]) for first, second in zip(*halves, strict=True)]
        assert_same(joined, epoch(coco()))
        tuning = [coco(part="tuning"), coco(part="tuning")]
        for rank, data in enumerate(tuning):
            data.set_ranks(rank, 2)
        seen = [target["image_id"] for data in tuning for _, target in flat(list(data.val_dataloader()[0]))]
        assert sorted(seen) == tuning[0].truth("validation").image_id.tolist()
        with pytest.raises(UserError, match="cannot be divided equally"):
            parts[0].set_ranks(0, 3)


def by_id(batches: list[Any]) -> Iterator[tuple[int, tuple[torch.Tensor, dict[str, Any]]]]:
    return ((target["image_id"], (image, target)) for image, target in flat(batches))


def test_a_detector_that_finds_everything_scores_one(coco: Open) -> None:
    """From the loader to the metric: boxes, labels and ids keep their meaning."""
    data = coco(numbering="ids")
    found = [
        (target["image_id"], {**target, "scores": torch.ones(len(target["boxes"]))})
        for _, target in flat(list(data.test_dataloader()))
    ]
    found = [(id_, {key: value for key, value in item.items() if key != "image_id"}) for id_, item in found]
    truth = data.truth("test")
    metrics = evaluate(truth, Detections.of_images(found, truth.categories, "ids"))
    names = truth.categories.names
    # the box without area and the one beside its image cannot be found
    hidden = truth.label[(truth.box[:, 2] == 0) | (truth.box[:, 0] > truth.width[truth.image])]
    fine = {names[label] for label in usable_boxes(truth).label} - {names[label] for label in hidden}
    assert len(fine) > 5
    for name in fine:
        assert metrics.class_ap[name] == pytest.approx(1)


class TestErrors:
    def test_settings_are_checked(self, coco: Open, coco_parameters: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="unknown data part"):
            coco(part="test")
        with pytest.raises(UserError, match="unknown numbering"):
            coco(numbering="names")
        with pytest.raises(UserError, match="flip"):
            COCO(4, 0, {"flip": 2.0}, **coco_parameters)
        with pytest.raises(UserError, match="lists 16 images; expected 118,287"):
            coco(counts={}).truth("train")

    def test_a_damaged_image_is_named(self, coco: Open, tmp_path: Path) -> None:
        data = coco()
        folder = tmp_path / "train2017"
        shutil.copytree(data.folder("train"), folder)
        images = DetectionImages(folder, data.truth("train"), augmentation=DetectionAugmentation())
        path = folder / "000000001000.jpg"
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(UserError, match=r"000000001000.jpg is not an image that can be read"):
            images[0]
        Image.new("RGB", (30, 40)).save(path)
        with pytest.raises(UserError, match=r"is 30 x 40 pixels, but .* says 112 x 144"):
            images[0]

    def test_a_set_without_boxes_is_refused(self, coco: Open) -> None:
        truth = coco().truth("train")
        bare = truth.subset(np.array([2]))
        with pytest.raises(UserError, match="no image with a box to train on"):
            DetectionImages(coco().folder("train"), bare, only_with_boxes=True)
        assert len(DetectionImages(coco().folder("train"), bare)) == 1


class TestFiles:
    @pytest.fixture
    def served(self, coco_parameters: dict[str, Any], tmp_path: Path) -> Iterator[tuple[Archive, ...]]:
        """The miniature as archives behind addresses on this machine."""
        root, folder = Path(coco_parameters["root"]), tmp_path / "served"
        folder.mkdir()
        for archive in ARCHIVES:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as packed:
                for name in archive.gives:
                    files = sorted((root / name).iterdir()) if (root / name).is_dir() else [root / name]
                    for file in files:
                        packed.write(file, file.relative_to(root))
            (folder / archive.name).write_bytes(buffer.getvalue())
        handler = partial(_Quiet, directory=str(folder))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            address = f"http://127.0.0.1:{server.server_port}"
            yield tuple(Archive(f"{address}/{archive.name}", None, archive.gives) for archive in ARCHIVES)
            server.shutdown()
            thread.join()

    def test_archives_are_fetched_and_unpacked(self, served: tuple[Archive, ...], coco: Open, tmp_path: Path) -> None:
        root = tmp_path / "coco"
        download_coco(root, served)
        assert coco(root=str(root)).checksum() == coco().checksum()
        assert not list(root.glob("*.zip"))
        assert find_coco(root) == root

    def test_archives_at_hand_are_unpacked_and_kept(self, served: tuple[Archive, ...], tmp_path: Path) -> None:
        root = tmp_path / "coco"
        shutil.copytree(tmp_path / "served", root)
        gone = tuple(Archive("http://127.0.0.1:9/" + archive.name, None, archive.gives) for archive in served)
        download_coco(root, gone)
        assert len(list(root.glob("*.zip"))) == 3
        assert find_coco(root) == root

    def test_a_wrong_archive_is_refused(self, served: tuple[Archive, ...], tmp_path: Path) -> None:
        wrong = Archive(served[0].url, ARCHIVES[0].md5, served[0].gives)
        with pytest.raises(UserError, match="its md5 is not f4bbac64"):
            download_coco(tmp_path / "coco", (wrong,))
        other = Archive(served[1].url, None, ("train2017",))
        with pytest.raises(UserError, match="has no train2017; it is another archive"):
            download_coco(tmp_path / "coco", (other,))

    def test_what_is_missing_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KD_BENCH_DATA", str(tmp_path))
        (tmp_path / "coco" / "val2017").mkdir(parents=True)
        with pytest.raises(UserError, match=r"no train2017\. Unpack http.*annotations_trainval2017\.zip") as caught:
            find_coco()
        assert "val2017.zip" not in str(caught.value).replace("trainval2017.zip", "")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
