"""The generated pages are those that are committed, and say what the code says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from docstrings import inline, parse, to_markdown, wrap
from generate import DOCS, bibtex, load_ideas, method_page, pages
from measured import committed_results, measured_tables
from published import published_tables
from synthetic_results import write_results

from lightning_kd.cli.main import main
from lightning_kd.methods import discover
from lightning_kd.methods.base import Citation
from lightning_kd.recipes import recipes

METHODS = discover()
ADVICE = "run `python docs/generate.py` and look at what it changes"


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return pages()


def test_committed_pages_are_up_to_date(generated: dict[Path, str]) -> None:
    stale = [path.name for path, text in generated.items() if not path.exists() or path.read_text("utf-8") != text]
    assert not stale, ADVICE
    assert {path.name for path in (DOCS / "methods").glob("*.md")} == {f"{name}.md" for name in METHODS}, ADVICE


def test_the_table_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--markdown"]) == 0
    table = (DOCS / "methods.md").read_text("utf-8").partition("\n| method")
    plain = re.sub(r"\[(`\w+`)\]\(methods/\w+\.md\)", r"\1", table[1] + table[2]).strip()
    assert plain == capsys.readouterr().out.strip()
    assert "docs/generate.py" in table[0]


def test_every_method_has_an_idea_and_no_idea_is_left_over() -> None:
    assert load_ideas().keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_ideas_are_two_sentences(name: str) -> None:
    sentences = re.findall(r"[.!?](?:\s|$)", load_ideas()[name].idea)
    assert len(sentences) == 2


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_every_part(name: str, generated: dict[Path, str]) -> None:
    page = generated[DOCS / "methods" / f"{name}.md"]
    headings = re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    required = ["Use", "Loss", "Arguments", "Notes and deviations", "Citation"]
    assert [heading for heading in headings if heading in required] == required
    for argument in inspect.signature(METHODS[name]).parameters:
        assert re.search(rf"^\| `{argument}` \| \S.* \| \S.* \| \w?\S.* \|$", page, flags=re.MULTILINE)
    citation = METHODS[name].citation
    assert citation is not None
    assert citation.title in page
    leftovers = re.search(r":(func|class|meth|attr|mod|math):|(?<!`)``(?!`)|\.\. \w+::", page)
    assert leftovers is None


def test_published_weights_are_on_the_pages_of_all_their_methods() -> None:
    for protocol in ("cifar100", "imagenet"):
        for recipe in recipes(protocol):
            for term in recipe.terms:
                tables = "\n".join(published_tables(term.method))
                assert recipe.source in " ".join(tables.split())
                assert f"weight={term.weight:g}" in tables


def test_measured_rows(tmp_path: Path) -> None:
    assert committed_results(tmp_path) == []
    write_results(tmp_path / "leaderboards" / "results")
    results = committed_results(tmp_path)
    (table,) = measured_tables("DKD", results)
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert sorted(rows[1:]) == ["DKD", "KD", "plain"]
    assert list(measured_tables("RKD", results)) == []
    page = method_page(METHODS["DKD"], load_ideas()["DKD"], results)
    assert table in page.partition("## Measured here")[2]


def test_bibtex() -> None:
    conference = bibtex(Citation("A Title", "Doe et al.", "CVPR", 2020, "2001.00001"), "Mine")
    assert conference.splitlines()[1:] == [
        "@inproceedings{doe2020mine,",
        "  title = {{A Title}},",
        "  author = {Doe and others},",
        "  booktitle = {CVPR},",
        "  year = {2020},",
        "  eprint = {2001.00001},",
        "  archiveprefix = {arXiv},",
        "}",
        "```",
    ]
    assert "@article{mueller2019mine" in bibtex(Citation("T", "Mueller and Roe", "TPAMI", 2019), "Mine")
    assert "author = {Mueller and Roe}" in bibtex(Citation("T", "Mueller and Roe", "TPAMI", 2019), "Mine")
    assert "@misc" in bibtex(Citation("T", "Doe", "arXiv", 2022), "Mine")


# reading docstrings

DOCSTRING = r"""Sum of two
    lines with :func:`~package.module.other_loss`.

    .. math:: T^2\,[a
        + b]

    Then an example::

        from package import thing
        thing()

    * one
      point
    * another

    Args:
        first: what
            goes on.
        second: a ``str``.

    Under DDP it differs.

    Raises:
        ValueError: never.

    >>> 1 + 1
    2
    """


def test_docstrings_are_taken_apart() -> None:
    found = parse(DOCSTRING)
    assert found.arguments == {"first": "what goes on.", "second": "a ``str``."}
    assert found.sections["Raises"] == "ValueError: never."
    assert [block.split()[0] for block in found.blocks] == ["Sum", "..", "Then", "*", "Under"]
    markdown = [to_markdown(block, {"other_loss": "Other.md"}.get) for block in found.blocks]
    assert markdown == [
        "Sum of two lines with [`other_loss`](Other.md).",
        "```math\nT^2\\,[a\n+ b]\n```",
        "Then an example:\n\n```python\nfrom package import thing\n\nthing()\n```",
        "* one point\n* another",
        "Under DDP it differs.",
    ]


def test_an_empty_docstring() -> None:
    assert parse(None).blocks == []
    assert parse("").arguments == {}


def test_lines_break_outside_code_and_maths() -> None:
    text = "word " * 22 + "$`a + b`$ and `some code` at the end"
    lines = wrap(text).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert any("$`a + b`$" in line for line in lines)
    assert any("`some code`" in line for line in lines)


def test_maths_with_line_breaks_becomes_one_line() -> None:
    assert inline("with :math:`a\n    + b` in it") == "with $`a + b`$ in it"


def test_the_type_of_weights_leads_to_the_schedules() -> None:
    page = method_page(METHODS["KD"], load_ideas()["KD"])
    assert "| `weight` | [`Weight`](../schedules-and-monitors.md#schedules) | `1.0` |" in page
