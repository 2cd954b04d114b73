"""Reported figures on the page and in the terminal: beside what was measured, told apart, and without effect."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page_columns import page_columns
from kd_bench.leaderboard.table import leaderboard_table
from kd_bench.protocol import load_protocol
from kd_bench.reported import OTHER, SAME, Reported, shipped_reported
from kd_bench.results import PLAIN, RunSet, load_run_sets
from page_reader import Element, read_html
from rich.console import Console
from synthetic_results import write_results, write_run_set

PROTOCOL, STUDENT, TEACHER = "cifar100-v1", "resnet8x4", "resnet32x4"
QUOTES = {
    PLAIN: "72.50 last",
    "KD": "73.33 last",
    "DKD": "76.32 best?",
    "PLD": "",
    "AttentionTransfer": "73.44 last",
    "FitNet": "73.50 last",
}

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)">' " {{ 7*7 }} [bold]"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("leaderboard") / "results"
    write_results(directory, protocol=PROTOCOL, models=(STUDENT, TEACHER))
    return directory


@pytest.fixture(scope="module")
def run_sets(results: Path) -> list[RunSet]:
    return load_run_sets(results)


@pytest.fixture(scope="module")
def page(results: Path, run_sets: list[RunSet]) -> Element:
    return render(run_sets, results.parent / "with.html", shipped_reported())


@pytest.fixture(scope="module")
def plain_page(results: Path, run_sets: list[RunSet]) -> Element:
    return render(run_sets, results.parent / "without.html", None)


def render(run_sets: list[RunSet], path: Path, reported: Reported | None) -> Element:
    return read_html(build_page(run_sets, path, reported=reported).read_text(encoding="utf-8"))


def board(page: Element) -> Element:
    return page.one("section", "board")


def folded(section: Element) -> list[Element]:
    """Lines of the tables that are behind a disclosure."""
    return [line for details in section.all("details", "other") for line in details.one("tbody").all("tr")]


def shown(section: Element) -> list[Element]:
    hidden = folded(section)
    lines = [line for table in section.all("table", "reported") for line in table.one("tbody").all("tr")]
    return [line for line in lines if line not in hidden]


def test_a_page_without_figures_of_its_protocols_is_the_same(tmp_path: Path) -> None:
    digits = write_results(tmp_path / "results", seeds=(0, 1))
    without = build_page(digits, tmp_path / "without.html").read_bytes()
    assert build_page(digits, tmp_path / "with.html", reported=shipped_reported()).read_bytes() == without
    assert b"not ours" not in without


def test_the_same_data_gives_the_same_bytes(run_sets: list[RunSet], tmp_path: Path) -> None:
    first = build_page(run_sets, tmp_path / "first.html", reported=shipped_reported())
    backwards = Reported({name: tuple(reversed(figures)) for name, figures in shipped_reported().tables.items()})
    again = build_page(list(reversed(run_sets)), tmp_path / "again.html", reported=backwards)
    assert again.read_bytes() == first.read_bytes()


def test_measured_rows_name_the_figure_of_the_same_method(page: Element) -> None:
    table = page.one("table", "results")
    assert {row.one("button").text: row.one("td", "quoted").text for row in table.all("tr", "row")} == QUOTES
    (kd,) = [row for row in table.all("tr", "row") if row.one("button").text == "KD"]
    assert kd.one("td", "quoted")["title"] == "HobbitLong/RepDistiller README @b84f547; verified"
    width = len(table.all("thead")[0].all("th"))
    assert width == len(page_columns(columns_of("classification"))) + 1
    assert {int(detail.all("td")[0]["colspan"]) for detail in table.all("tr", "detail")} == {width}


def test_figures_neither_sort_nor_plot_nor_rank(page: Element, plain_page: Element) -> None:
    for header in page.one("table", "results").all("th", "quoted"):
        assert not header.all("button")
        assert not header.attributes.keys() & {"data-kind", "data-first", "aria-sort"}
    for cell in page.all("td", "quoted"):
        assert "data-value" not in cell.attributes
    for tag, cls in (("figure", "accuracy"), ("p", "order")):
        assert board(page).one(tag, cls) == board(plain_page).one(tag, cls)
    before, after = (each.one("table", "results").all("tr", "row") for each in (plain_page, page))
    for old, new in zip(before, after, strict=True):
        assert old.attributes == new.attributes
        assert old.all("td") == new.all("td")[:-1]


def test_the_table_of_a_pair_shows_its_protocol_and_folds_the_others(page: Element) -> None:
    figures = shipped_reported().of_pair(PROTOCOL, STUDENT, TEACHER)
    section = board(page)
    assert [heading.text for heading in section.all("h3")] == ["Reported in papers (not measured here)"]
    assert len(shown(section)) == sum(figure.protocol == SAME for figure in figures)
    assert len(folded(section)) == sum(figure.protocol == OTHER for figure in figures)
    (details,) = section.all("details", "other")
    assert "open" not in details.attributes
    assert details.one("summary").text == "18 figures made under other protocols, not comparable"
    assert all(line.all("td")[-1].text for line in folded(section))  # how the recipe differs
    for method in ("MLKD", "ReviewKD", "OFD", "SimKD"):
        assert not [line for line in shown(section) if line.one("th").text.startswith(method)]


def test_lines_carry_what_was_printed(page: Element) -> None:
    lines = [[line.one("th").text, *(cell.text for cell in line.all("td"))] for line in shown(board(page))]
    crd = "HobbitLong/RepDistiller README @b84f547"
    assert lines[:4] == [
        ["teacher (CE)", "79.42", "last", "verified", crd, ""],
        ["student (CE)", "72.50", "last", "verified", crd, ""],
        ["AB", "73.17", "last", "verified", crd, ""],
        ["AT here AttentionTransfer", "73.44", "last", "verified", crd, ""],
    ]
    (dist,) = [line for line in lines if line[0] == "DIST"]
    assert dist[1:4] == ["76.31 ± 0.19", "unknown", "verified"]
    names = [line[0].casefold() for line in lines[2:]]
    assert names == sorted(names)  # by name: the order ranks nothing


def test_low_grades_are_marked_in_words(page: Element) -> None:
    for line in shown(board(page)) + folded(board(page)):
        grade = line.all("td")[2].text
        assert grade in {"verified", "verified-quoted", "secondary second-hand", "independent not by its authors"}
        assert bool(line.all("span", "doubt")) == (" " in grade)
    assert [line for line in shown(board(page)) if line.all("span", "doubt")]


def test_other_pairs_of_the_protocol_get_a_table_without_a_board(page: Element) -> None:
    protocol = load_protocol(PROTOCOL)
    section = page.one("section", "unmeasured")
    pairs = [item.all("summary")[0].text for item in section.all("details") if "id" in item.attributes]
    expected = [f"CIFAR-100: {pair.teacher} → {pair.student}" for pair in protocol.pairs.values()]
    assert pairs == [pair for pair in expected if pair != f"CIFAR-100: {TEACHER} → {STUDENT}"]
    assert not section.all("tr", "row")
    assert "#unmeasured" in [link["href"] for link in page.one("nav").all("a")]


def test_a_pair_measured_under_a_sister_protocol_is_not_listed_as_unmeasured(tmp_path: Path) -> None:
    here = write_run_set(tmp_path, "KD", "logits", protocol=PROTOCOL, models=(STUDENT, TEACHER))
    there = write_run_set(tmp_path, "KD", "logits", protocol=f"{PROTOCOL}-tuned", models=("vgg8", "vgg13"))
    page = render([here, there], tmp_path / "page.html", shipped_reported())
    section = page.one("section", "unmeasured")
    listed = {item["id"] for item in section.all("details") if "id" in item.attributes}
    assert len(listed) == len(load_protocol(PROTOCOL).pairs) - 2
    assert "reported/cifar100/vgg8__vgg13" not in listed
    assert [each.all("td", "quoted")[0].text for each in page.all("section", "board")] == ["73.33 last", "72.98 last"]


def test_top_5_is_told_from_top_1(tmp_path: Path) -> None:
    place = {"protocol": "imagenet-v1", "models": ("torchvision:resnet18", "torchvision:resnet34")}
    run_sets = [write_run_set(tmp_path, name, "logits", **place) for name in ("KD", "LSKD")]
    page = render(run_sets, tmp_path / "page.html", shipped_reported())
    quoted = {row.one("button").text: row.one("td", "quoted").text for row in page.all("tr", "row")}
    assert quoted == {"KD": "71.03 best?", "LSKD": "71.42 best"}
    lines = [line for line in shown(board(page)) if line.one("th").text == "KD+LSKD here LSKD"]
    assert [[cell.text for cell in line.all("td")[:2]] for line in lines] == [["top-1", "71.42"], ["top-5", "90.29"]]


def test_hostile_tables_stay_text(run_sets: list[RunSet], tmp_path: Path) -> None:
    honest = shipped_reported().tables["cifar100"]
    texts = dict.fromkeys(("dataset", "method", "source", "note", "deviation", "teacher_alias"), HOSTILE)
    hostile = [figure.model_copy(update=texts) for figure in honest if figure.method in ("CC", "MLKD")]
    known = [figure.model_copy(update={"source": HOSTILE}) for figure in honest if figure.method == "KD"]
    html = build_page(run_sets, tmp_path / "page.html", reported=Reported({"cifar100": (*hostile, *known)})).read_text()
    page = read_html(html)
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert html.count("alert(1)") > 5
    assert HOSTILE in {line.one("th").text for line in shown(board(page))}
    assert all(not name.startswith("on") for element in page.all() for name in element.attributes)
    ids = [element["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_and_every_reference_resolves(page: Element) -> None:
    ids = [element["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        assert not element.attributes.keys() & {"src", "srcset", "action", "style", "onclick"}
        assert element.tag not in {"link", "img", "iframe", "object", "base", "form"}
        if "href" in element.attributes:
            assert element["href"].startswith("https://arxiv.org/abs/") or element["href"][1:] in ids
    assert not re.search(r"url\(|@import", page.one("style").text)


# in the terminal


def printed(run_sets: list[RunSet], width: int, reported: Reported | None) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(leaderboard_table(run_sets, reported=reported))
    return capture.get()


def test_a_wide_terminal_names_the_figures(run_sets: list[RunSet]) -> None:
    text = printed(run_sets, 120, shipped_reported())
    for line in text.splitlines():
        name = line.strip("│ ").partition(" ")[0]
        if name in QUOTES:
            assert line.rstrip("│ ").endswith(QUOTES[name] or " -"), line
    flat = " ".join(text.split())
    assert "not ours" in flat
    assert "Reported: printed in papers for the same method and recipe" in flat
    assert "Left out" not in flat


def test_reported_figures_are_the_first_to_go(run_sets: list[RunSet]) -> None:
    text = " ".join(printed(run_sets, 96, shipped_reported()).split())
    assert "76.32" not in text
    assert "Left out for want of width: reported." in text
    for width in (60, 96):
        narrow, without = printed(run_sets, width, shipped_reported()), printed(run_sets, width, None)
        assert narrow[: narrow.index("Protocol ")] == without[: without.index("Protocol ")]


def test_without_figures_nothing_is_said_of_them(tmp_path: Path) -> None:
    digits = write_results(tmp_path, seeds=(0, 1))
    for width in (60, 120):
        assert printed(digits, width, shipped_reported()) == printed(digits, width, None)
    assert "reported" not in printed(digits, 60, shipped_reported())
