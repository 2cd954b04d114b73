"""The page as somebody uses it: sorting, filtering, details, links and downloads, in Chromium."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kd_bench.entries import Entry
from kd_bench.leaderboard.export import export_records
from kd_bench.leaderboard.family import family_of

pytestmark = pytest.mark.slow

FIRST = "cifar100-v1/KD/resnet8x4__resnet32x4"


def chosen(entries: list[Entry], keep: Callable[[Entry], bool]) -> set[str]:
    """Paths of the entries that are shown when ``keep`` decides, unless somebody asks for those that are left out."""
    return {entry.path for entry in entries if keep(entry) and not entry.withdrawn and not entry.run_set.extra_data}


def column(tab: Any, key: str) -> list[str]:
    """The texts of a column, from top to bottom."""
    script = """(button) => {
      const header = button.closest("th"), place = [...header.parentElement.children].indexOf(header);
      return [...document.querySelectorAll("table#results tbody tr.row")]
        .filter((row) => row.checkVisibility()).map((row) => row.children[place].innerText.trim());
    }"""
    found: list[str] = tab.page.eval_on_selector(f"button.sort[data-key='{key}']", script)
    return found


def number(text: str) -> float | None:
    """The number that a cell begins with, or ``None``."""
    found = re.match(r"[\N{MINUS SIGN}-]?[\d,]+(\.\d+)?", text)
    return None if found is None else float(found[0].replace("\N{MINUS SIGN}", "-").replace(",", ""))


def count(tab: Any) -> int:
    """The number of rows that the page says it shows."""
    found = re.match(r"([\d,]+) of 84 rows", tab.page.locator("output#count").inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def sort_by(tab: Any, key: str) -> str:
    """Click a heading; returns the direction that it announces."""
    tab.page.click(f"button.sort[data-key='{key}']")
    assert tab.page.locator("table#results th[aria-sort]").count() == 1
    found: str = tab.page.locator(f"th:has(button.sort[data-key='{key}'])").get_attribute("aria-sort")
    return found


def test_all_rows_are_there_board_by_board_best_first(tab: Any, entries: list[Entry]) -> None:
    everything = chosen(entries, lambda entry: True)
    shown = tab.shown()
    assert set(shown) == everything
    assert shown == [record["entry"] for record in export_records(entries) if record["entry"] in everything]
    assert count(tab) == len(everything)


@pytest.mark.parametrize("key", ["rank", "headline", "gap", "time", "memory", "seeds"])
def test_numbers_are_sorted_in_both_directions_and_missing_ones_come_last(key: str, tab: Any) -> None:
    everything = sorted(tab.shown())
    directions = set()
    for _ in range(2):
        direction = sort_by(tab, key)
        directions.add(direction)
        values = [number(text) for text in column(tab, key)]
        known = [value for value in values if value is not None]
        assert values == known + [None] * (len(values) - len(known))
        assert known == sorted(known, reverse=direction == "descending")
        assert len(set(known)) > 1
        assert sorted(tab.shown()) == everything
    assert directions == {"ascending", "descending"}
    if key in ("time", "memory"):
        assert None in values


def test_names_are_sorted_in_both_directions(tab: Any) -> None:
    for _ in range(2):
        descending = sort_by(tab, "method") == "descending"
        names = [name.removesuffix("#").strip().casefold() for name in column(tab, "method")]
        assert names == sorted(names, reverse=descending)


def test_scores_of_a_task_are_columns_where_only_that_task_is_shown(tab: Any) -> None:
    assert tab.page.locator("button.sort[data-key='ece']").count() == 0
    tab.page.select_option("#filter-protocol", "cifar100-v1")
    values = [number(text) for text in column(tab, "ece")]
    assert sort_by(tab, "ece") == "ascending"
    assert [number(text) for text in column(tab, "ece")] == sorted(values)
    tab.page.select_option("#filter-protocol", "coco-v1")
    assert sort_by(tab, "ap_small") == "descending"
    small = [number(text) for text in column(tab, "ap_small")]
    assert small[-1] is None
    assert small[0] is not None


@pytest.mark.parametrize(
    ("control", "value", "keep"),
    [
        ("protocol", "coco-v1", lambda entry: entry.run_set.protocol.id == "coco-v1"),
        ("pair", "student_001__teacher_001", lambda entry: entry.run_set.student.name == "student_001"),
        ("family", "features", lambda entry: family_of(entry.run_set) == "features"),
        ("family", "custom", lambda entry: family_of(entry.run_set) == "custom"),
        ("track", "tuned", lambda entry: entry.run_set.track == "tuned"),
        ("badge", "retrained", lambda entry: entry.badge == "retrained"),
        ("badge", "claimed", lambda entry: entry.badge == "claimed"),
    ],
)
def test_a_filter_leaves_its_rows(
    control: str, value: str, keep: Callable[[Entry], bool], tab: Any, entries: list[Entry]
) -> None:
    everything, expected = set(tab.shown()), chosen(entries, keep)
    assert 0 < len(expected) < len(everything)
    tab.page.select_option(f"#filter-{control}", value)
    assert set(tab.shown()) == expected
    assert count(tab) == len(expected)
    tab.page.select_option(f"#filter-{control}", "")
    assert set(tab.shown()) == everything


def test_filters_and_words_are_combined(tab: Any, entries: list[Entry]) -> None:
    tab.page.select_option("#filter-protocol", "cifar100-v1")
    tab.page.select_option("#filter-track", "general")
    tab.page.fill("#filter-text", "  METHOD01  ")
    expected = chosen(
        entries,
        lambda entry: (
            entry.run_set.protocol.id == "cifar100-v1"
            and entry.run_set.track == "general"
            and "Method01" in entry.run_set.method.name
        ),
    )
    assert 1 < len(expected) < 10
    assert set(tab.shown()) == expected
    tab.page.select_option("#filter-badge", "retrained")
    fewer = expected & chosen(entries, lambda entry: entry.badge == "retrained")
    assert 0 < len(fewer) < len(expected)
    assert set(tab.shown()) == fewer


def test_words_find_methods_papers_and_models_and_may_find_nothing(tab: Any, entries: list[Entry]) -> None:
    for text, keep in (
        ("distillation in 13 ways", lambda entry: entry.run_set.method.name == "Method013"),
        ("resnet32x4", lambda entry: entry.run_set.student.name == "resnet8x4"),
        ("no such thing", lambda entry: False),
        ("<b>", lambda entry: False),
    ):
        tab.page.fill("#filter-text", text)
        assert set(tab.shown()) == chosen(entries, keep), text
        assert count(tab) == len(tab.shown())


def test_what_is_shown_is_in_the_address_and_comes_back(tab: Any) -> None:
    tab.page.select_option("#filter-family", "logits")
    tab.page.fill("#filter-text", "method")
    sort_by(tab, "time")
    shown, address = tab.shown(), tab.page.url
    assert len(shown) > 1
    assert "family=logits" in address
    tab.page.goto("about:blank")
    tab.page.go_back()
    assert tab.page.url == address
    assert tab.shown() == shown
    assert tab.page.locator("#filter-family").input_value() == "logits"
    tab.open(address.partition("#")[1] + address.partition("#")[2])  # as a copied address
    assert tab.shown() == shown
    tab.page.click("#reset")
    assert len(tab.shown()) > len(shown)


@pytest.mark.parametrize("fragment", ["#?family=nonsense&sort=nonsense", "#no/such/entry", "#%E0%A4%A", "#?protocol=%"])
def test_an_address_that_makes_no_sense_shows_everything(fragment: str, tab: Any, entries: list[Entry]) -> None:
    tab.open(fragment)
    assert set(tab.shown()) == chosen(entries, lambda entry: True)


def test_a_detail_opens_and_closes_by_mouse(tab: Any) -> None:
    toggle = tab.row(FIRST).locator("button.toggle")
    assert tab.detail(FIRST).count() == 0
    toggle.click()
    assert tab.detail(FIRST).is_visible()
    assert toggle.get_attribute("aria-expanded") == "true"
    text = tab.detail(FIRST).inner_text()
    for words in ("Distillation in 1 ways", "temperature", "seed", "Example CPU", "lightning-kd bench run cifar100-v1"):
        assert words in text
    assert tab.detail(FIRST).locator("svg").count() >= 2  # accuracy and loss
    toggle.click()
    assert tab.detail(FIRST).count() == 0
    assert toggle.get_attribute("aria-expanded") == "false"


def test_a_detail_opens_by_keyboard_and_stays_open_when_sorted(tab: Any) -> None:
    toggle = tab.row(FIRST).locator("button.toggle")
    toggle.focus()
    tab.page.keyboard.press("Enter")
    assert tab.detail(FIRST).is_visible()
    tab.page.keyboard.press("Space")
    assert tab.detail(FIRST).count() == 0
    tab.page.keyboard.press("Space")
    sort_by(tab, "method")
    assert tab.detail(FIRST).is_visible()
    below = "row => row.nextElementSibling.querySelector('.detail')?.dataset.entry"
    assert tab.row(FIRST).evaluate(below) == FIRST


def test_the_history_of_an_entry_is_told(tab: Any, entries: list[Entry]) -> None:
    entry = next(entry for entry in entries if entry.challenged and len(entry.verifications) == 0)
    assert "challenged" in tab.row(entry.path).inner_text()
    tab.row(entry.path).locator("button.toggle").click()
    assert "made up: challenge" in tab.detail(entry.path).inner_text()
    verified = next(entry for entry in entries if entry.badge == "retrained" and not entry.withdrawn)
    tab.row(verified.path).locator("button.toggle").click()
    for record in verified.verifications:
        assert record.date in tab.detail(verified.path).inner_text()


def test_a_permanent_link_opens_its_row(tab: Any, entries: list[Entry]) -> None:
    link = tab.row(FIRST).locator("a.permalink")
    assert link.get_attribute("href") == f"#{FIRST}"
    link.click()
    assert tab.detail(FIRST).is_visible()
    assert tab.page.url.endswith(f"#{FIRST}")
    withdrawn = next(entry.path for entry in entries if entry.withdrawn)
    for path in (FIRST, "coco-v1/Method009/student_003__teacher_003", withdrawn):
        tab.open(f"#{path}")
        assert tab.detail(path).is_visible()
        assert tab.row(path).evaluate("row => row.getBoundingClientRect().bottom <= innerHeight")
        assert tab.row(path).locator("button.toggle").evaluate("button => button === document.activeElement")


def test_withdrawn_rows_and_those_with_extra_data_are_shown_when_asked_for(tab: Any, entries: list[Entry]) -> None:
    tab.page.check("#show-withdrawn")
    assert set(tab.shown()) == {entry.path for entry in entries if not entry.run_set.extra_data}
    withdrawn = [entry.path for entry in entries if entry.withdrawn]
    assert len(withdrawn) == 4
    assert all("withdrawn" in tab.row(path).inner_text() for path in withdrawn)
    tab.page.check("#show-extra")
    assert len(tab.shown()) == count(tab) == len(entries)
    tab.page.uncheck("#show-withdrawn")
    tab.page.uncheck("#show-extra")
    assert set(tab.shown()) == chosen(entries, lambda entry: True)


def test_reported_figures_can_be_hidden(tab: Any) -> None:
    heading = tab.page.get_by_role("heading", name="Reported in papers (not measured here)")
    row = tab.row(FIRST)
    tab.page.select_option("#filter-protocol", "cifar100-v1")
    assert heading.is_visible()
    with_quotes = row.locator("td").count()
    tab.page.uncheck("#show-reported")
    assert not heading.is_visible()
    assert row.locator("td").count() == with_quotes - 1
    tab.page.check("#show-reported")
    assert heading.is_visible()


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_download_holds_the_rows_that_are_shown(kind: str, tab: Any, entries: list[Entry], tmp_path: Path) -> None:
    tab.page.select_option("#filter-track", "tuned")
    sort_by(tab, "headline")
    with tab.page.expect_download() as download:
        tab.page.click(f"#download-{kind}")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.suffix == f".{kind}"
    text = file.read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines())) if kind == "csv" else json.loads(text)["entries"]
    assert [line["entry"] for line in lines] == tab.shown()
    assert len(lines) > 5
    records = {record["entry"]: record for record in export_records(entries)}
    for line in lines:
        record = records[line["entry"]]
        assert set(line) <= set(record)
        for name, value in line.items():
            expected = record[name]
            if name == "paper":
                assert (expected or "") in value  # which here is the whole citation
            elif isinstance(expected, float):
                assert float(value) == pytest.approx(expected, rel=1e-3, abs=1e-4), name
            elif kind == "csv":
                text = str(expected).lower() if isinstance(expected, bool) else str(expected)
                assert value == ("" if expected is None else text)
            else:
                assert (value or None) == (expected or None)
