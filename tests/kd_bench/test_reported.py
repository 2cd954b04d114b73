"""Reported figures: the committed tables hold together, bad tables are refused by name, rows find their figure."""

from __future__ import annotations

import csv
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.page.reported import DOUBTS
from kd_bench.models import list_models
from kd_bench.models.registry import canonical_name
from kd_bench.protocol import list_protocols, load_protocol
from kd_bench.reported import (
    COLUMNS,
    GRADES,
    MAX_BYTES,
    OTHER,
    ROWS,
    SAME,
    SELECTIONS,
    Figure,
    load_reported,
    read_figures,
    reported_for,
    shipped_reported,
)
from kd_bench.results import PLAIN

FOLDER = Path(__file__).parents[2] / "leaderboards" / "reported"
TABLES = shipped_reported().tables
FIGURES = [(name, figure) for name, figures in TABLES.items() for figure in figures]

NOT_IN_THE_ZOO = {"ShuffleV2x1.5", "MobileNetV2"}
"""SimKD's wider ShuffleNet, and mdistiller's MobileNetV2 for 64 pixels, which is not the one for CIFAR."""

GOOD = {
    "dataset": "CIFAR-100",
    "teacher": "resnet32x4",
    "student": "resnet8x4",
    "method": "KD",
    "metric": "top1",
    "value": "73.30",
    "std": "0.25",
    "selection": "last",
    "source": "a paper, Table 1",
    "grade": "verified",
    "note": "",
    "protocol": SAME,
    "deviation": "",
    "teacher_alias": "",
    "student_alias": "",
}


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


MODELS_ON_COCO = {
    name for pair in load_protocol("coco-mmdet-v1").pairs.values() for name in (pair.student, pair.teacher)
}

# the committed tables


def test_the_tables_are_those_of_the_folder_and_nothing_was_lost() -> None:
    assert {path.stem for path in FOLDER.glob("*.csv")} == TABLES.keys()
    assert {name: len(figures) for name, figures in TABLES.items()} == {
        "cifar100": 435,
        "coco": 23,
        "imagenet": 92,
        "tiny-imagenet": 4,
    }


def test_every_protocol_with_reported_figures_has_a_table() -> None:
    named = {protocol.id: protocol.reported for protocol in list_protocols() if protocol.reported is not None}
    assert set(named.values()) <= TABLES.keys()
    assert {id_: reported_for(id_) for id_ in named} == named
    assert reported_for("no-such-protocol") is None


@pytest.mark.parametrize("name", TABLES)
def test_models_are_those_of_the_zoo_by_their_own_name(name: str) -> None:
    for figure in TABLES[name]:
        for model, alias in ((figure.teacher, figure.teacher_alias), (figure.student, figure.student_alias)):
            assert alias != model
            if model is None or model.startswith("torchvision:"):
                continue
            if name == "coco":
                assert model in MODELS_ON_COCO
            elif model in NOT_IN_THE_ZOO:
                assert figure.protocol == OTHER
            else:
                assert model in list_models()
                assert name == "imagenet" or not alias or canonical_name(alias) == model


def test_every_grade_and_selection_is_known_and_occurs() -> None:
    assert {figure.grade for _, figure in FIGURES} == set(GRADES)
    assert {figure.selection for _, figure in FIGURES} == set(SELECTIONS)
    assert set(DOUBTS) == set(GRADES[GRADES.index("verified-quoted") + 1 :])


def test_figures_are_plausible_and_top_5_is_above_top_1() -> None:
    by_key = {(name, *figure.key): figure for name, figure in FIGURES}
    for name, figure in FIGURES:
        assert (30 < figure.value < 50) if figure.metric == "ap" else (55 < figure.value < 95), figure
        if figure.metric == "top5":
            top1 = by_key[name, figure.teacher, figure.student, figure.method, "top1", figure.source]
            assert top1.value < figure.value
        if figure.selection == "quoted":
            assert figure.grade != "verified"


def test_a_quotation_by_readme_is_the_figure_that_is_quoted() -> None:
    """Where a source quotes what another table holds in the original, both agree, but for what a note explains."""
    originals = {
        (name, figure.teacher, figure.student, figure.method, figure.metric): figure
        for name, figure in FIGURES
        if figure.grade == "verified" and figure.protocol == SAME
    }
    differing = []
    for name, figure in FIGURES:
        original = originals.get((name, figure.teacher, figure.student, figure.method, figure.metric))
        if figure.selection == "quoted" and original and original.value != figure.value:
            differing.append((figure, original))
            assert original.note or figure.note
    assert {(quoted.method, quoted.student) for quoted, _ in differing} == {
        ("DKD", "wrn_16_2"),
        ("FitNet", "mobilenet_v2_half"),
    }


