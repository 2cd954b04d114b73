"""Loading a method from a file: the same class everywhere, one file only, and errors that help."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kd_bench.construct import source_sha256
from kd_bench.errors import UserError
from kd_bench.method_file import MAX_BYTES, file_class_path, load_method_class
from kd_bench.protocol import MethodRow
from kd_bench.rows import create_method, describe_method
from own_method import SECOND, SOURCE, forgotten, write_method

from lightning_kd.methods import DistillationMethod
from lightning_kd.methods.load_file import is_file_reference


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules and paths that a test adds are removed again."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    with forgotten(tmp_path):
        yield


def _row(reference: str, **parameters: object) -> MethodRow:
    return MethodRow.model_validate({"class": reference, "parameters": parameters})


def test_the_only_method_of_a_file_or_the_named_one(tmp_path: Path) -> None:
    one = write_method(tmp_path)
    assert load_method_class(one).__name__ == "LogitMatching"
    two = write_method(tmp_path, SOURCE + SECOND, "two.py")
    assert load_method_class(f"{two}:Second").__name__ == "Second"
    private = write_method(tmp_path, SOURCE.replace("LogitMatching", "_Base") + SECOND, "derived.py")
    assert load_method_class(private).__name__ == "Second"


def test_a_relative_path_and_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_method(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_method_class("my_method.py") is load_method_class("~/my_method.py")


def test_loading_again_gives_the_same_class_until_the_file_changes(tmp_path: Path) -> None:
    reference = write_method(tmp_path)
    first = load_method_class(reference)
    assert load_method_class(f"{reference}:LogitMatching") is first
    write_method(tmp_path, SOURCE.replace("scale: float = 1.0", "scale: float = 3.0"))
    second = load_method_class(reference)
    assert second is not first
    assert (first().scale, second().scale) == (1.0, 3.0)
    assert pickle.loads(pickle.dumps(first)) is first


def test_files_of_one_name_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    here, there = write_method(tmp_path / "a"), write_method(tmp_path / "b", SECOND)
    assert load_method_class(here).__name__ == "LogitMatching"
    assert load_method_class(there).__name__ == "Second"
    # not even into that of a library
    assert load_method_class(write_method(tmp_path, name="random.py")).__name__ == "LogitMatching"
    assert sys.modules["random"].__name__ == "random"


def test_methods_can_be_pickled_and_copied(tmp_path: Path) -> None:
    method = load_method_class(write_method(tmp_path))(scale=2.0)
    for twin in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        assert type(twin) is type(method)
        assert twin.scale == 2.0


def _loaded_elsewhere(reference: str) -> bytes:
    return pickle.dumps(load_method_class(reference))


def test_a_spawned_process_finds_the_same_class(tmp_path: Path) -> None:
    reference = write_method(tmp_path)
    here = load_method_class(reference)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(_loaded_elsewhere, (reference,))
    assert pickle.loads(elsewhere) is here


def test_a_row_is_created_and_described(tmp_path: Path) -> None:
    reference = write_method(tmp_path)
    method = create_method(_row(reference, scale=2))
    assert isinstance(method, DistillationMethod)
    assert method.scale == 2
    found = describe_method("LogitMatching", _row(reference, scale=2))
    assert found.class_path == "my_method.LogitMatching"
    assert found.parameters == {"scale": 2, "weight": 1.0}
    assert found.source_sha256 == hashlib.sha256(SOURCE.encode()).hexdigest() == source_sha256(type(method))


def test_the_description_does_not_tell_where_the_file_lies(tmp_path: Path) -> None:
    here, there = (_row(write_method(tmp_path / folder)) for folder in ("a", "b"))
    assert describe_method("Mine", here) == describe_method("Mine", there)
    odd = write_method(tmp_path, name="my-method 2.py")
    assert file_class_path(load_method_class(odd), odd) == "my_method_2.LogitMatching"


def test_a_row_that_its_class_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"my_method\.py does not take the parameters .*'sclae'"):
        create_method(_row(write_method(tmp_path), sclae=2))


@pytest.mark.parametrize(
    ("constructor", "parts"),
    [
        ("def __init__(self): self.loss = F.mse_loss", ["does not call super().__init__(weight, layers)"]),
        ("def __init__(self): self.net = torch.nn.Linear(2, 2)", ["AttributeError", "my_method.py, line", "check"]),
        ("def __init__(self): super().__init__(), 1 / 0", ["ZeroDivisionError", "my_method.py, line", "check"]),
        ("def __init__(self, temperature): super().__init__()", ["does not take the parameters {}", "'temperature'"]),
    ],
    ids=["no super", "no super before a layer", "raises", "required"],
)
def test_a_class_that_cannot_be_made(constructor: str, parts: list[str], tmp_path: Path) -> None:
    text = SOURCE + f"\n\nimport torch\n\n\nclass Mine(LogitMatching):\n    {constructor}\n"
    with pytest.raises(UserError) as caught:
        create_method(_row(write_method(tmp_path, text) + ":Mine"))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_what_looks_like_a_file() -> None:
    assert all(map(is_file_reference, ("a.py", "../x/a.py:B", "C:\\x\\a.py:B")))
    assert not any(map(is_file_reference, ("KD", "lightning_kd.methods.logits.kd.KD", "a.pyc", "a.py:", "a.py:b/c")))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("class Mine(:\n    pass\n", ["my_method.py, line 1", "class Mine(:", "mend this line"]),
        ("import no_such_library\n", ["'no_such_library', which is not installed", "line 1"]),
        ("x = 1\ny = x / 0\n", ["ZeroDivisionError", "line 2: y = x / 0"]),
        ("raise SystemExit(0)\n", ["ends the process"]),
        ("class Loss:\n    pass\n", ["no distillation method", "Loss"]),
        (SOURCE + SECOND, ["several methods: LogitMatching, Second", "my_method.py:Second"]),
        ("x = '\0'\n", ["my_method.py", "null bytes"]),
        ("x = " + "(" * 5000 + ")" * 5000, ["my_method.py"]),
        ("#" * (MAX_BYTES + 1), ["too large"]),
    ],
    ids=["syntax", "missing module", "raises", "exits", "no method", "several", "null byte", "nested", "huge"],
)
def test_a_file_that_cannot_be_used(text: str, parts: list[str], tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(UserError) as caught:
        load_method_class(write_method(tmp_path, text))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "cannot be imported" not in str(caught.value) or set(sys.modules) == before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gone.py", "there is no file"),
        (".", "not a Python file"),
        ("my_method.py:LogitMatchign", "did you mean 'LogitMatching'"),
        ("my_method.py:Plain", "a class derived from object"),
        ("my_method.py:F", "is a module"),
        ("my_method.py:KD", r"KD is imported by .*ask for it by its name"),
    ],
)
def test_a_name_that_is_not_there(
    reference: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_method(tmp_path, SOURCE + "\n\nfrom lightning_kd.methods import KD\n\n\nclass Plain:\n    pass\n")
    with pytest.raises(UserError, match=message):
        load_method_class(reference)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("import neighbour", "neighbours: neighbour"),
        ("from neighbour import SCALE", "neighbours: neighbour"),
        ("from package.inside import SCALE", "neighbours: package"),
        ("from . import neighbour", "relative to itself"),
        ("try:\n    import neighbour\nexcept ImportError:\n    pass", "neighbours: neighbour"),
        ("def later():\n    import neighbour", "neighbours: neighbour"),
        ("import sys\nsys.path.insert(0, __file__.rpartition('/')[0] + '/package')\nimport inside", "inside"),
    ],
    ids=["import", "from", "package", "relative", "optional", "later", "path"],
)
@pytest.mark.parametrize("on_path", [False, True])
def test_a_file_with_neighbours_is_refused(lines: str, name: str, on_path: bool, tmp_path: Path) -> None:
    write_method(tmp_path, "SCALE = 1.0\n", "neighbour.py")
    write_method(tmp_path / "package", "SCALE = 1.0\n", "inside.py")
    if on_path:
        sys.path.insert(0, str(tmp_path))
    reference = write_method(tmp_path, SOURCE + "\n\n" + lines + "\n")
    for _ in range(2):  # what is imported by now must not hide it
        with pytest.raises(UserError, match=f"{name}.*one file.*move what the method needs into it"):
            load_method_class(reference)


def test_a_neighbour_that_is_imported_in_a_roundabout_way_is_refused(tmp_path: Path) -> None:
    write_method(tmp_path, "SCALE = 1.0\n", "neighbour.py")
    sys.path.insert(0, str(tmp_path))
    reference = write_method(tmp_path, SOURCE + "\n\nimport importlib\nimportlib.import_module('neigh' + 'bour')\n")
    for _ in range(2):
        with pytest.raises(UserError, match="neighbours: neighbour"):
            load_method_class(reference)


def test_installed_packages_are_not_neighbours(tmp_path: Path) -> None:
    # folders and files that are called like a library, and that Python would not take for it
    (tmp_path / "numpy").mkdir()
    (tmp_path / "json.py").write_text("")
    text = SOURCE + "\n\nimport json\nimport numpy\nimport lightning_kd.schedules\n"
    assert load_method_class(write_method(tmp_path, text)).__name__ == "LogitMatching"
