"""Methods from files as rows of a protocol, and benchmarks that run them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.options import LaunchOptions
from kd_bench.own_methods import add_own_methods, with_own_methods
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import plan, run_benchmark, run_protocol
from kd_bench.status import read_status
from own_method import SECOND, SOURCE, forgotten, write_method

PAIR = "resnet14-cnn4"


def _item(protocol: Protocol, output: Path, seed: int = 0) -> Item:
    return Item(protocol, PAIR, "LogitMatching", seed, output)


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path) -> Iterator[None]:
    with forgotten(tmp_path):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


def test_rows_are_named_after_the_classes_and_the_hash_stays(tiny: Protocol, tmp_path: Path) -> None:
    first, second = write_method(tmp_path), write_method(tmp_path, SECOND, "second.py")
    found = with_own_methods(tiny, [first, f"{second}:Second"], {"scale": 2}, 0.5)
    assert list(found.methods) == [*tiny.methods, "LogitMatching", "Second"]
    assert found.hash == tiny.hash
    row = found.methods["LogitMatching"]
    assert row == MethodRow.model_validate(
        {"class": f"{first}:LogitMatching", "parameters": {"scale": 2}, "task_weight": 0.5}
    )
    assert with_own_methods(found, [first], {"scale": 2}, 0.5) == found
    assert with_own_methods(tiny, [first]).methods["LogitMatching"].task_weight == 1.0


def test_the_row_knows_the_file_from_anywhere(tiny: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_method(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = with_own_methods(tiny, ["my_method.py"])
    assert found.methods["LogitMatching"].class_path == f"{tmp_path.resolve()}/my_method.py:LogitMatching"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("KD", "digits-tiny has another method 'KD' already.*rename your class, for example to MyKD"),
        ("DKD", "lightning_kd has another method 'DKD' already.*rename your class"),
        ("plain", "means something else.*rename your class"),
        ("all", "means something else"),
        ("_Mine", "cannot name results"),
        ("Müller", "cannot name results"),
    ],
)
def test_names_that_are_taken(name: str, message: str, tiny: Protocol, tmp_path: Path) -> None:
    reference = write_method(tmp_path, SOURCE.replace("LogitMatching", name))
    with pytest.raises(UserError, match=message):
        with_own_methods(tiny, [reference])


def test_two_files_with_a_class_of_the_same_name_are_refused(tiny: Protocol, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another method 'LogitMatching'"):
        with_own_methods(tiny, [write_method(tmp_path / "a"), write_method(tmp_path / "b")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": {"scale": {1}}}, "cannot be run like that: parameters.scale"),
        ({"task_weight": -1.0}, "cannot be run like that: task_weight"),
        ({"task_weight": float("nan")}, "cannot be run like that: task_weight"),
    ],
)
def test_arguments_that_no_protocol_can_hold(
    arguments: dict[str, object], message: str, tiny: Protocol, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        with_own_methods(tiny, [write_method(tmp_path)], **arguments)  # type: ignore[arg-type]


def test_the_fingerprint_is_of_the_content_not_of_the_path(tiny: Protocol, tmp_path: Path) -> None:
    def fingerprint(*folders: str, text: str = SOURCE, parameters: dict[str, object] | None = None) -> str:
        reference = write_method(tmp_path.joinpath(*folders), text)
        return _item(with_own_methods(tiny, [reference], parameters), tmp_path).fingerprint

    here = fingerprint("a")
    assert fingerprint("b", "c") == here
    assert fingerprint("a", text=SOURCE + "# a remark\n") != here
    assert fingerprint("b", parameters={"scale": 2.0}) != here


@pytest.mark.parametrize("methods", [["plain", "KD"], None])
def test_what_is_for_files_needs_a_file(methods: Sequence[str] | None, tmp_path: Path) -> None:
    for given in ({"method_parameters": {"weight": 2.0}}, {"task_weight": 0.5}):
        with pytest.raises(UserError, match="for methods from your own files, and there is none"):
            run_benchmark("digits-v1", output=tmp_path / "output", methods=methods, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_used_stops_everything_before_it_begins(tmp_path: Path) -> None:
    reference = write_method(tmp_path, "1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        run_benchmark("digits-v1", output=tmp_path / "output", methods=["plain", reference])
    unusable = write_method(tmp_path, name="other.py")
    with pytest.raises(UserError, match="does not take the parameters"):
        run_benchmark("digits-v1", output=tmp_path / "output", methods=[unusable], method_parameters={"sclae": 1})
    assert not (tmp_path / "output").exists()


def test_a_file_without_its_ending_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_method(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no method 'my_method'. If you mean the file, give my_method\.py"):
        run_benchmark("digits-v1", output=tmp_path / "output", methods=["plain", "my_method"])


def test_what_is_asked_for_becomes_names_of_rows(
    tiny: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_method(tmp_path)
    write_method(tmp_path, SECOND, "all.py")
    monkeypatch.chdir(tmp_path)
    assert add_own_methods(tiny, None) == (tiny, None)
    protocol, names = add_own_methods(tiny, ["all", "my_method.py"])
    assert names == ["all", "LogitMatching"]
    assert protocol == with_own_methods(tiny, ["my_method.py"])


def test_rows_of_files_are_planned_like_others(tiny: Protocol, tmp_path: Path) -> None:
    protocol = with_own_methods(tiny, [write_method(tmp_path)])
    items = plan(protocol, tmp_path, methods=["LogitMatching", "plain"])
    assert [item.method_name for item in items] == ["plain", "plain", "LogitMatching", "LogitMatching"]


@pytest.mark.slow
def test_workers_run_the_file(tiny: Protocol, place: Path, tmp_path: Path) -> None:
    protocol = with_own_methods(tiny, [write_method(tmp_path)], {"scale": 0.5})
    report = run_protocol(
        protocol, output=place, methods=["KD", "LogitMatching"], seeds=[0, 1], launch=LaunchOptions(workers=2)
    )
    assert report.failures == ()
    assert [run_set.method.name for run_set in report.run_sets] == ["KD", "LogitMatching"]
    assert {run_set.method.name for run_set in load_run_sets(place / "results")} >= {"KD", "LogitMatching"}
    (status,) = read_status(place)
    assert {(item.method, item.status) for item in status.items} >= {("LogitMatching", "done"), ("KD", "done")}
    again = run_protocol(protocol, output=place, methods=["LogitMatching"])
    assert (again.done, again.skipped) == (0, 2)
