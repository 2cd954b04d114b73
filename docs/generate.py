"""Write ``docs/methods.md``, one page a method and the table of checks, from the code and ``methods/ideas.yaml``.

Run it with ``python docs/generate.py`` after a method, its docstring, a recipe or a committed result has changed; a
test compares the committed pages with what it would write.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from docstrings import Link, cell, inline, parse, to_markdown, wrap
from kd_bench.results import RunSet
from measured import committed_results, measured_tables
from published import published_tables

from lightning_kd import functional
from lightning_kd.cli.method_table import markdown_table
from lightning_kd.methods import DistillationMethod, discover, family
from lightning_kd.methods.base import Citation
from lightning_kd.testing import CHECKS, TRAINER_CHECKS

DOCS = Path(__file__).parent
IDEAS = DOCS / "methods" / "ideas.yaml"
_GUIDE = DOCS / "writing-a-method.md"

_MARK = "<!-- Written by docs/generate.py from the code and docs/methods/ideas.yaml; edit those instead. -->"
_TABLE_HEAD = f"""{_MARK}

# Methods

One row a method, as `lightning-kd methods --markdown` prints it; every name leads to the method's page. *Taps* says
what is compared by default: the logits alone, the heads of detectors, or layers, see
[layers and taps](doors.md#layers-and-taps). To write this file and the pages anew, run `python docs/generate.py`.
"""

_TYPES = {
    "Weight": "[`Weight`](../schedules-and-monitors.md#schedules)",
    "Scheduled": "[`Scheduled`](../schedules-and-monitors.md#schedules)",
    "Layers": "[`Layers`](../doors.md#layers-and-taps)",
}
_PREPRINTS = {"arXiv", "technical report"}
_JOURNALS = {"TPAMI", "TMLR", "JMLR", "IJCV", "TNNLS"}

Method = type[DistillationMethod]


@dataclass(frozen=True)
class Idea:
    """The hand-written part of a page; see the head of ``ideas.yaml``."""

    idea: str
    helps: str = ""
    mind: str = ""
    method: str = ""
    task_weight: float | None = None


def load_ideas(path: Path = IDEAS) -> dict[str, Idea]:
    """Class name → its hand-written part."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Idea(**entry) for name, entry in entries.items()}


def pages() -> dict[Path, str]:
    """Every generated file and its content."""
    methods, ideas, results = discover(), load_ideas(), committed_results(DOCS.parent)
    table = re.sub(r"^\| `(\w+)` \|", r"| [`\1`](methods/\1.md) |", markdown_table(methods), flags=re.MULTILINE)
    written = {DOCS / "methods.md": f"{_TABLE_HEAD}\n{table}\n"}
    for name, cls in methods.items():
        written[DOCS / "methods" / f"{name}.md"] = method_page(cls, ideas[name], results)
    written[_GUIDE] = with_contract(_GUIDE.read_text(encoding="utf-8"))
    return written


def with_contract(guide: str) -> str:
    """The guide with the table of the contract's checks, between its marks, as the code has them."""
    rows = ["| check | what must hold |", "|---|---|"]
    for name, check in (CHECKS | TRAINER_CHECKS).items():
        rows.append(f"| {name} | {inline((check.__doc__ or '').splitlines()[0])} |")
    before, mark, rest = guide.partition("<!-- contract -->\n")
    _, end, after = rest.partition("<!-- /contract -->")
    return before + mark + "\n".join(rows) + "\n" + end + after


def method_page(cls: Method, idea: Idea, results: Sequence[RunSet] = ()) -> str:
    """The page of one method.

    Args:
        cls: the method.
        idea: its hand-written part.
        results: what was measured.
    """
    name, docstring, link = cls.__name__, parse(cls.__doc__), _links_from(cls)
    summary, *body = docstring.blocks
    formulas = [block for block in body if block.startswith(".. math::")] if not _losses(cls)[0] else []
    notes = [block for block in body if block not in formulas]
    parts = [_MARK, f"# {name}", _byline(cls), wrap(idea.idea), "## Use", _usage(cls, idea)]
    parts += ["## Loss", *(to_markdown(block, link) for block in (summary, *formulas)), *_loss_sections(cls, link)]
    parts += ["## Arguments", _arguments(cls, link)]
    when = [f"* **{title}** {text.strip()}" for title, text in (("Helps:", idea.helps), ("Mind:", idea.mind)) if text]
    if when:
        parts += ["## When", "\n".join(wrap(item, indent="  ") for item in when)]
    for title, tables in (("Measured here", measured_tables(name, results)), ("Published weights", _published(name))):
        found = list(tables)
        parts += [f"## {title}", *found] if found else []
    parts += ["## Notes and deviations", *([to_markdown(block, link) for block in notes] or [_NO_NOTES])]
    if cls.citation is not None:
        parts += ["## Citation", wrap(f"{cls.citation}."), bibtex(cls.citation, name)]
    return "\n\n".join(parts) + "\n"


_NO_NOTES = "None for the class. Where paper and code differ in the loss itself, its text above says so."


def bibtex(citation: Citation, name: str) -> str:
    """A BibTeX entry with what is known; its key is made of first author, year and the method's name."""
    venue = citation.venue
    kind = "misc" if venue in _PREPRINTS else "article" if venue in _JOURNALS else "inproceedings"
    venue_field = {"misc": "howpublished", "article": "journal", "inproceedings": "booktitle"}[kind]
    fields = {
        "title": f"{{{citation.title}}}",
        "author": citation.authors.replace(" et al.", " and others"),
        venue_field: venue,
        "year": str(citation.year),
        **({"eprint": citation.arxiv, "archiveprefix": "arXiv"} if citation.arxiv else {}),
    }
    first_author = re.sub(r"\W", "", re.split(r" et al\.| and ", citation.authors)[0]).lower()
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"```bibtex\n@{kind}{{{first_author}{citation.year}{name.lower()},\n{lines}}}\n```"


def _byline(cls: Method) -> str:
    source = Path(inspect.getfile(cls)).relative_to(DOCS.parent)
    facts = [family(cls).replace("_", "-"), *_facts(cls), f"[source](../../{source})", "[all methods](../methods.md)"]
    aliases = f"Also known as {', '.join(f'`{alias}`' for alias in cls.aliases)}.\n\n" if cls.aliases else ""
    return aliases + wrap(" · ".join(facts))


def _facts(cls: Method) -> Iterator[str]:
    yield "no teacher" if not cls.needs_teacher else "the teacher trains along" if cls.trains_teacher else "a teacher"
    facts = {
        "boxes and labels" if family(cls) == "detection" else "labels": cls.needs_target,
        "one pass over the training set before training": cls.has_setup_pass,
        "a data set with indices": cls.needs_index,
        "with per-sample losses": cls.per_sample is not DistillationMethod.per_sample,
    }
    yield from (fact for fact, holds in facts.items() if holds)


def _usage(cls: Method, idea: Idea) -> str:
    expression = idea.method or f"{cls.__name__}()"
    imported = ", ".join(sorted(set(re.findall(r"\b\w+(?=\()", expression)) & discover().keys()))
    teacher = ["peer" if cls.trains_teacher else "teacher"] if cls.needs_teacher else []
    factor = [] if idea.task_weight is None else [f"task_weight={idea.task_weight}"]
    note = "  # its data set wrapped in lightning_kd.data.WithIndex" if cls.needs_index else ""
    return f"""```python
import lightning as L
from lightning_kd import Distillation
from lightning_kd.methods import {imported}

distillation = Distillation({", ".join([*teacher, f"method={expression}", *factor])})
trainer = L.Trainer(max_epochs=240, callbacks=[distillation])
trainer.fit(student, datamodule=datamodule){note}
```"""


def _losses(cls: Method) -> tuple[list[Callable[..., Any]], list[Callable[..., Any]]]:
    """The functions that a method computes: those of its own file, and those that it takes from others'."""
    module = importlib.import_module(cls.__module__)
    public: list[Callable[..., Any]] = [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    named = _named_functions(cls)
    siblings = [other for other in discover().values() if other.__module__ == cls.__module__ and other is not cls]
    taken = {name for sibling in siblings for name in _named_functions(sibling)} - set(named)
    own = [value for value in public if value.__name__ in {*functional.__all__, *named} and value.__name__ not in taken]
    others = [getattr(functional, name) for name in named if name in functional.__all__]
    others = [value for value in others if value not in own]
    return (own or ([] if others else public)), others


def _named_functions(cls: Method) -> list[str]:
    names = re.findall(r":func:`~?(?:[\w.]*\.)?(\w+)`", cls.__doc__ or "")
    return list(dict.fromkeys(names))


def _loss_sections(cls: Method, link: Link) -> Iterator[str]:
    own, others = _losses(cls)
    for function in (*own, *others):
        home = "lightning_kd.functional" if function.__name__ in functional.__all__ else function.__module__
        yield f"### {function.__name__}"
        yield wrap(f"`{function.__name__}({_call(function)})` in `{home}`.")
        yield from (to_markdown(block, link) for block in parse(function.__doc__).blocks)


def _call(function: Callable[..., Any]) -> str:
    shown = []
    for name, parameter in inspect.signature(function).parameters.items():
        given = "" if parameter.default is inspect.Parameter.empty else f"={_literal(parameter.default)}"
        shown.append(name + given)
    return ", ".join(shown)


def _arguments(cls: Method, link: Link) -> str:
    meanings = _meanings(cls)
    hints = get_type_hints(cls.__init__)
    rows = ["| argument | type | default | meaning |", "|---|---|---|---|"]
    for name, parameter in inspect.signature(cls).parameters.items():
        default = "required" if parameter.default is inspect.Parameter.empty else f"`{_literal(parameter.default)}`"
        cells = f"`{name}`", _type(hints[name], parameter.annotation), default, inline(meanings[name], link)
        rows.append("| " + " | ".join(cell(text) for text in cells) + " |")
    return "\n".join(rows)


def _meanings(cls: Method) -> Mapping[str, str]:
    """What the constructor's arguments mean: its own docstring, else that of the base class that documents them."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= parse(base.__doc__).arguments if issubclass(base, DistillationMethod) else {}
    return found


def _type(hint: Any, written: Any) -> str:
    if written in _TYPES:
        return _TYPES[written]
    if get_origin(hint) is Literal:
        return "`" + " | ".join(_literal(value) for value in get_args(hint)) + "`"
    return f"`{written if isinstance(written, str) else inspect.formatannotation(written)}`"


def _literal(value: Any) -> str:
    if inspect.isfunction(value):
        return value.__name__
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _published(name: str) -> Iterator[str]:
    tables = list(published_tables(name))
    if tables:
        yield "From `lightning_kd.recipes`; see [published weights](../doors.md#published-weights)."
        yield from tables


def _links_from(cls: Method) -> Link:
    """Names of other methods lead to their pages."""

    def link(name: str) -> str | None:
        return f"{name}.md" if name in discover() and name != cls.__name__ else None

    return link


def main() -> None:
    """Write the files, and remove pages of methods that are no more."""
    written = pages()
    for path in (DOCS / "methods").glob("*.md"):
        if path not in written:
            path.unlink()
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    print(f"{len(written)} files below {DOCS}")


if __name__ == "__main__":
    main()
