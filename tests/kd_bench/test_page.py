"""The leaderboard page: self-contained, deterministic, safe, and carrying the numbers that the statistics derive."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from kd_bench.corrections import Correction
from kd_bench.entries import Entry, load_entries
from kd_bench.errors import UserError
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page.build import SCRIPTS, STYLES
from kd_bench.leaderboard.page.rows import CHALLENGED, EXTRA_DATA, LEADING, WITHDRAWN
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.results import PLAIN, CitationInfo
from kd_bench.statistics import gap_closed, mean_interval
from kd_bench.verification.record import SeedFinding, VerificationRecord
from page_reader import Element, read_html
from synthetic_results import ENVIRONMENT, write_results, write_run_set

HOSTILE = """</script></style><!--<script>alert(1)</script><img src=x onerror="alert(2)">' " {{ 7*7 }} &lt; \u2028"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("leaderboard") / "results"
    write_results(directory)
    return directory


@pytest.fixture(scope="module")
def entries(results: Path) -> list[Entry]:
    return load_entries(results)


@pytest.fixture(scope="module")
def html(results: Path, entries: list[Entry]) -> str:
    return build_page(entries, results.parent / "site" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return read_html(html)


def json_of(page: Element, name: str) -> dict[str, Any]:
    (script,) = [script for script in page.all("script") if script.get("id") == name]
    assert script["type"] == "application/json"
    found: dict[str, Any] = json.loads(script.text)
    return found


def rows_of(page: Element) -> dict[str, dict[str, Any]]:
    """Method → what the table shows of it."""
    rows = json_of(page, "data")["rows"]
    return {name: {key: values[place] for key, values in rows.items()} for place, name in enumerate(rows["method"])}


def render(entries: list[Entry], path: Path) -> Element:
    return read_html(build_page(entries, path).read_text(encoding="utf-8"))


def test_tags_nest_ids_are_unique_and_references_resolve(page: Element) -> None:
    ids = [element["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("aria-controls", "aria-labelledby"):
            assert set(element.get(name).split()) <= set(ids)
        if element.get("href").startswith("#"):
            assert element["href"][1:] in ids


def test_the_page_has_what_assistive_technology_needs(page: Element) -> None:
    assert page.one("html")["lang"] == "en"
    assert [meta["content"] for meta in page.all("meta") if meta.get("name") == "viewport"]
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert page.one("a", "skip")["href"] == "#results"
    labelled = [child for label in page.all("label") for child in label.all()]
    controls = page.one("div", "controls").all("input") + page.one("div", "controls").all("select")
    assert len(controls) == 9
    assert all(control in labelled for control in controls)
    assert all(button["type"] == "button" for button in page.all("button"))
    (count,) = page.all("output")
    assert (count["id"], count["aria-live"]) == ("count", "polite")


def test_what_scripts_and_tests_hold_on_to_is_there(page: Element) -> None:
    ids = {element["id"] for element in page.all() if "id" in element.attributes}
    filters = {f"filter-{name}" for name in ("protocol", "pair", "family", "track", "badge", "text")}
    shown = {"show-reported", "show-withdrawn", "show-extra"}
    assert filters | shown | {"results", "count", "download-csv", "download-json"} <= ids


def test_without_a_script_the_best_rows_are_readable(page: Element, entries: list[Entry]) -> None:
    lines = page.one("table", "top").one("tbody").all("tr")
    assert [line.one("th").text for line in lines] == [ranked.name for ranked in rank_board(entries)]
    mean = mean_interval(entries[0].run_set.headlines())
    assert mean.half_width is not None
    (line,) = [line for line in lines if line.one("th").text == entries[0].run_set.method.name]
    assert line.all("td")[2].text == f"accuracy {100 * mean.mean:.2f} % ± {100 * mean.half_width:.2f} %"
    assert "need JavaScript" in page.all("noscript")[0].text


def test_nothing_is_loaded_from_anywhere(page: Element) -> None:
    loading = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href", "ping"}
    for element in page.all():
        assert not loading & set(element.attributes), element
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") or name == "style" for name in element.attributes), element
        assert "href" not in element.attributes or (element.tag == "a" and element["href"].startswith("#"))
    style, script = page.one("style").text, page.all("script")[-1].text
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"\bfetch\b|XMLHttpRequest|WebSocket|\bimport\b|\beval\b|Function\(", script)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write", script)
    # the name of SVG, not an address that is visited
    assert set(re.findall(r"https?://[^\s\"'<]+", script)) == {"http://www.w3.org/2000/svg"}
    addresses = {value[1] for value in json_of(page, "data")["pool"] if isinstance(value, list) and len(value) == 2}
    assert {address for address in addresses if isinstance(address, str)} == {"", "https://arxiv.org/abs/2001.00001"}


def test_the_policy_allows_exactly_our_style_and_script(page: Element) -> None:
    (meta,) = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(rule.split(" ", 1) for rule in meta["content"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    executed = [script for script in page.all("script") if "type" not in script.attributes]
    assert len(executed) == len(page.all("style")) == 1
    for name, element in (("script-src", executed[0]), ("style-src", page.one("style"))):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"


def test_all_small_files_are_on_the_page() -> None:
    templates = Path(sys.modules[build_page.__module__].__file__ or "").parents[1] / "templates"
    assert {path.name for path in (templates / "script").iterdir()} == {f"{name}.js" for name in SCRIPTS}
    assert {path.name for path in (templates / "style").iterdir()} == {f"{name}.css" for name in STYLES}


def test_the_same_entries_give_the_same_bytes(entries: list[Entry], html: str, tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(entries, len(entries))
    assert shuffled != entries
    again = build_page(shuffled, str(tmp_path / "again.html"))
    assert again.read_bytes() == html.encode()
    assert again.stat().st_mode & 0o444 == 0o444
    dated = build_page(entries, tmp_path / "dated.html", generated=date(2026, 1, 2)).read_text(encoding="utf-8")
    assert "2026-01-02" in dated
    assert dated.replace("Generated 2026-01-02. ", "") == html


def test_every_number_is_the_one_that_the_statistics_derive(page: Element, entries: list[Entry]) -> None:
    rows = rows_of(page)
    by_name = {entry.run_set.method.name: entry.run_set for entry in entries}
    assert rows.keys() == by_name.keys()
    plain = by_name[PLAIN]
    for name, run_set in by_name.items():
        accuracy = mean_interval(run_set.headlines())
        gap = gap_closed(accuracy.mean, fmean(plain.headlines()), run_set.teacher.headline)
        seconds = median(run.seconds for run in run_set.runs) / median(run.seconds for run in plain.runs)
        scores = run_set.classification_scores()
        expected = {
            "headline": accuracy.mean,
            "half": accuracy.half_width,
            "gap": gap,
            "ece": fmean(one.ece for one in scores),
            "nll": fmean(one.nll for one in scores),
            "agreement": fmean(one.agreement for one in scores),
            "time": seconds,
            "seeds": len(run_set.runs),
        }
        for key, value in expected.items():
            assert rows[name][key] == pytest.approx(value, abs=1e-6), (name, key)
        assert rows[name]["memory"] == round(max(run.peak_memory_mb or 0 for run in run_set.runs))


def test_rows_come_best_first_with_the_ranks_that_the_data_can_bear(page: Element, entries: list[Entry]) -> None:
    ranked = rank_board(entries)
    rows = rows_of(page)
    assert list(rows) == [one.name for one in ranked]
    assert [(row["low"], row["high"]) for row in rows.values()] == [(one.low, one.high) for one in ranked]
    leading = {name for name, row in rows.items() if row["flags"] & LEADING}
    assert leading == {one.name for one in ranked if one.leading}
    assert 1 < len(leading) < len(entries)


def test_details_carry_settings_seeds_environment_and_command(page: Element, entries: list[Entry]) -> None:
    (run_set,) = [entry.run_set for entry in entries if entry.run_set.method.name == "FitNet"]
    data, details, place = json_of(page, "data"), json_of(page, "details-0"), list(rows_of(page)).index("FitNet")
    detail = {kind: values[place] for kind, values in details.items()}
    settings = dict(data["pool"][detail["settings"]])
    assert (settings["temperature"], settings["extra trained parameters"]) == ("4.0", "5,000")
    environment = dict(data["pool"][detail["environment"]])
    assert (environment["CPU"], environment["torch"]) == (ENVIRONMENT.cpu, ENVIRONMENT.torch)
    assert data["pool"][detail["citation"]][0] == "Doe et al., “About FitNet”, ICLR 2020"
    assert data["pool"][detail["seeds"]] == list(run_set.seeds)
    assert detail["scores"][0] == [round(value, 5) for value in run_set.headlines()]
    assert detail["command"] == "lightning-kd bench run digits-v1 --methods FitNet --pairs resnet14-cnn4 --seeds 0-4"
    assert detail["reference"][2] == 5  # seeds shared with KD
    assert len(detail["reliability"][2]) > 5
    assert detail["verifications"] == detail["corrections"] == []


def test_history_badges_and_flags_are_those_of_the_entry(entries: list[Entry], tmp_path: Path) -> None:
    entry = next(one for one in entries if one.run_set.method.name == "KD")
    seeds = tuple(
        SeedFinding(seed=run.seed, claimed=run.last.headline, found=run.last.headline) for run in entry.run_set.runs
    )
    record = VerificationRecord(
        level="predictions checked", date="2026-02-03", by="Ada", run_set_sha256=entry.sha256, seeds=seeds,
        tolerance=0.0, environment=ENVIRONMENT, package_version="1", remarks=("as it should be",),
    )  # fmt: skip
    challenge = Correction(
        id="doubt", date="2026-02-04", entry=entry.path, kind="challenge", reason="too good", by="Bob",
        evidence="https://example.org/1",
    )  # fmt: skip
    withdrawal = challenge.model_copy(update={"id": "gone", "kind": "withdrawal", "evidence": None})
    changed = replace(entry, verifications=(record,), corrections=(challenge,))
    gone = next(one for one in entries if one.run_set.method.name == "PLD")
    extra = next(one for one in entries if one.run_set.method.name == "DKD")
    others = [one for one in entries if one not in (entry, gone, extra)]
    extra = replace(extra, run_set=extra.run_set.model_copy(update={"extra_data": True, "contact": "Eve"}))
    page = render([*others, changed, replace(gone, corrections=(withdrawal,)), extra], tmp_path / "page.html")
    data, rows, details = json_of(page, "data"), rows_of(page), json_of(page, "details-0")
    places = {name: place for place, name in enumerate(rows)}
    assert data["shared"]["badge"][rows["KD"]["badge"]] == "predictions checked"
    assert details["verifications"][places["KD"]] == [
        ["2026-02-03", "Ada", "predictions checked", 0.0, None, 1, ["as it should be"]]
    ]
    assert details["corrections"][places["KD"]][0][:5] == [
        "2026-02-04", "challenge", "Bob", "too good", "https://example.org/1",
    ]  # fmt: skip
    assert rows["KD"]["flags"] & CHALLENGED
    assert rows["DKD"]["flags"] & EXTRA_DATA
    assert data["pool"][details["contact"][places["DKD"]]] == "Eve"
    assert list(rows)[-1] == "PLD"  # withdrawn: last, and without a rank
    assert rows["PLD"]["flags"] & WITHDRAWN
    assert rows["PLD"]["low"] is rows["PLD"]["high"] is rows["PLD"]["gap"] is None
    assert "PLD" not in page.one("table", "top").text
    assert "Newest verification or correction: 2026-02-04." in page.one("footer").text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_run_set(results, PLAIN, None, 3.0)
    write_run_set(results, "Evil", "logits", 3.4, parameters={HOSTILE: HOSTILE}, class_path=HOSTILE)
    honest, evil = sorted(load_entries(results), key=lambda entry: entry.run_set.method.name != PLAIN)
    # names are restricted when they are read; the page must not rely on it
    run_set = evil.run_set
    citation = CitationInfo.model_construct(title=HOSTILE, authors=HOSTILE, venue=HOSTILE, year=2020, arxiv='"><b>')
    method = run_set.method.model_copy(update={"name": HOSTILE, "citation": citation, "licence": HOSTILE})
    run = run_set.runs[0].model_copy(update={"device": HOSTILE, "taps": ((HOSTILE, HOSTILE),)})
    names = {
        "student": run_set.student.model_copy(update={"name": HOSTILE}),
        "teacher": run_set.teacher.model_copy(update={"name": HOSTILE}),
        "protocol": run_set.protocol.model_copy(update={"id": HOSTILE}),
    }
    run_set = run_set.model_copy(
        update={
            "method": method, "contact": HOSTILE, "track": HOSTILE, "runs": (run, *run_set.runs[1:]), **names,
            "environment": run_set.environment.model_copy(update={"cpu": HOSTILE, "platform": HOSTILE}),
        }
    )  # fmt: skip
    record = VerificationRecord.model_construct(
        level=HOSTILE, date=HOSTILE, by=HOSTILE, run_set_sha256="", seeds=(), tolerance=0.0, mean_tolerance=None,
        environment=ENVIRONMENT, package_version=HOSTILE, remarks=(HOSTILE,),
    )  # fmt: skip
    correction = Correction.model_construct(
        id=HOSTILE, date=HOSTILE, entry=HOSTILE, kind="challenge", reason=HOSTILE, by=HOSTILE,
        evidence="javascript:alert(1)", answers=None, badge=None,
    )  # fmt: skip
    hostile = replace(evil, run_set=run_set, verifications=(record,), corrections=(correction,), folder=None)
    html = build_page([honest, hostile], tmp_path / "page.html").read_text(encoding="utf-8")
    page = read_html(html)
    assert not page.all("img")
    assert not page.all("b")
    assert [script.get("id") for script in page.all("script")] == ["data", "details-0", "details-1", ""]
    assert html.count("alert(1)") > 20
    assert html.count("<script") == html.count("</script") == 4
    assert "<!--" not in html
    assert "49" not in {element.text for element in page.all("dd")}
    assert HOSTILE in rows_of(page)
    assert all(not name.startswith("on") for element in page.all() for name in element.attributes)


def test_protocols_and_pairs_are_boards_of_one_table(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for protocol in ("b-v1", "a-v1"):
        write_run_set(results, "KD", "logits", protocol=protocol)
    page = render(load_entries(results), tmp_path / "page.html")
    assert [board["id"] for board in json_of(page, "data")["boards"]] == [
        "a-v1/mini_cnn4__mini_resnet14",
        "b-v1/mini_cnn4__mini_resnet14",
    ]
    assert "--pairs" not in json_of(page, "details-1")["command"][0]  # the protocol is not installed


def test_one_seed_has_no_interval_and_without_plain_there_is_no_gap(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_run_set(results, "KD", "logits", seeds=(3,))
    write_run_set(results, "Mine", None, seeds=(3,), class_path="my_package.methods.mine.Mine")
    page = render(load_entries(results), tmp_path / "page.html")
    rows = rows_of(page)
    for row in rows.values():
        assert row["half"] is row["gap"] is row["time"] is None
    assert json_of(page, "data")["shared"]["family"][rows["Mine"]["family"]] == "custom"


def test_methods_on_several_boards_have_average_ranks(tmp_path: Path) -> None:
    for models in (("a", "t"), ("b", "t"), ("c", "t")):
        write_results(tmp_path, seeds=(0, 1), models=models)
    across = json_of(render(load_entries(tmp_path), tmp_path / "page.html"), "data")["across"]
    assert len(across["boards"]) == 3
    assert across["ranks"] == sorted(across["ranks"])
    assert sum(across["ranks"]) == pytest.approx(6 * 7 / 2)
    assert set(across["names"]) == {PLAIN, "KD", "DKD", "PLD", "AttentionTransfer", "FitNet"}


def test_fronts_name_rows_that_no_other_beats(page: Element) -> None:
    data = json_of(page, "data")
    rows = list(rows_of(page).values())
    for key, front in data["boards"][0]["fronts"].items():
        points = [(row["headline"], row[key]) for row in rows]
        expected = [
            place
            for place, (headline, cost) in enumerate(points)
            if not any(h >= headline and c <= cost and (h, c) != (headline, cost) for h, c in points)
        ]
        assert sorted(front["front"]) == expected
        assert 0 < len(expected) < len(rows)


def test_bad_input_is_refused_and_writes_nothing(entries: list[Entry], tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    with pytest.raises(UserError, match="no results"):
        build_page([], output)
    with pytest.raises(UserError, match="KD has more than one run set"):
        build_page([*entries, next(each for each in entries if each.run_set.method.name == "KD")], output)
    with pytest.raises(UserError, match="is a directory"):
        build_page(entries, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_built_without_pytorch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from kd_bench.entries import load_entries; from kd_bench.leaderboard.page import build_page; "
        f"build_page(load_entries({str(results)!r}), {str(tmp_path / 'page.html')!r}); "
        "sys.exit(' '.join(name for name in ('torch', 'lightning') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert (tmp_path / "page.html").is_file()