def made_otherwise(name: str, figure: Figure) -> bool:
    """The rule in ``leaderboards/README.md``, written a second time."""
    if name == "tiny-imagenet" or figure.method.startswith(("MLKD", "SimKD")) or "SimKD README" in figure.source:
        return True
    if name == "coco":
        return figure.method in ("FGD", "CWD")
    if name == "cifar100":
        return figure.method.startswith(("ReviewKD", "OFD"))
    return "DIST_KD" in figure.source or "CTKD README" in figure.source or figure.method == "CTKD"


def test_the_protocol_column_follows_the_rule() -> None:
    for name, figure in FIGURES:
        assert (figure.protocol == OTHER) == made_otherwise(name, figure), figure
    assert Counter(figure.protocol for _, figure in FIGURES) == {SAME: 394, OTHER: 160}


def test_single_networks_are_called_teacher_or_student() -> None:
    for _, figure in FIGURES:
        assert (figure.teacher is None) == figure.method.endswith(" (CE)"), figure


def test_methods_are_matched_to_rows_that_exist_and_all_names_in_the_table_are_used() -> None:
    rows = {*load_protocol("digits-v1").methods, *load_protocol("coco-mmdet-v1").methods}
    assert set(ROWS.values()) <= rows
    assert ROWS.keys() <= {figure.method for _, figure in FIGURES}


# finding figures


@pytest.mark.parametrize(
    ("student", "teacher", "row", "value", "selection"),
    [
        ("resnet8x4", "resnet32x4", "DKD", "76.32", "best?"),  # not the quotation of it
        ("wrn_16_2", "wrn_40_2", "DKD", "76.23", "best?"),  # and not the later 76.24
        ("resnet8x4", "resnet32x4", "AttentionTransfer", "73.44", "last"),
        ("resnet8x4", "resnet32x4", "LSKD", "76.62", "best"),
        ("mobilenet_v2_half", "vgg13", "FitNet", "64.14", "last"),
        ("resnet8x4", "resnet32x4", PLAIN, "72.50", "last"),  # not the one of SimKD's toolbox
        ("wrn_40_2", "resnet32x4", PLAIN, "75.61", "last"),  # a student that is a teacher elsewhere
    ],
)
def test_a_row_finds_the_surest_figure(student: str, teacher: str, row: str, value: str, selection: str) -> None:
    for protocol in ("cifar100-v1", "cifar100-v1-tuned"):
        figure = shipped_reported().of_row(protocol, student, teacher, row)
        assert figure is not None
        assert (f"{figure.value:f}", figure.selection) == (value, selection)
    assert shipped_reported().of_row("digits-v1", student, teacher, row) is None


@pytest.mark.parametrize("row", ["MLKD", "ReviewKD", "OFD", "SimKD", "PLD", "KD+DOT", "AT"])
def test_a_row_without_a_figure_of_its_protocol_has_none(row: str) -> None:
    assert shipped_reported().of_row("cifar100-v1", "resnet8x4", "resnet32x4", row) is None


def test_a_row_of_another_pair_or_measured_the_other_way_round_has_none() -> None:
    of_row = shipped_reported().of_row
    assert of_row("cifar100-v1", "resnet32x4", "resnet8x4", "KD") is None
    assert of_row("cifar100-v1", "resnet8x4", "wrn_16_2", "KD") is None
    assert of_row("imagenet-v1", "resnet8x4", "resnet32x4", "KD") is None


def test_the_figures_of_a_pair_include_both_networks_alone() -> None:
    figures = shipped_reported().of_pair("cifar100-v1", "resnet8x4", "resnet32x4")
    alone = {(figure.method, figure.student) for figure in figures if figure.teacher is None}
    assert alone == {("teacher (CE)", "resnet32x4"), ("student (CE)", "resnet8x4")}
    assert {figure.teacher for figure in figures} == {None, "resnet32x4"}


# reading


