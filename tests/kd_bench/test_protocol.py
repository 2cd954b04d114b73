from __future__ import annotations

import copy
from importlib import resources

import pytest
import yaml
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, json_sha256, load_protocol, parse_protocol
from kd_bench.rows import describe_method

from lightning_kd.methods import discover, family


def _text() -> str:
    return (resources.files("kd_bench") / "protocols" / "digits-v1.yaml").read_text()


def _changed(path: str, value: object) -> Protocol:
    content = copy.deepcopy(yaml.safe_load(_text()))
    *parents, last = path.split(".")
    node = content
    for parent in parents:
        node = node[parent]
    node[last] = value
    return parse_protocol(yaml.safe_dump(content), "test.yaml")


def test_the_hash_is_the_same_in_every_notation() -> None:
    content = yaml.safe_load(_text())
    reordered = yaml.safe_dump(dict(reversed(content.items())), default_flow_style=True)
    spelled_out = _changed("student_recipe.precision", "32-true")  # a default
    assert parse_protocol(reordered, "test.yaml").hash == spelled_out.hash == load_protocol("digits-v1").hash


def test_the_hash_that_published_results_carry() -> None:
    assert load_protocol("digits-v1").hash == "03626dd33dbc2a75bcbc361b4ad3ff6a9ffd2e2f7d981e20108b321e1bb33adf"


def test_every_method_for_images_has_a_row() -> None:
    protocol = load_protocol("digits-v1")
    rows = {describe_method(name, row).class_path for name, row in protocol.methods.items()}
    others = {"detection", "language"}
    # KD at temperature 1 for teachers of whom only the top classes are kept; the protocol's teacher is whole
    apart = {"TopKKD"}
    methods = {
        f"{method.__module__}.{name}": family(method) for name, method in discover().items() if name not in apart
    }
    assert {path for path, kind in methods.items() if kind not in others} - rows == set()
    assert {path for path, kind in methods.items() if kind in others} & rows == set()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.parameters.split_seed", 1),
        ("data.checksum", "0" * 64),
        ("pairs.resnet14-cnn4.student", "mini_resnet14"),
        ("student_recipe.epochs", 7),
        ("student_recipe.batch_size", 32),
        ("student_recipe.optimizer.lr", 0.2),
        ("student_recipe.schedule", {"name": "constant"}),
        ("student_recipe.augmentation.noise", 0.0),
        ("student_recipe.precision", "bf16-mixed"),
        ("teacher_recipe.seed", 3),
        ("seeds", [0, 1]),
        ("metrics", ["accuracy"]),
        ("accelerator", "auto"),
    ],
)
def test_the_hash_covers_what_decides_the_numbers(path: str, value: object) -> None:
    assert _changed(path, value).hash != load_protocol("digits-v1").hash


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "Other words"),
        ("description", "Other words"),
        ("methods.KD.parameters.temperature", 2.0),
        ("methods.Other", {"class": "KD"}),
        ("methods.KD.teacher", "previous"),
        ("core", ["KD"]),
    ],
)
def test_the_hash_does_not_cover_words_and_methods(path: str, value: object) -> None:
    assert _changed(path, value).hash == load_protocol("digits-v1").hash


def test_json_sha256_of_a_known_value() -> None:
    # printf '{"a":[1,2.5],"b":"x"}' | sha256sum
    assert json_sha256({"b": "x", "a": [1, 2.5]}) == "5cefae54a95b31dc660d6cbbb2198f0811fc70ee37b1cc85b1989870cd293ffb"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("student_recipe.epochs", "30", "student_recipe.epochs"),
        ("student_recipe.epochs", 0, "greater than or equal to 1"),
        ("student_recipe.optimizer.name", "sdg", "sgd"),
        ("student_recipe.learning_rate", 0.1, "Extra inputs"),
        ("seeds", [1, 0], "ascending"),
        ("methods.plain", {"class": "KD"}, "has no class"),
        ("methods.Mine", {}, "has no class"),
        ("methods.plain", {"teacher": "scratch"}, "the plain student, which takes no teacher"),
        ("methods.KD.teacher", "strangers", "methods.KD.teacher"),
        ("methods.KD.fusion", {"class": "Fixed"}, "leave task_weight out"),
        ("methods.DKD.fusion", {"class": "Fixed", "hold_out": 1.0}, "methods.DKD.fusion.hold_out"),
        ("methods.all", {"class": "KD"}, "stands for all rows"),
        ("core", ["KD", "DKKD"], "core names DKKD"),
        ("data.checksum", "abc", "data.checksum"),
        ("student_recipe.optimizer.lr", float("nan"), "lr"),
    ],
)
def test_a_faulty_protocol_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=r"test\.yaml") as caught:
        _changed(path, value)
    assert message in str(caught.value)


def test_text_that_is_no_protocol_is_refused() -> None:
    with pytest.raises(UserError, match="not a YAML file"):
        parse_protocol("a: [", "test.yaml")
    with pytest.raises(UserError, match="not a valid protocol"):
        parse_protocol("just words", "test.yaml")


def test_an_unknown_protocol_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown protocol 'digit-v1'.*digits-v1.*Did you mean 'digits-v1'"):
        load_protocol("digit-v1")
