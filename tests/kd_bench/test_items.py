from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.collect import collect, refuse_foreign
from kd_bench.errors import UserError
from kd_bench.items import Item, ItemResult
from kd_bench.names import choose
from kd_bench.options import LaunchOptions, RunOptions
from kd_bench.protocol import MethodRow, Protocol, load_protocol
from kd_bench.run_set_files import load_run_sets, read_run_set
from kd_bench.runner import plan, run_benchmark
from kd_bench.storage import write_model
from kd_bench.worker import run_item


def _item(protocol: Protocol, output: Path, method: str = "KD", seed: int = 0) -> Item:
    return Item(protocol, "resnet14-cnn4", method, seed, output)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


def _numbers(result: ItemResult) -> tuple[object, ...]:
    run = result.run
    return run.last, run.best, run.curve, run.predictions_sha256


@pytest.mark.parametrize("method", ["plain", "KD", "FitNet"])
def test_the_numbers_depend_on_the_item_alone(method: str, tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place, method)
    first = run_item(item)
    assert item.load() == first
    run_item(_item(tiny, place, "KD", seed=1))  # something else in between, in the same process
    assert _numbers(run_item(item)) == _numbers(first)
    assert first.run.extra_parameters == (608 if method == "FitNet" else 0)
    assert first.run.best.accuracy == max(first.run.best.accuracy, first.run.last.accuracy)
    assert len(first.run.curve.train_loss) == 2


def test_all_methods_start_from_the_same_student_and_see_the_same_data(tiny: Protocol, place: Path) -> None:
    one_step = tiny.model_copy(
        update={
            "student_recipe": tiny.student_recipe.model_copy(update={"epochs": 1, "batch_size": 899}),
            "methods": {
                name: row.model_copy(update={"parameters": {**row.parameters, "weight": 0.0}, "task_weight": 1.0})
                if name != "plain"
                else row
                for name, row in tiny.methods.items()
            },
        }
    )
    results = [run_item(_item(one_step, place, method)) for method in one_step.methods]
    assert len({result.run.predictions_sha256 for result in results}) == 1
    assert len({result.run.curve.train_loss for result in results}) == 1


def test_the_teacher_is_trained_once_and_measured(tiny: Protocol, tmp_path: Path) -> None:
    first = run_item(_item(tiny, tmp_path))
    (weights,) = tmp_path.rglob("weights.safetensors")
    stamp = weights.stat().st_mtime_ns
    second = run_item(_item(tiny, tmp_path, seed=1))
    assert weights.stat().st_mtime_ns == stamp
    assert first.teacher == second.teacher
    assert first.teacher.parameters == 174_970
    assert first.teacher.accuracy > 0.5


def test_a_damaged_teacher_is_named(tiny: Protocol, tmp_path: Path) -> None:
    run_item(_item(tiny, tmp_path))
    (weights,) = tmp_path.rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"not the file that teacher.json describes\. Remove"):
        run_item(_item(tiny, tmp_path))


def test_an_item_is_done_again_when_its_recipe_method_or_files_change(tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place)
    run_item(item)
    assert item.load() is not None
    row = tiny.methods["KD"]
    warmer = tiny.model_copy(
        update={"methods": {"KD": row.model_copy(update={"parameters": {**row.parameters, "temperature": 2.0}})}}
    )
    longer = tiny.model_copy(update={"student_recipe": tiny.student_recipe.model_copy(update={"epochs": 3})})
    assert _item(warmer, place).load() is None
    assert _item(longer, place).load() is None
    item.predictions.write_bytes(b"")
    assert item.load() is None
    item.predictions.unlink()
    assert item.load() is None


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"temperature": 2.0}},
        {"task_weight": 0.5},
        {"teacher": "previous"},
        {"fusion": {"class": "Fixed"}},
        {"fusion": {"class": "Fixed", "parameters": {"ratio": 0.4}}},
        {"fusion": {"class": "TeacherConfidence"}},
        {"fusion": {"class": "TrilateralGeometry", "hold_out": 0.1}},
        {"fusion": {"class": "TrilateralGeometry", "hold_out": 0.2}},
    ],
)
def test_the_fingerprint_covers_all_that_a_row_says(change: dict[str, object], tiny: Protocol, place: Path) -> None:
    def fingerprint(**row: object) -> str:
        methods = {"Mine": MethodRow.model_validate({"class": "KD", **row})}
        return _item(tiny.model_copy(update={"methods": methods}), place, "Mine").fingerprint

    assert fingerprint(**change) == fingerprint(**change)
    others: list[dict[str, object]] = [
        {},
        {"fusion": {"class": "Fixed", "parameters": {"ratio": 0.3}}},
        {"fusion": {"class": "TrilateralGeometry", "hold_out": 0.3}},
    ]
    assert fingerprint(**change) not in {fingerprint(**other) for other in others}


