"""The leaderboard page: self-contained, deterministic, safe, and showing the numbers that the statistics derive."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import date
from pathlib import Path
from statistics import fmean, median

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page_columns import page_columns
from kd_bench.leaderboard.page_format import MISSING
from kd_bench.results import PLAIN, RunSet, load_run_sets, slug
from kd_bench.statistics import gap_closed, mean_interval, paired_test
from page_reader import Element, read_html
from synthetic_results import ENVIRONMENT, write_results, write_run_set

HOSTILE = """</script></style><script>alert(1)</script><img src=x onerror="alert(2)">' " {{ 7*7 }} &lt; \u2028"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("leaderboard") / "results"
    write_results(directory)
    return directory


@pytest.fixture(scope="module")
def run_sets(results: Path) -> list[RunSet]:
    return load_run_sets(results)


@pytest.fixture(scope="module")
def html(results: Path, run_sets: list[RunSet]) -> str:
    return build_page(run_sets, results.parent / "site" / "index.html", results=results).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return read_html(html)


def rows_by_name(page: Element) -> dict[str, Element]:
    return {row.one("button").text: row for row in page.all("tr", "row")}


def cell(row: Element, key: str) -> Element:
    cells = [child for child in row.children if isinstance(child, Element)]
    return cells[[column.key for column in page_columns(columns_of("classification"))].index(key)]


