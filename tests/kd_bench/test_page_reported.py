"""Reported figures on the page and in the terminal: beside what was measured, told apart, and without effect."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kd_bench.entries import Entry, load_entries
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.table import leaderboard_table
from kd_bench.protocol import load_protocol
from kd_bench.reported import OTHER, SAME, Reported, shipped_reported
from kd_bench.results import PLAIN, RunSet
from kd_bench.run_set_files import load_run_sets
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
def entries(results: Path) -> list[Entry]:
    return load_entries(results)


@pytest.fixture(scope="module")
def page(results: Path, entries: list[Entry]) -> Element:
    return render(entries, results.parent / "with.html", shipped_reported())


@pytest.fixture(scope="module")
def plain_page(results: Path, entries: list[Entry]) -> Element:
    return render(entries, results.parent / "without.html", None)


def render(entries: Sequence[Entry], path: Path, reported: Reported | None) -> Element:
    return read_html(build_page(entries, path, reported=reported).read_text(encoding="utf-8"))


def data_of(page: Element) -> dict[str, Any]:
    (script,) = [script for script in page.all("script") if script.get("id") == "data"]
    found: dict[str, Any] = json.loads(script.text)
    return found


def quoted(page: Element) -> dict[str, list[str] | None]:
    """Method → value, epoch and origin of the figure beside it, on the first board."""
    data = data_of(page)
    return dict(zip(data["rows"]["method"], data["boards"][0]["quotes"], strict=False))


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
    write_results(tmp_path / "results", seeds=(0, 1))
    entries = load_entries(tmp_path / "results")
    without = build_page(entries, tmp_path / "without.html").read_bytes()
    assert build_page(entries, tmp_path / "with.html", reported=shipped_reported()).read_bytes() == without
    page = read_html(without.decode())
    assert not page.all("section", "board")
    assert data_of(page)["boards"][0]["quotes"] is None


def test_the_same_data_gives_the_same_bytes(entries: list[Entry], tmp_path: Path) -> None:
    first = build_page(entries, tmp_path / "first.html", reported=shipped_reported())
    backwards = Reported({name: tuple(reversed(figures)) for name, figures in shipped_reported().tables.items()})
    again = build_page(list(reversed(entries)), tmp_path / "again.html", reported=backwards)
    assert again.read_bytes() == first.read_bytes()


def test_measured_rows_name_the_figure_of_the_same_method(page: Element) -> None:
    found = {name: "" if quote is None else " ".join(quote[:2]) for name, quote in quoted(page).items()}
    assert found == QUOTES
    kd = quoted(page)["KD"]
    assert kd is not None
    assert kd[2] == "HobbitLong/RepDistiller README @b84f547; verified"


def test_figures_neither_sort_nor_plot_nor_rank(page: Element, plain_page: Element) -> None:
    before, after = data_of(plain_page), data_of(page)
    assert before["boards"][0].pop("quotes") is None
    assert after["boards"][0].pop("quotes")
    assert after == before  # rows, their order, ranks, fronts and axes

    def details(each: Element) -> list[str]:
        return [script.text for script in each.all("script") if script.get("id").startswith("details-")]

    assert details(page) == details(plain_page)


def test_the_table_of_a_pair_shows_its_protocol_and_folds_the_others(page: Element) -> None:
    figures = shipped_reported().of_pair(PROTOCOL, STUDENT, TEACHER)
    section = board(page)
    titles = [heading.text for heading in page.all("h2")]
    assert titles == ["Results", "Figures", "Reported in papers (not measured here)"]
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
    assert section in page.one("section", "reported-figures").all()
    assert "#reported" in [link["href"] for link in page.one("nav").all("a")]


def test_a_pair_measured_under_a_sister_protocol_is_not_listed_as_unmeasured(tmp_path: Path) -> None:
    write_run_set(tmp_path, "KD", "logits", protocol=PROTOCOL, models=(STUDENT, TEACHER))
    write_run_set(tmp_path, "KD", "logits", protocol=f"{PROTOCOL}-tuned", models=("vgg8", "vgg13"))
    page = render(load_entries(tmp_path), tmp_path / "page.html", shipped_reported())
    section = page.one("section", "unmeasured")
    listed = {item["id"] for item in section.all("details") if "id" in item.attributes}
    assert len(listed) == len(load_protocol(PROTOCOL).pairs) - 2
    assert "reported/cifar100/vgg8__vgg13" not in listed
    named = [each["quotes"][0][:2] for each in data_of(page)["boards"]]
    assert named == [["73.33", "last"], ["72.98", "last"]]
    assert len(page.all("section", "board")) == 2


def test_top_5_is_told_from_top_1(tmp_path: Path) -> None:
    place = {"protocol": "imagenet-v1", "models": ("torchvision:resnet18", "torchvision:resnet34")}
    for name in ("KD", "LSKD"):
        write_run_set(tmp_path, name, "logits", **place)
    page = render(load_entries(tmp_path), tmp_path / "page.html", shipped_reported())
    found = {name: quote[:2] for name, quote in quoted(page).items() if quote is not None}
    assert found == {"KD": ["71.03", "best?"], "LSKD": ["71.42", "best"]}
    lines = [line for line in shown(board(page)) if line.one("th").text == "KD+LSKD here LSKD"]
    assert [[cell.text for cell in line.all("td")[:2]] for line in lines] == [["top-1", "71.42"], ["top-5", "90.29"]]


def test_hostile_tables_stay_text(entries: list[Entry], tmp_path: Path) -> None:
    honest = shipped_reported().tables["cifar100"]
    texts = dict.fromkeys(("dataset", "method", "source", "note", "deviation", "teacher_alias"), HOSTILE)
    hostile = [figure.model_copy(update=texts) for figure in honest if figure.method in ("CC", "MLKD")]
    known = [figure.model_copy(update={"source": HOSTILE}) for figure in honest if figure.method == "KD"]
    html = build_page(entries, tmp_path / "page.html", reported=Reported({"cifar100": (*hostile, *known)})).read_text()
    page = read_html(html)
    assert not page.all("img")
    assert [script.get("id") for script in page.all("script")] == ["data", "details-0", ""]
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
    text = " ".join(printed(run_sets, 102, shipped_reported()).split())
    assert "76.32" not in text
    assert "Left out for want of width: reported." in text
    for width in (60, 102):
        narrow, without = printed(run_sets, width, shipped_reported()), printed(run_sets, width, None)
        assert narrow[: narrow.index("Protocol ")] == without[: without.index("Protocol ")]


def test_without_figures_nothing_is_said_of_them(tmp_path: Path) -> None:
    digits = write_results(tmp_path, seeds=(0, 1))
    for width in (60, 120):
        assert printed(digits, width, shipped_reported()) == printed(digits, width, None)
    assert "reported" not in printed(digits, 60, shipped_reported())
