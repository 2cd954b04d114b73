from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from kd_bench.data import fashion_files
from kd_bench.data.base import TrainingNeeds, open_data
from kd_bench.data.fashion import FashionMNIST
from kd_bench.data.fashion_files import FILES, find_files
from kd_bench.data.idx import read_idx
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.models import create_model
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.worker import run_item
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

# twice as many of the first five classes as of the others
LABELS = np.repeat(np.arange(10), [40] * 5 + [20] * 5).astype(np.uint8)
TEST_LABELS = np.tile(np.arange(10), 4).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, level: int = 6, **changes: np.ndarray) -> Path:
    """Noise in the real format; its class shows in its brightness."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, labels in (("train", LABELS), ("t10k", TEST_LABELS)):
        noise = generator.integers(0, 100, (len(labels), 28, 28))
        arrays[f"{part}_images"] = (noise + 15 * labels[:, None, None]).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    arrays.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        part, content = name.split("_")
        kind = "idx3" if content == "images" else "idx1"
        (folder / f"{part}-{content}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array), level))
    return folder


def open_fashion(
    seed: int = 0,
    split_seed: int = 0,
    train_size: int = 150,
    validation_size: int = 60,
    needs: TrainingNeeds | None = None,
) -> FashionMNIST:
    augmentation = {"shift": 1, "flip": 0.5}
    data = FashionMNIST(
        16, seed, augmentation, split_seed=split_seed, train_size=train_size, validation_size=validation_size
    )
    data.needs = needs or TrainingNeeds()
    return data


def epoch(data: FashionMNIST, number: int) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder on a machine without the Debian package and without a network."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("KD_BENCH_DATA", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fashion_files, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    return folder


@pytest.fixture
def tiny(bare: Path) -> Path:
    return write(bare)


def test_idx_files_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for name in FILES:
        unpacked = tmp_path / name.removesuffix(".gz")
        unpacked.write_bytes(gzip.decompress((folder / name).read_bytes()))
        shape, reader = ((28, 28), read_image_file) if "images" in name else ((), read_label_file)
        found, expected = read_idx(folder / name, shape), reader(str(unpacked))
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected.numpy())


def test_the_splits_are_disjoint_and_stratified_and_the_test_set_is_the_authors_own(tiny: Path) -> None:
    data = open_fashion()
    train = data.train_dataloader().dataset
    validation, test = (list(data.eval_dataloader(split)) for split in ("validation", "test"))
    images, labels = (torch.cat(parts) for parts in zip((train.images, train.labels), *validation, strict=True))
    assert len(images.flatten(1).unique(dim=0)) == len(images) == 210
    assert train.labels.bincount().tolist() == [20] * 5 + [10] * 5
    assert labels.bincount().tolist() == [28] * 5 + [14] * 5
    assert train.images.mean().abs() < 1e-5
    assert (train.images.std() - 1).abs() < 1e-5

    assert torch.equal(torch.cat([batch[1] for batch in test]), torch.from_numpy(TEST_LABELS).long())
    pixels = read_idx(tiny / "t10k-images-idx3-ubyte.gz", (28, 28)).astype(np.float64)
    standardized = torch.cat([batch[0] for batch in test])[:, 0].double().numpy()
    assert np.corrcoef(pixels.ravel(), standardized.ravel())[0, 1] > 1 - 1e-9


def test_the_same_pixels_have_the_same_checksum_wherever_they_lie(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksum = open_fashion().checksum()
    assert open_fashion(seed=5).checksum() == checksum
    for place, root in (
        ("a/fashion-mnist", "a"),  # the layouts of a user, of torchvision, and of the Debian package
        ("b/FashionMNIST/raw", "b"),
        ("debian", "empty"),
    ):
        write(tmp_path / place, level=1)
        (tmp_path / root).mkdir(exist_ok=True)
        monkeypatch.setenv("KD_BENCH_DATA", str(tmp_path / root))
        assert find_files() == tmp_path / place
        assert open_fashion().checksum() == checksum


def test_another_pixel_label_or_split_has_another_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = read_idx(write(tmp_path / "0") / "t10k-images-idx3-ubyte.gz", (28, 28)).copy()
    original[7, 3, 3] ^= 1
    swapped = LABELS.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]
    write(tmp_path / "1", t10k_images=original)
    write(tmp_path / "2", train_labels=swapped)
    found = set()
    for folder in ("0", "1", "2"):
        monkeypatch.setenv("KD_BENCH_DATA", str(tmp_path / folder))
        found.add(open_fashion().checksum())
    found |= {open_fashion(split_seed=1).checksum(), open_fashion(train_size=160).checksum()}
    assert len(found) == 5


def test_seed_and_epoch_determine_the_batches(tiny: Path) -> None:
    first, again = epoch(open_fashion(seed=3), 2), epoch(open_fashion(seed=3), 2)
    assert len(first) == 150 // 16
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, again, strict=True))
    for other in (epoch(open_fashion(seed=3), 1), epoch(open_fashion(seed=4), 2)):
        assert not torch.equal(first[0][0], other[0][0])


def test_a_method_gets_positions_or_held_out_samples_if_it_needs_them(tiny: Path) -> None:
    plain, indexed = open_fashion(), open_fashion(needs=TrainingNeeds(indexed=True))
    batches = epoch(indexed, 1)
    for batch, (images, _) in zip(batches, epoch(plain, 1), strict=True):
        assert torch.equal(batch.sample[0], images)
        assert torch.equal(plain.train_dataloader().dataset.labels[batch.index], batch.sample[1])

    data = open_fashion(needs=TrainingNeeds(held_out=0.2))
    train, held_out = data.train_dataloader().dataset, data.held_out_dataloader().dataset
    assert (len(train), held_out.labels.bincount().tolist()) == (120, [4] * 5 + [2] * 5)
    assert len(torch.cat([train.images, held_out.images]).flatten(1).unique(dim=0)) == 150


def test_files_that_are_nowhere_are_asked_for_by_name(tiny: Path, tmp_path: Path) -> None:
    (tiny / FILES[1]).unlink()
    with pytest.raises(UserError) as caught:
        open_fashion()
    message = str(caught.value)
    assert f"downloading it to {tiny / 'FashionMNIST' / 'raw'} failed" in message
    assert "Connection refused" in message
    assert f"{tiny} lacks {FILES[1]};" in message
    assert f"{tmp_path / 'debian'} lacks all files" in message
    assert "apt install dataset-fashion-mnist" in message
    assert "KD_BENCH_DATA" in message
    assert not list(tiny.glob(".fashion-mnist-*"))


def test_a_data_folder_that_is_none_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "FashionMNIST").write_text("in the way")
    with pytest.raises(UserError, match=r"failed: .*FashionMNIST.*apt install"):
        open_fashion()
    monkeypatch.setenv("KD_BENCH_DATA", str(bare / "missing"))
    with pytest.raises(UserError, match=r"KD_BENCH_DATA is .*not a folder"):
        open_fashion()


def _flip(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda packed: packed[:-2000], "unpacking it failed"),
        (lambda packed: packed[:2000] + b"junk" + packed[2004:], ""),
        (_flip, "unpacking it failed .*CRC"),
        (lambda packed: b"<html>not found</html>", "unpacking it failed"),
        (lambda packed: b"", "begins with nothing"),
        (lambda packed: gzip.compress(b"\0\0\x0d\3" + bytes(12)), "begins with 00000d03 where 00000803"),
        (lambda packed: gzip.compress(idx(LABELS)), "begins with 00000801 where 00000803"),
        (lambda packed: gzip.compress(b"\0\0\x08\3" + bytes(5)), "ends within its header"),
        (lambda packed: gzip.compress(idx(np.zeros((3, 27, 28), np.uint8))), r"\(27, 28\) where \(28, 28\)"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-784]), "300 samples, 235,200 bytes, but only 234,416"),
        (lambda packed: gzip.compress(gzip.decompress(packed) + b"\0"), "235,200 bytes, but more follows"),
        (lambda packed: gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", 4_000_000_000, 28, 28)), "but only 0 bytes"),
    ],
)
def test_a_damaged_file_is_named(tiny: Path, damage: Callable[[bytes], bytes], problem: str) -> None:
    file = tiny / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"{file} is not a whole IDX file.*{problem}.*Replace it"):
        open_fashion()


def test_a_folder_in_a_files_place_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_idx(tmp_path, ())


def test_files_that_do_not_belong_together_are_refused(tiny: Path) -> None:
    write(tiny, train_labels=LABELS[:-1])
    with pytest.raises(UserError, match="has 300 images but 299 labels in its train files"):
        open_fashion()
    write(tiny, t10k_labels=TEST_LABELS + 1)
    with pytest.raises(UserError, match=r"the t10k labels .*expected classes 0 to 9, found up to 10"):
        open_fashion()


def test_sizes_that_do_not_fit_are_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="cannot draw 250 training and 60 validation samples by class from 300"):
        open_fashion(train_size=250)


@pytest.fixture
def mirror(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A web server on this machine that offers the tiny files where torchvision looks for the real ones."""
    folder = write(tmp_path / "mirror")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    known = torchvision.datasets.FashionMNIST
    monkeypatch.setattr(known, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    resources = [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in FILES]
    monkeypatch.setattr(known, "resources", resources)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_files_are_downloaded_once(mirror: Path, bare: Path) -> None:
    assert find_files() == bare / "FashionMNIST" / "raw"
    for name in FILES:
        assert (bare / "FashionMNIST" / "raw" / name).read_bytes() == (mirror / name).read_bytes()
        (mirror / name).unlink()
    assert find_files() == bare / "FashionMNIST" / "raw"
    assert len(open_fashion().test_dataloader().dataset) == 40


def test_a_download_that_is_not_what_it_should_be_leaves_nothing(mirror: Path, bare: Path) -> None:
    (mirror / FILES[2]).write_bytes(b"another file")
    with pytest.raises(UserError, match=rf"failed: Error downloading {FILES[2]}.*apt install"):
        open_fashion()
    assert [path.name for path in bare.rglob("*") if path.is_file()] == [".fashion-mnist.lock"]


@pytest.mark.parametrize("name", ["fashion_cnn5", "fashion_resnet14"])
def test_the_networks_stages_halve_the_resolution(name: str) -> None:
    network = create_model(name, num_classes=10, in_channels=1)
    sizes = []
    for stage in (network.layer1, network.layer2, network.layer3):
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sizes == [14, 7, 4]


def _protocol(epochs: int, rows: list[str]) -> Protocol:
    """The protocol on the tiny files."""
    full = load_protocol("fashion-v1")
    parameters = {"split_seed": 0, "train_size": 150, "validation_size": 60}
    update = {"parameters": parameters, "checksum": open_fashion().checksum()}
    assert full.teacher_recipe is not None
    return full.model_copy(
        update={
            "id": "fashion-tiny",
            "data": full.data.model_copy(update=update),
            "methods": {name: full.methods[name] for name in rows},
            "core": (),
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": epochs, "batch_size": 16}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": epochs, "batch_size": 16}),
        }
    )


