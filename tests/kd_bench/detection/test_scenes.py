from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kd_bench.detection import scene_files
from kd_bench.detection.boxes import usable_boxes
from kd_bench.detection.digit_scenes import DigitScenes
from kd_bench.detection.raster import resize
from kd_bench.detection.scene_files import CONTENT, content_hash, find_scenes, write_scenes
from kd_bench.detection.scenes import SPLITS, SceneSettings, compose, split_digits
from kd_bench.errors import UserError
from PIL import Image
from sklearn.datasets import load_digits

# of the settings in `few`; a change of it makes results on older scenes incomparable
KNOWN = "be711f4031dfe3c502c9521787a3cd72064a7bd5e50c441d36f5aa00cc897e39"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    find_scenes.cache_clear()
    yield
    find_scenes.cache_clear()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestScenes:
    def test_splits_show_different_handwriting(self) -> None:
        parts = split_digits(SceneSettings())
        assert sorted(np.concatenate([parts[split] for split in SPLITS]).tolist()) == list(range(1797))
        images = load_digits().data
        seen = {split: {image.tobytes() for image in images[parts[split]]} for split in SPLITS}
        assert not seen["train"] & seen["test"]
        assert not seen["train"] & seen["validation"]
        for split in SPLITS:
            counts = np.bincount(load_digits().target[parts[split]])
            assert counts.min() > 0.9 * counts.max()

    def test_scenes_use_the_digits_of_their_split(self) -> None:
        settings, parts = SceneSettings(), split_digits(SceneSettings())
        for split in SPLITS:
            for number in range(5):
                scene = compose(settings, split, number, parts[split])
                assert set(scene.sources.tolist()) <= set(parts[split].tolist())
                assert scene.digits.tolist() == load_digits().target[scene.sources].tolist()

    def test_boxes_are_inside_and_overlap_a_little(self) -> None:
        settings, digits = SceneSettings(), split_digits(SceneSettings())["train"]
        overlaps, sizes, counts = [], [], []
        for number in range(60):
            scene = compose(settings, "train", number, digits)
            assert scene.pixels.shape == (96, 128, 3)
            x, y, width, height = scene.boxes.T
            assert (x >= 0).all()
            assert (y >= 0).all()
            assert (x + width <= 128).all()
            assert (y + height <= 96).all()
            counts.append(len(scene.boxes))
            sizes += height.tolist()
            overlaps += [share(a, b) for i, a in enumerate(scene.boxes) for b in scene.boxes[:i]]
        assert 1 <= min(counts) < 3
        assert 6 < max(counts) <= 8
        assert 0 < max(overlaps) <= settings.overlap
        assert sum(overlap > 0 for overlap in overlaps) > 10
        assert min(sizes) < 16
        assert 40 < max(sizes) <= 48

    def test_the_ink_is_in_the_box(self) -> None:
        """Scenes of one digit each, which differ in nothing but which digit it is."""
        bare = SceneSettings(most=1, clutter=0)
        zero, one = (int(np.flatnonzero(load_digits().target == digit)[0]) for digit in (0, 1))
        for number in range(10):
            scenes = [compose(bare, "train", number, np.array([source])) for source in (zero, one)]
            assert [scene.digits.tolist() for scene in scenes] == [[0], [1]]
            difference = np.abs(np.subtract(*(scene.pixels.astype(int) for scene in scenes))).max(axis=2)
            beside = np.ones_like(difference, dtype=bool)
            for scene in scenes:
                x, y, width, height = scene.boxes[0].tolist()
                beside[y : y + height, x : x + width] = False
            assert difference[~beside].max() > 25
            assert difference[beside].max() < 0.5 * difference.max()
            # the box of the narrow digit is narrower
            assert scenes[1].boxes[0, 2] < scenes[0].boxes[0, 2]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"smallest": 4}, "greater than or equal to 8"),
            ({"largest": 60}, "half of the shorter side"),
            ({"smallest": 30, "largest": 20}, "largest must lie between"),
            ({"test_fraction": 0.9}, "must leave digits for all three splits"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_settings_are_checked(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=f"scenes cannot be made: .*{message}"):
            DigitScenes(2, 0, {"flip": 0.0}, scenes=change, root=str(tmp_path))


def share(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.prod(np.maximum(0, high - low)) / min(a[2] * a[3], b[2] * b[3]))


def test_resizing_is_bilinear() -> None:
    values = np.random.default_rng(0).integers(0, 17, (8, 8))
    for size in ((8, 8), (13, 29), (48, 20)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(values)[None, None].double(), size=size, mode="bilinear", align_corners=False
        )
        assert np.allclose(resize(values, *size), expected[0, 0].numpy(), atol=1e-12)


class TestFiles:
    def test_they_are_the_same_to_the_byte(self, few: SceneSettings, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_scenes(few, tmp_path / name)
        assert files(tmp_path / "a") == files(tmp_path / "b")
        assert len(files(tmp_path / "a")) == 6 + 3 + 4 + 3 + 1

    def test_they_are_the_same_everywhere(self, few: SceneSettings, tmp_path: Path) -> None:
        assert (find_scenes(few, tmp_path) / CONTENT).read_text() == KNOWN

    def test_more_scenes_begin_with_the_same(self, few: SceneSettings, tmp_path: Path) -> None:
        less = few.model_copy(update={"train": 2})
        folders = [find_scenes(settings, tmp_path) for settings in (few, less)]
        assert folders[0] != folders[1]
        for number in (1, 2):
            first, second = (Image.open(folder / "train" / f"00000{number}.png") for folder in folders)
            assert np.array_equal(np.asarray(first), np.asarray(second))

    def test_the_seed_changes_them(self, few: SceneSettings, tmp_path: Path) -> None:
        other = find_scenes(few.model_copy(update={"seed": 1}), tmp_path)
        assert (other / CONTENT).read_text() != KNOWN

    def test_they_are_written_once(self, few: SceneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = find_scenes(few, tmp_path)
        find_scenes.cache_clear()
        monkeypatch.setattr(scene_files, "write_scenes", None)
        assert find_scenes(few, tmp_path) == folder

    @pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "annotations", "hash", "not json"])
    def test_damaged_files_are_written_anew(self, damage: str, few: SceneSettings, tmp_path: Path) -> None:
        folder = find_scenes(few, tmp_path)
        whole = files(folder)
        image, annotations = folder / "test" / "000002.png", folder / "annotations" / "instances_test.json"
        if damage == "missing":
            image.unlink()
        elif damage == "truncated":
            image.write_bytes(image.read_bytes()[:500])
        elif damage == "changed":
            Image.new("RGB", (128, 96)).save(image)
        elif damage == "annotations":
            annotations.write_text(annotations.read_text().replace('"category_id":', '"category_id":1'))
        elif damage == "hash":
            (folder / CONTENT).write_text("0" * 64)
        else:
            annotations.write_text("{")
        find_scenes.cache_clear()
        assert find_scenes(few, tmp_path) == folder
        assert files(folder) == whole
        assert not list(tmp_path.glob(".digit-scenes-*[!k]"))

    def test_packing_pixels_otherwise_is_no_damage(self, few: SceneSettings, tmp_path: Path) -> None:
        folder = find_scenes(few, tmp_path)
        image = folder / "train" / "000001.png"
        before = image.read_bytes()
        Image.open(image).save(image, compress_level=1)
        assert image.read_bytes() != before
        assert content_hash(folder) == KNOWN

    def test_a_folder_that_cannot_be_written_to_is_named(self, few: SceneSettings, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot write the scenes to .*Set KD_BENCH_DATA"):
            find_scenes(few, tmp_path / "file")


class TestData:
    @pytest.fixture
    def data(self, few: SceneSettings, tmp_path: Path) -> DigitScenes:
        given = few.model_dump(include={"train", "validation", "test"})
        data = DigitScenes(2, 0, {"flip": 0.0}, scenes=given, root=str(tmp_path))
        data.loader_workers = 0
        return data

    def test_it_is_real_coco(self, data: DigitScenes) -> None:
        pycoco = pytest.importorskip("pycocotools.coco")
        for split, count in (("train", 6), ("validation", 3), ("test", 4)):
            truth = data.truth(split)
            known = pycoco.COCO(str(truth.path))
            assert len(known.getImgIds()) == len(truth) == count
            assert [item["name"] for item in known.loadCats(known.getCatIds())] == [str(digit) for digit in range(10)]
            for annotation in known.loadAnns(known.getAnnIds()):
                assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
            counts = usable_boxes(truth).counts
            assert (counts.crowds, counts.empty, counts.outside, counts.clipped) == (0, 0, 0, 0)

    def test_it_is_loaded(self, data: DigitScenes) -> None:
        assert data.checksum() == KNOWN
        assert data.splits() == ("validation",)
        assert len(list(data.train_dataloader())) == 3
        images, targets = next(iter(data.test_dataloader()))
        assert (len(images), images[0].shape, len(targets)) == (4, (3, 96, 128), 4)
        content = json.loads(data.truth("test").path.read_text())
        own = [item["category_id"] for item in content["annotations"] if item["image_id"] == 1]
        assert targets[0]["labels"].tolist() == own

    def test_other_splits_are_refused(self, data: DigitScenes) -> None:
        with pytest.raises(UserError, match="unknown split 'dev'"):
            data.truth("dev")
