"""The tables for other programs: every entry, numbers as numbers, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from kd_bench.entries import Entry
from kd_bench.leaderboard.export import CSV_FILE, JSON_FILE, export_records, to_csv, to_json, write_exports
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.results import PLAIN, Scores
from kd_bench.statistics import gap_closed, mean_interval
from many_results import many_entries

ROWS = 40


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return many_entries(4 * ROWS, rows=ROWS)


@pytest.fixture(scope="module")
def records(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    return {record["entry"]: record for record in export_records(entries)}


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_entry_is_there_once_under_the_same_keys(
    entries: list[Entry], records: dict[str, dict[str, Any]]
) -> None:
    assert sorted(records) == sorted(entry.path for entry in entries)
    assert len({tuple(record) for record in records.values()}) == 1


def test_values_are_those_of_the_entry_and_the_statistics(
    entries: list[Entry], records: dict[str, dict[str, Any]]
) -> None:
    by_path = {entry.path: entry for entry in entries}
    for path, record in records.items():
        entry = by_path[path]
        run_set = entry.run_set
        interval = mean_interval(run_set.headlines())
        assert record["mean"] == pytest.approx(interval.mean, abs=1e-9)
        assert record["half_width"] == pytest.approx(interval.half_width, abs=1e-9)
        assert record["runs"] == [{"seed": run.seed, "headline": run.last.headline} for run in run_set.runs]
        assert record["seeds"] == len(run_set.runs)
        assert record["seconds"] == pytest.approx(median(run.seconds for run in run_set.runs))
        assert (record["badge"], record["challenged"], record["withdrawn"], record["extra_data"], record["track"]) == (
            entry.badge, entry.challenged, entry.withdrawn, run_set.extra_data, run_set.track,
        )  # fmt: skip
        (plain,) = (one.run_set for one in entries if one.path == path.replace(run_set.method.name, PLAIN))
        expected = gap_closed(interval.mean, fmean(plain.headlines()), run_set.teacher.headline)
        assert record["gap_closed"] == pytest.approx(expected, abs=1e-9)
        if run_set.task == "classification":
            scores = [run.last for run in run_set.runs if isinstance(run.last, Scores)]
            assert record["ece"] == pytest.approx(fmean(one.ece for one in scores), abs=1e-9)
            assert record["ap_50"] is None
        else:
            assert record["ece"] is None
            assert record["ap_50"] == pytest.approx(fmean(one.ap_50 for one in run_set.detection_scores()), abs=1e-9)
        same_machine = run_set.environment.cpu == plain.environment.cpu
        assert (record["relative_time"] is not None) == same_machine
        assert (record["peak_memory_mb"] is None) == (run_set.runs[0].peak_memory_mb is None)


def test_records_come_in_the_order_of_the_ranks_and_withdrawn_ones_have_none(
    entries: list[Entry], records: dict[str, dict[str, Any]]
) -> None:
    board = [entry for entry in entries if entry.run_set.student.name == "student_000"]
    ranked = rank_board(board)
    found = [record for record in records.values() if record["student"] == "student_000"]
    withdrawn = [entry.path for entry in board if entry.withdrawn]
    assert withdrawn
    assert [record["entry"] for record in found] == [one.path for one in ranked] + withdrawn
    for record, one in zip(found, ranked, strict=False):
        assert (record["rank_low"], record["rank_high"], record["rank_group"]) == (one.low, one.high, one.group)
    assert [record["rank_low"] for record in found[len(ranked) :]] == [None] * len(withdrawn)


def test_all_kinds_of_entry_occur(records: dict[str, dict[str, Any]]) -> None:
    kinds = {
        name: {record[name] for record in records.values()}
        for name in ("protocol", "family", "track", "badge", "challenged", "withdrawn", "extra_data", "seeds")
    }
    assert len(kinds["protocol"]) == 4
    assert {"baseline", "custom", "logits", "features", "relations", "online"} == kinds["family"]
    assert kinds["track"] == {"general", "tuned"}
    assert len(kinds["badge"]) == 4
    assert kinds["challenged"] == kinds["withdrawn"] == kinds["extra_data"] == {True, False}
    assert kinds["seeds"] == {3, 4, 5}


def test_the_table_holds_what_the_tree_holds(entries: list[Entry], tmp_path: Path) -> None:
    table, tree = write_exports(entries, tmp_path)
    assert (table, tree) == (tmp_path / CSV_FILE, tmp_path / JSON_FILE)
    lines = read(table.read_text(encoding="utf-8"))
    records = json.loads(tree.read_text(encoding="utf-8"))["entries"]
    assert len(lines) == len(records) == len(entries)
    for line, record in zip(lines, records, strict=True):
        assert list(line) == [name for name in record if name != "runs"]
        for name, text in line.items():
            value = record[name]
            if value is None:
                assert text == ""
            elif isinstance(value, bool):
                assert text == str(value).lower()
            elif isinstance(value, float):
                assert float(text) == value
            else:
                assert text == str(value)


def test_the_order_of_the_input_does_not_matter(entries: list[Entry]) -> None:
    shuffled = list(entries)
    random.Random(0).shuffle(shuffled)
    assert shuffled != entries
    assert to_json(export_records(shuffled)) == to_json(export_records(entries))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "  =1",
        "\r=1",
        "\n=1",
        "\N{FULLWIDTH EQUALS SIGN}1",
        "\u00a0=1",
        "\x00=1",
    ],
)
def test_text_that_a_spreadsheet_would_run_is_shown_as_it_is(entries: list[Entry], text: str) -> None:
    entry = entries[1]
    citation = entry.run_set.method.citation
    assert citation is not None
    method = entry.run_set.method.model_copy(update={"citation": citation.model_copy(update={"title": text})})
    hostile = replace(entry, run_set=entry.run_set.model_copy(update={"method": method}))
    records = export_records([entries[0], hostile])
    (line,) = (line for line in read(to_csv(records)) if line["method"] == method.name)
    shown = "".join(sign if sign not in "\t\r\n\x00\u00a0" else " " for sign in text)
    assert line["paper"] == f"'{shown}"
    # a tree has no formulas, and is left alone
    assert text in [record["paper"] for record in json.loads(to_json(records))["entries"]]


def test_negative_numbers_stay_numbers(entries: list[Entry]) -> None:
    lines = read(to_csv(export_records(entries)))
    negative = [line["gap_closed"] for line in lines if line["gap_closed"].startswith("-")]
    assert negative
    assert all(float(text) < 0 for text in negative)


def test_text_with_commas_quotes_and_line_breaks_is_one_cell_of_one_line(entries: list[Entry]) -> None:
    text = 'a, "b"\nc;\u2028d\re'
    citation = entries[1].run_set.method.citation
    assert citation is not None
    method = entries[1].run_set.method.model_copy(update={"citation": citation.model_copy(update={"title": text})})
    run_set = entries[1].run_set.model_copy(update={"method": method})
    table = to_csv(export_records([Entry(run_set)]))
    assert len(table.splitlines()) == 2
    (line,) = read(table)
    assert line["paper"] == 'a, "b" c; d e'
    assert line["mean"] == str(round(fmean(run_set.headlines()), 10))


def test_a_board_without_the_plain_student_has_no_gaps_and_no_relative_times(entries: list[Entry]) -> None:
    (record,) = export_records([entries[1]])
    assert record["gap_closed"] is record["relative_time"] is None
    assert (record["rank_low"], record["rank_high"]) == (1, 1)


def test_no_entries_give_empty_files() -> None:
    assert to_csv([]) == "\n"
    assert json.loads(to_json([])) == {"schema_version": 1, "entries": []}