def test_a_student_learns_from_a_teacher_that_is_trained_on_the_spot(tiny: Path, tmp_path: Path) -> None:
    protocol = _protocol(2, ["plain", "KD"])
    (pair,) = protocol.pairs
    result = run_item(Item(protocol, pair, "KD", 0, tmp_path / "runs"))
    assert len(result.run.curve.train_loss) == 2
    assert 0 < result.run.last.agreement <= 1
    assert result.teacher.name == "fashion_resnet14"
    assert result.run.curve.train_loss[1] < result.run.curve.train_loss[0]


@pytest.mark.slow
@pytest.mark.parametrize("row", list(load_protocol("fashion-v1").methods))
def test_every_row_runs(tiny: Path, tmp_path: Path, row: str) -> None:
    protocol = _protocol(1, [row])
    (pair,) = protocol.pairs
    result = run_item(Item(protocol, pair, row, 0, tmp_path))
    assert np.isfinite(result.run.curve.train_loss).all()


def test_the_protocol_is_of_the_public_files() -> None:
    if not all((fashion_files.DEBIAN / name).is_file() for name in FILES):
        pytest.skip("the Debian package dataset-fashion-mnist is not installed; the tiny files test the rest")
    protocol = load_protocol("fashion-v1")
    data = open_data(protocol.data, protocol.student_recipe, 0)
    assert data.train_dataloader().dataset.labels.bincount().tolist() == [2000] * 10
    assert len(data.test_dataloader().dataset) == 10_000