def test_tags_nest_ids_are_unique_and_references_resolve(page: Element) -> None:
    ids = [element["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("aria-controls", "aria-labelledby", "data-row"):
            assert set(element.get(name).split()) <= set(ids)
        if element.get("href").startswith("#"):
            assert element["href"][1:] in ids


def test_the_page_has_what_assistive_technology_needs(page: Element) -> None:
    assert page.one("html")["lang"] == "en"
    assert [meta["content"] for meta in page.all("meta") if meta.get("name") == "viewport"]
    assert len(page.all("main")) == len(page.all("h1")) == 1
    table = page.one("table", "results")
    for header in table.all("thead")[0].all("th"):
        assert header["scope"] == "col"
        assert header.one("button")["type"] == "button"
    for row in table.all("tr", "row"):
        assert row.all("th")[0]["scope"] == "row"
        assert row.one("button")["aria-expanded"] == "true"  # without JavaScript everything is readable
    for control in page.one("div", "controls").all("input") + page.one("div", "controls").all("select"):
        assert control in [child for label in page.all("label") for child in label.all()]


def test_nothing_is_loaded_from_anywhere(page: Element, html: str) -> None:
    loading = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href", "ping"}
    for element in page.all():
        assert not loading & set(element.attributes), element
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") or name == "style" for name in element.attributes), element
        if "href" in element.attributes:
            assert element.tag == "a"
            assert element["href"].startswith(("#", "https://arxiv.org/abs/"))
    style, script = page.one("style").text, page.all("script")[-1].text
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"\bfetch\b|XMLHttpRequest|WebSocket|\bimport\b|\beval\b|innerHTML", script)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert {re.sub(r"(?<=/abs/).*", "", address) for address in addresses} == {
        "https://arxiv.org/abs/",
        "http://www.w3.org/2000/svg",  # the name of SVG, not an address that is visited
    }


def test_the_policy_allows_exactly_our_style_and_script(page: Element) -> None:
    (meta,) = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(rule.split(" ", 1) for rule in meta["content"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    executed = [script for script in page.all("script") if "type" not in script.attributes]
    assert len(executed) == len(page.all("style")) == 1
    for name, element in (("script-src", executed[0]), ("style-src", page.one("style"))):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"


def test_the_same_results_give_the_same_bytes(results: Path, run_sets: list[RunSet], html: str, tmp_path: Path) -> None:
    again = build_page(list(reversed(run_sets)), str(tmp_path / "again.html"), results=str(results.parent))
    assert again.read_bytes() == html.encode()
    assert again.stat().st_mode & 0o444 == 0o444
    dated = build_page(run_sets, tmp_path / "dated.html", results=results, generated=date(2026, 1, 2))
    assert "2026-01-02" in dated.read_text(encoding="utf-8")
    assert dated.read_text(encoding="utf-8").replace("Generated 2026-01-02. ", "") == html


def test_every_number_is_the_one_that_the_statistics_derive(page: Element, run_sets: list[RunSet]) -> None:
    rows = rows_by_name(page)
    by_name = {run_set.method.name: run_set for run_set in run_sets}
    assert rows.keys() == by_name.keys()
    plain = by_name[PLAIN]
    for name, run_set in by_name.items():
        accuracy = mean_interval(run_set.headlines())
        assert accuracy.half_width is not None
        gap = gap_closed(accuracy.mean, fmean(plain.headlines()), run_set.teacher.accuracy)
        seconds = median(run.seconds for run in run_set.runs) / median(run.seconds for run in plain.runs)
        expected = {
            "headline": accuracy.mean,
            "gap": gap,
            "ece": fmean(run.last.ece for run in run_set.runs),
            "nll": fmean(run.last.nll for run in run_set.runs),
            "agreement": fmean(run.last.agreement for run in run_set.runs),
            "time": seconds,
            "memory": max(run.peak_memory_mb or 0 for run in run_set.runs),
            "seeds": len(run_set.runs),
        }
        for key, value in expected.items():
            assert float(cell(rows[name], key)["data-value"]) == pytest.approx(value, abs=1e-12), (name, key)
        shown = cell(rows[name], "headline").text
        assert shown == f"{100 * accuracy.mean:.2f} ± {100 * accuracy.half_width:.2f}"
        assert cell(rows[name], "verification").text == "claimed"


def test_rows_are_sorted_by_accuracy_and_the_key_is_stated(page: Element) -> None:
    values = [float(cell(row, "headline")["data-value"]) for row in page.all("tr", "row")]
    assert values == sorted(values, reverse=True)
    (sorted_header,) = [header for header in page.all("th") if "aria-sort" in header.attributes]
    assert sorted_header.one("button").text == "accuracy"
    assert sorted_header["aria-sort"] == "descending"
    assert "Sorted by test accuracy after the last epoch" in page.one("p", "order").text
    marks = [strip["data-row"] for strip in page.all("div", "strip") if "data-row" in strip.attributes]
    assert marks == [row["id"] for row in page.all("tr", "row")]


def test_ties_with_the_best_are_those_that_the_paired_test_does_not_separate(
    page: Element, run_sets: list[RunSet]
) -> None:
    best = max(run_sets, key=lambda run_set: fmean(run_set.headlines()))
    rows = rows_by_name(page)
    tied = {name for name, row in rows.items() if "tied" in row.classes()}
    expected = {best.method.name} | {
        run_set.method.name
        for run_set in run_sets
        if run_set is not best and not paired_test(run_set.headlines(), best.headlines()).separated
    }
    assert tied == expected
    assert 1 < len(tied) < len(run_sets)
    assert rows[best.method.name].one("span", "tag").text == "best"


def test_detail_has_settings_seeds_environment_and_command(page: Element, run_sets: list[RunSet]) -> None:
    (run_set,) = [run_set for run_set in run_sets if run_set.method.name == "FitNet"]
    (row,) = [row for row in page.all("tr", "detail") if row["id"].endswith("/FitNet-detail")]
    text = row.text
    for part in ("temperature", "4.0", "5,000", ENVIRONMENT.cpu, ENVIRONMENT.torch, "About FitNet", "Against KD"):
        assert part in text
    lines = row.one("tbody").all("tr")
    assert [line.all("td")[0].text for line in lines] == [str(seed) for seed in run_set.seeds]
    assert [line.all("td")[1].text for line in lines] == [f"{100 * value:.2f} %" for value in run_set.headlines()]
    assert row.one("code").text == (
        "lightning-kd bench run digits-v1 --methods FitNet --pairs resnet14-cnn4 --seeds 0-4"
    )


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    results = tmp_path / "results"
    honest = write_run_set(results, PLAIN, None, 3.0)
    citation = {"title": HOSTILE, "authors": HOSTILE, "venue": HOSTILE, "year": 2020, "arxiv": '"><b>'}
    run_set = write_run_set(results, "Evil", "logits", 3.4, parameters={HOSTILE: HOSTILE}, class_path=HOSTILE)
    # names are restricted when they are read; the page must not rely on it
    method = run_set.method.model_copy(update={"name": HOSTILE, "citation": honest.method.citation})
    method = method.model_copy(update={"citation": type(run_set.method.citation).model_construct(**citation)})
    environment = run_set.environment.model_copy(update={"cpu": HOSTILE})
    run_set = run_set.model_copy(update={"method": method, "environment": environment, "verification": HOSTILE})
    (results / "digits-v1" / "Evil").rename(results / "digits-v1" / slug(HOSTILE))
    html = build_page([honest, run_set], tmp_path / "page.html", results=results).read_text(encoding="utf-8")
    page = read_html(html)
    assert not page.all("img")
    assert not page.all("b")
    assert len(page.all("script")) == 2
    assert html.count("alert(1)") > 5
    assert "49" not in {element.text for element in page.all("dd")}
    assert HOSTILE in rows_by_name(page)
    names = [entry["name"] for entry in json.loads(page.all("script")[0].text)]
    assert HOSTILE in names
    assert all(not name.startswith("on") for element in page.all() for name in element.attributes)


def test_protocols_and_pairs_get_their_own_tables(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for protocol in ("b-v1", "a-v1"):
        write_run_set(results, "KD", "logits", protocol=protocol)
    page = read_html(build_page(load_run_sets(results), tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [section["id"] for section in page.all("section")] == [
        "a-v1/mini_cnn4__mini_resnet14",
        "b-v1/mini_cnn4__mini_resnet14",
    ]
    assert len(page.one("nav").all("a")) == 2
    assert "--pairs" not in page.all("code")[-1].text  # the protocol is not installed


def test_one_seed_has_no_interval_and_without_plain_there_is_no_gap(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_run_set(results, "KD", "logits", seeds=(3,))
    write_run_set(results, "Mine", None, seeds=(3,), class_path="my_package.methods.mine.Mine")
    page = read_html(build_page(load_run_sets(results), tmp_path / "page.html").read_text(encoding="utf-8"))
    for row in rows_by_name(page).values():
        assert "±" not in cell(row, "headline").text
        assert cell(row, "gap")["data-value"] == cell(row, "time")["data-value"] == ""
        assert cell(row, "gap").text == MISSING
    assert not [line for line in page.all("line") if "interval" in line.classes()]
    assert cell(rows_by_name(page)["Mine"], "family").text == "custom"
    assert not page.all("figure", "reliability")


def test_bad_input_is_refused_and_writes_nothing(results: Path, run_sets: list[RunSet], tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    with pytest.raises(UserError, match="no results"):
        build_page([], output)
    with pytest.raises(UserError, match="KD has more than one run set"):
        build_page([*run_sets, next(each for each in run_sets if each.method.name == "KD")], output)
    with pytest.raises(UserError, match="is a directory"):
        build_page(run_sets, tmp_path)
    assert list(tmp_path.iterdir()) == []