def test_a_table_is_read_as_printed(tmp_path: Path) -> None:
    alone = GOOD | {"teacher": "", "method": "student (CE)", "std": "", "student_alias": "é"}
    path = write(tmp_path / "x.csv", GOOD, alone)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some spreadsheets save it
    first, second = read_figures(path)
    assert (f"{first.value:f}", first.std) == ("73.30", Decimal("0.25"))
    assert (second.teacher, second.std, second.student_alias) == (None, None, "é")
    assert load_reported(tmp_path).tables == {"x": (first, second)}


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("value", "n/a"),
        ("value", "0"),
        ("value", "7333"),
        ("value", "nan"),
        ("value", ""),
        ("std", "-0.1"),
        ("metric", "accuracy"),
        ("selection", "max"),
        ("selection", ""),
        ("grade", "UNVERIFIED"),
        ("grade", ""),
        ("source", "  "),
        ("method", ""),
        ("student", ""),
        ("student", "../resnet8x4"),
        ("teacher", "<b>"),
        ("protocol", "same"),
        ("note", "x" * 501),
        ("note", "bell\x07"),
        ("note", "\u202eright to left"),
        ("source", "two\nlines"),
    ],
)
def test_a_bad_cell_is_named(column: str, cell: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", GOOD, GOOD | {"method": "DKD", column: cell})
    with pytest.raises(UserError) as caught:
        read_figures(path)
    message = str(caught.value)
    line = 4 if "\n" in cell else 3
    assert message.startswith(f"{path}, line {line}, column {column!r}: ")
    assert len(message) < 400 + len(str(path))
    assert message.isprintable()


def test_another_protocol_has_to_say_how_it_differs(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", GOOD | {"protocol": OTHER})
    with pytest.raises(UserError, match="line 2, column 'deviation': say how the recipe differs"):
        read_figures(path)
    write(path, GOOD | {"protocol": OTHER, "deviation": "480 epochs"})
    assert read_figures(path)[0].deviation == "480 epochs"


def test_a_figure_is_there_once_and_a_table_has_one_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", GOOD, GOOD | {"metric": "top5"}, GOOD | {"value": "73.31"})
    with pytest.raises(UserError, match="line 4: the same figure as in line 2"):
        read_figures(path)
    write(path, GOOD, GOOD | {"method": "DKD", "dataset": "CIFAR-10"})
    with pytest.raises(UserError, match="line 3, column 'dataset': expected 'CIFAR-100' as above, got 'CIFAR-10'"):
        read_figures(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: "", "line 1: no column 'dataset'"),
        (lambda text: text.replace("grade", "rank", 1), "line 1: no column 'grade'"),
        (lambda text: text.replace("student_alias", "student_alias,mine", 1), r"line 1: a column too many, \['mine'\]"),
        (lambda text: text.replace("dataset", "dataset,dataset", 1), "line 1: a column too many"),
        (lambda text: text.replace("verified", "verified,1", 1), "line 2: 16 cells, expected 15"),
        (lambda text: text.replace("a paper, Table 1", 'a" paper'), "line 2: not a CSV file"),
        (lambda text: text + "x" * MAX_BYTES, "too large: more than the 2,000,000 bytes"),
    ],
)
def test_a_bad_file_is_named(change: Callable[[str], str], problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", GOOD)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=problem) as caught:
        read_figures(path)
    assert str(path) in str(caught.value)


def test_text_in_another_encoding_and_folders_without_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no reported figures"):
        load_reported(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        load_reported(tmp_path / "missing")
    (tmp_path / "x.csv").write_bytes(b"dataset,\xff")
    with pytest.raises(UserError, match="not UTF-8 text: invalid start byte at byte 8"):
        load_reported(tmp_path)
    (tmp_path / "x.csv").unlink()
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*x\.csv"):
        load_reported(tmp_path)


def test_without_a_checkout_the_packaged_tables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    builds = project["tool"]["hatch"]["build"]["targets"]
    assert builds["wheel"]["force-include"] == {"leaderboards/reported": "kd_bench/reported"}
    assert "leaderboards/reported" in builds["sdist"]["include"]
    installed = tmp_path / "site-packages" / "kd_bench"
    installed.mkdir(parents=True)
    monkeypatch.setattr("kd_bench.reported.__file__", str(installed / "reported.py"))
    assert shipped_reported().tables == {}
    shutil.copytree(FOLDER, installed / "reported")
    assert shipped_reported().tables == TABLES
