"""What the page must not do, and whom it must not leave out: hostile text, requests, small and dark screens, keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kd_bench.entries import Entry
from kd_bench.leaderboard.page import build_page
from many_results import many_entries
from synthetic_results import write_results

pytestmark = pytest.mark.slow

FIRST = "cifar100-v1/KD/resnet8x4__resnet32x4"

HOSTILE = (
    "</script></style></title></textarea><script>window.harmed=1</script><img src=x onerror=window.harmed=1>"
    "<svg onload=window.harmed=1>\"' onmouseover=window.harmed=1 x=' javascript:window.harmed=1 {{ 7*7 }} ${7*7} "
    "<!--<script> &lt; \u2028\u2029\u202e ]]> https://elsewhere.example/x.png"
)


@pytest.fixture(scope="module")
def hostile_entries() -> list[Entry]:
    """Entries in which every field that takes free text holds markup and script."""
    return [_hostile(entry) for entry in many_entries(42, rows=21)]


def _hostile(entry: Entry) -> Entry:
    run_set, method = entry.run_set, entry.run_set.method
    texts = {"python": HOSTILE, "torch": HOSTILE, "lightning": HOSTILE, "platform": HOSTILE, "cpu": HOSTILE}
    environment = run_set.environment.model_copy(update={**texts, "lightning_kd": HOSTILE})
    described: dict[str, Any] = {"package_version": HOSTILE}
    if method.citation is not None:
        words = {"title": HOSTILE, "authors": HOSTILE, "venue": HOSTILE, "arxiv": "javascript:window.harmed=1"}
        described |= {
            "citation": method.citation.model_copy(update=words),
            "class_path": f"my_method.{HOSTILE}",
            "parameters": {HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE, None, 1.0]}},
        }
    runs = tuple(
        run.model_copy(update={"device": HOSTILE, "taps": ((HOSTILE, HOSTILE),), "trainer": {"strategy": HOSTILE}})
        for run in run_set.runs
    )
    changed = {
        "method": method.model_copy(update=described),
        "environment": environment,
        "runs": runs,
        "contact": HOSTILE,
    }
    records = tuple(
        record.model_copy(update={"by": HOSTILE, "environment": environment}) for record in entry.verifications
    )
    corrections = tuple(one.model_copy(update={"reason": HOSTILE, "by": HOSTILE}) for one in entry.corrections)
    return replace(entry, run_set=run_set.model_copy(update=changed), verifications=records, corrections=corrections)


def test_hostile_text_is_shown_and_does_nothing(hostile_entries: list[Entry], tmp_path: Path, new_tab: Any) -> None:
    tab = new_tab(build_page(hostile_entries, tmp_path / "index.html"))
    tab.page.check("#show-withdrawn")
    tab.page.check("#show-extra")
    assert len(tab.shown()) == len(hostile_entries)
    for entry in hostile_entries:
        if entry.run_set.student.name == "student_000":
            tab.row(entry.path).locator("button.toggle").click()
            assert "window.harmed=1" in tab.detail(entry.path).inner_text()
    tab.page.mouse.move(200, 400)
    for kind in ("csv", "json"):
        with tab.page.expect_download() as download:
            tab.page.click(f"#download-{kind}")
        assert download.value.failure() is None
    tab.page.fill("#filter-text", "<script>")
    assert tab.page.evaluate("window.harmed") is None
    addresses = tab.page.eval_on_selector_all("a[href]", "all => all.map((link) => link.getAttribute('href'))")
    assert all(address.startswith(("#", "https://arxiv.org/abs/")) for address in addresses)
    assert tab.page.locator("img, iframe, object, embed").count() == 0


@pytest.mark.parametrize(
    "fragment",
    [
        "#<img src=x onerror=window.harmed=1>",
        "#?text=<script>window.harmed=1</script>",
        "#?sort=__proto__&pair=constructor",
    ],
)
def test_a_hostile_address_does_nothing(fragment: str, tab: Any) -> None:
    tab.open(fragment)
    assert tab.page.evaluate("window.harmed") is None
    assert tab.page.locator("#filter-text").is_visible()


def test_the_policy_forbids_foreign_scripts_and_requests(tab: Any) -> None:
    """Checked by breaking it: what is tried here is refused, and the browser says so in its console."""
    outcome = tab.page.evaluate("""async () => {
      const script = document.createElement("script");
      script.textContent = "window.harmed = 1";
      document.body.append(script);
      return await fetch("https://elsewhere.example/").then(() => "sent", () => "refused");
    }""")
    assert outcome == "refused"
    assert tab.page.evaluate("window.harmed") is None
    assert not any(problem.startswith("request:") for problem in tab.problems)
    assert any("Content Security Policy" in problem for problem in tab.problems)
    tab.problems.clear()


def test_every_control_has_a_name_and_every_state_is_told(tab: Any) -> None:
    tab.row(FIRST).locator("button.toggle").click()
    nameless = tab.page.eval_on_selector_all(
        "input, select, button, a[href], [role=region], [role=img]",
        """all => all.filter((one) => {
          const named = (one.getAttribute("aria-labelledby") ?? "").split(" ");
          const others = named.map((id) => document.getElementById(id));
          const texts = [...others, ...(one.labels ?? []), one].map((each) => each?.textContent ?? "");
          return one.checkVisibility() && !one.getAttribute("aria-label") && !texts.join("").trim();
        }).map((one) => one.outerHTML)""",
    )
    assert nameless == []
    assert tab.page.locator("table#results th[aria-sort]").count() == 1
    assert tab.page.locator("table#results thead th:not([scope=col])").count() == 0
    assert tab.page.locator("output#count").get_attribute("aria-live") == "polite"
    for toggle in tab.page.locator("button.toggle").all()[:20]:
        expanded = toggle.get_attribute("aria-expanded")
        assert expanded in ("true", "false")
        controls = toggle.get_attribute("aria-controls")
        assert (controls is not None) == (expanded == "true")
        assert controls is None or tab.page.locator(f"[id='{controls}']").count() == 1
    ids = tab.page.eval_on_selector_all("[id]", "all => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))
    levels = tab.page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map((one) => Number(one.localName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1


def test_the_focus_goes_through_the_controls_and_can_be_seen(tab: Any) -> None:
    seen = []
    tab.page.keyboard.press("Tab")
    for _ in range(25):
        found = tab.page.evaluate("""() => {
          const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
          const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
          return [one.id || one.className || one.localName, outlined, box.width > 0];
        }""")
        assert found[1:] == [True, True], found
        seen.append(found[0])
        tab.page.keyboard.press("Tab")
    assert {"skip", "filter-text", "filter-protocol", "filter-badge", "download-csv", "sort"} <= set(seen)


def test_a_slash_goes_to_the_search(tab: Any) -> None:
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("a/b")
    assert tab.page.locator("#filter-text").input_value() == "a/b"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(
    width: int, scheme: str, page_file: Path, new_tab: Any
) -> None:
    tab = new_tab(page_file, viewport={"width": width, "height": 740}, color_scheme=scheme)
    tab.row(FIRST).locator("button.toggle").click()
    for details in tab.page.locator("header details, #reported details").all()[:5]:
        details.locator("summary").first.click()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(tab, "body") >= 7
    for selector in ("table#results td.headline", "button.toggle", ".badge", "#order", ".detail dd"):
        assert contrast(tab, selector) >= 4.5, selector
    dark = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[dark.index("(") + 1 : -1].split(",")[:3])) < 200) == (scheme == "dark")


def contrast(tab: Any, selector: str) -> float:
    """Of an element's text against what is behind it, as WCAG defines it."""
    script = """(element) => {
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([red, green, blue]) => [red, green, blue].map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
      let behind = element, colour = parse(getComputedStyle(behind).backgroundColor);
      while (colour.length === 4 && colour[3] < 1 && behind.parentElement) {
        behind = behind.parentElement;
        colour = parse(getComputedStyle(behind).backgroundColor);
      }
      const [a, b] = [light(parse(getComputedStyle(element).color)), light(colour)];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    return float(tab.page.locator(selector).first.evaluate(script))


def test_predictions_are_drawn_as_a_reliability_diagram(tmp_path: Path, new_tab: Any) -> None:
    from kd_bench.entries import load_entries

    write_results(tmp_path / "results")
    tab = new_tab(build_page(load_entries(tmp_path / "results"), tmp_path / "index.html"))
    path = "digits-v1/KD/mini_cnn4__mini_resnet14"
    tab.row(path).locator("button.toggle").click()
    assert "ECE" in tab.detail(path).inner_text()
    assert tab.detail(path).locator("svg").count() >= 3


def test_without_javascript_the_best_rows_are_there(page_file: Path, new_tab: Any) -> None:
    tab = new_tab(page_file, java_script_enabled=False)
    assert tab.page.locator("table.top tbody tr").count() > 3
    assert "KD" in tab.page.locator("table.top").inner_text() or "Method" in tab.page.locator("table.top").inner_text()


def test_ten_thousand_rows_are_filtered_sorted_and_linked(tmp_path: Path, new_tab: Any) -> None:
    entries = many_entries(10_000)
    standing = [one for one in entries if not one.withdrawn and not one.run_set.extra_data]
    tab = new_tab(build_page(entries, tmp_path / "index.html"))
    number = tab.page.locator("output#count")
    assert number.inner_text() == f"{len(standing)} of {len(entries)} rows"
    tab.page.fill("#filter-text", "Method042")
    found = [one.path for one in standing if one.run_set.method.name == "Method042"]
    assert set(tab.shown()) == set(found)
    tab.page.fill("#filter-text", "")
    tab.page.click("button.sort[data-key='headline']")
    best = sorted(standing, key=lambda one: -sum(one.run_set.headlines()) / len(one.run_set.runs))
    shown = tab.shown()
    assert shown[0] == best[0].path
    tab.page.click("#show-more")
    assert len(tab.shown()) == 2 * len(shown)
    with tab.page.expect_download() as download:
        tab.page.click("#download-json")
    lines = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["entries"]
    assert {line["entry"] for line in lines} == {one.path for one in standing}
    tab.open(f"#{entries[9_876].path}")
    assert tab.detail(entries[9_876].path).is_visible()