def test_a_corrupt_result_is_named(tiny: Protocol, tmp_path: Path) -> None:
    item = _item(tiny, tmp_path)
    item.result.parent.mkdir(parents=True)
    item.result.write_text("{")
    with pytest.raises(UserError, match=r"seed-0\.json is not a valid ItemResult"):
        item.load()


def test_finished_items_become_a_run_set(tiny: Protocol, place: Path) -> None:
    items = [_item(tiny, place, "plain", seed) for seed in (0, 1)]
    results = [run_item(item) for item in items]
    (run_set,) = collect(items[:1])  # one of them stands for its run set
    assert run_set.runs == tuple(result.run for result in results)
    assert load_run_sets(place / "results") == [run_set]


def test_a_better_verification_survives_gathering_again(tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place, "plain")
    run_item(item)
    (run_set,) = collect([item])
    write_model(item.run_set, run_set.model_copy(update={"verification": "retrained"}))
    (again,) = collect([item])
    assert again.verification == read_run_set(item.run_set).verification == "retrained"


def test_results_of_another_recipe_are_not_overwritten(tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place, "plain")
    run_item(item)
    collect([item])
    longer = tiny.model_copy(update={"student_recipe": tiny.student_recipe.model_copy(update={"epochs": 3})})
    refuse_foreign([item])
    with pytest.raises(UserError, match="made under another recipe of 'digits-tiny'"):
        refuse_foreign([_item(longer, place, "plain")])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"methods": ["KD", "DKDD"]}, "unknown method 'DKDD'.*Did you mean 'DKD'"),
        ({"pairs": ["resnet-cnn"]}, "unknown pair 'resnet-cnn'.*resnet14-cnn4"),
        ({"seeds": [0, 7]}, "unknown seed '7'; known are 0, 1, 2, 3, 4"),
        ({"seeds": []}, "no seed selected"),
        ({"launch": LaunchOptions(workers=0)}, "workers must be at least 1, got 0"),
        ({"launch": LaunchOptions(threads=0)}, "threads must be at least 1, got 0"),
        ({"launch": LaunchOptions(retries=-1)}, "retries must be at least 0, got -1"),
        ({"launch": LaunchOptions("slrum")}, "unknown launcher 'slrum'; known are local, ray, slurm"),
        ({"options": RunOptions(loggers=("wandv",))}, "unknown logger 'wandv'.*Did you mean 'wandb'"),
        ({"trainer": {"devices": 0}}, r"trainer\.devices: Input should be greater than or equal to 1"),
        ({"protocol_id": "digits-v2"}, "unknown protocol 'digits-v2'"),
    ],
)
def test_a_wrong_selection_is_refused_before_anything_is_written(
    selection: dict[str, object], message: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with pytest.raises(UserError, match=message):
        run_benchmark(**{"protocol_id": "digits-v1", "output": output, **selection})
    assert not output.exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run_benchmark("digits-v1", output=tmp_path / "output")


def test_the_plan_goes_pair_by_pair_method_by_method(tiny: Protocol, tmp_path: Path) -> None:
    items = plan(tiny, tmp_path, methods=["FitNet", "plain"])
    assert [(item.method_name, item.seed) for item in items] == [
        ("plain", 0),
        ("plain", 1),
        ("FitNet", 0),
        ("FitNet", 1),
    ]


def test_the_core_is_planned_unless_all_are_asked_for(tmp_path: Path) -> None:
    protocol = load_protocol("digits-v1")

    def rows(methods: list[str] | None) -> list[str]:
        return [item.method_name for item in plan(protocol, tmp_path, methods=methods, seeds=[0])]

    core = ["plain", "KD", "DKD", "PLD", "AttentionTransfer", "FitNet"]
    assert rows(None) == core
    assert sorted(protocol.core) == sorted(core)
    assert rows(["all"]) == rows(["all", "KD"]) == list(protocol.methods)
    without = protocol.model_copy(update={"core": ()})
    assert len(plan(without, tmp_path, seeds=[0])) == len(protocol.methods)


def test_choose_keeps_the_known_order() -> None:
    assert choose("letter", ["c", "a", "c"], ["a", "b", "c"]) == ["a", "c"]
    assert choose("letter", None, ["a", "b"]) == ["a", "b"]
