"""Read the package's docstrings (Google sections, reStructuredText inside) and write them as Markdown.

Maths becomes GitHub's ```` ```math ```` blocks and ``$`…`$``, the forms in which backslashes and underscores always
survive there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field

WIDTH = 120

_SECTIONS = {"Args", "Returns", "Raises", "Attributes", "Yields", "Reference", "Example", "Examples"}
_HEADER = re.compile(r"(?P<name>[A-Z][a-z]+):{1,2}(?P<rest> .*)?")
_ENTRY = re.compile(r"(?P<name>\*{0,2}\w+): (?P<text>.*)")
_ROLE = re.compile(r":(?P<role>class|func|meth|attr|mod|data|math):`(?P<text>[^`]*)`")
_LITERAL = re.compile(r"``(.+?)``", flags=re.DOTALL)
_ATOM = re.compile(r"(?:\$`[^`]*`\$|`[^`]*`|\[[^\]]*\]\([^)]*\)|\S)+")

Link = Callable[[str], str | None]
"""From the last part of a dotted name to where it is documented, or ``None``."""


@dataclass
class Docstring:
    """A docstring in parts.

    Attributes:
        blocks: paragraphs, directives and literal blocks outside any section, in order.
        sections: Google section → its text, dedented.
    """

    blocks: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, str]:
        """Argument → what it means, in one line of reStructuredText."""
        return dict(_entries(self.sections.get("Args", "")))


def parse(docstring: str | None) -> Docstring:
    r"""Take a docstring apart.

    Args:
        docstring: as it stands in the source; doctests in it are left out.

    >>> parse("Add.\n\nArgs:\n    x: a\n        number.\n\nMore.").arguments
    {'x': 'a number.'}
    """
    outside: list[str] = []
    sections: dict[str, list[str]] = {}
    current = outside
    for line in inspect.cleandoc(docstring or "").splitlines():
        header = _HEADER.fullmatch(line)
        if header and header["name"] in _SECTIONS:
            current = sections.setdefault(header["name"], [])
            current.append((header["rest"] or "").strip())
            continue
        if current is not outside and line and not line.startswith(" ") and not current[-1]:
            current = outside
        current.append(line)
    return Docstring(
        _blocks(outside), {name: inspect.cleandoc("\n".join(lines)).strip() for name, lines in sections.items()}
    )


def to_markdown(block: str, link: Link = lambda name: None) -> str:
    """Write one block of a docstring as Markdown.

    Args:
        block: a paragraph, a list, a ``.. math::`` or ``.. code-block::`` directive, or a paragraph that ends in ``::``
            with its literal block.
        link: where names of roles lead.
    """
    first, _, rest = block.partition("\n")
    if first.startswith(".. math::"):
        formula = f"{first.removeprefix('.. math::').strip()}\n{inspect.cleandoc(rest)}".strip()
        return f"```math\n{formula}\n```"
    if first.startswith(".. code-block::"):
        return _code(rest, first.removeprefix(".. code-block::").strip())
    text, marker, literal = block.partition("::\n")
    if marker:
        return f"{wrap(inline(text, link))}:\n\n{_code(literal)}"
    if block.startswith("* "):
        items = re.split(r"^\* ", block, flags=re.MULTILINE)[1:]
        return "\n".join("* " + wrap(inline(item, link), indent="  ") for item in items)
    return wrap(inline(block, link))


def inline(text: str, link: Link = lambda name: None) -> str:
    """Turn roles and literals into Markdown, on one line.

    >>> inline("``x`` of :class:`~pkg.KD` with :math:`T^2`", {"KD": "KD.md"}.get)
    '`x` of [`KD`](KD.md) with $`T^2`$'
    """

    def role(match: re.Match[str]) -> str:
        content = " ".join(match["text"].split())
        if match["role"] == "math":
            return f"$`{content}`$"
        title = re.fullmatch(r"(?P<title>.+?) <.*>", content)
        name = title["title"] if title else content
        shown = name.rsplit(".", 1)[-1] if name.startswith("~") else name
        target = link(name.lstrip("~").rsplit(".", 1)[-1])
        return f"`{shown}`" if target is None else f"[`{shown}`]({target})"

    return " ".join(_LITERAL.sub(r"`\1`", _ROLE.sub(role, text)).split())


def wrap(text: str, indent: str = "") -> str:
    """Break lines at the width of the documentation, never inside code, maths or a link.

    Args:
        text: one paragraph.
        indent: what stands before every line but the first.
    """
    lines, room = [""], WIDTH - len(indent)
    for atom in _ATOM.findall(text):
        if lines[-1] and len(lines[-1]) + 1 + len(atom) > room:
            lines.append(atom)
        else:
            lines[-1] = f"{lines[-1]} {atom}".strip()
    return f"\n{indent}".join(lines)


def cell(text: str) -> str:
    """Protect what would end a table's cell."""
    return text.replace("|", "\\|")


def _code(text: str, language: str = "python") -> str:
    # with a blank line after the imports, as the formatter wants it in Markdown too
    code = re.sub(r"^((?:from|import) .*\n)(?!from |import |\n)", r"\1\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return f"```{language}\n{code}\n```"


def _blocks(lines: list[str]) -> list[str]:
    """Blocks between blank lines; indented lines stay with what they belong to; doctests are dropped."""
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        text = paragraph.strip("\n")
        if not text.strip() or text.lstrip().startswith(">>>"):
            continue
        if text.startswith(" ") and blocks:
            blocks[-1] += f"\n\n{text}"
        else:
            blocks.append(text)
    return blocks


def _entries(section: str) -> list[tuple[str, str]]:
    entries: list[tuple[str, str]] = []
    for line in section.splitlines():
        entry = None if line.startswith(" ") else _ENTRY.fullmatch(line)
        if entry:
            entries.append((entry["name"].lstrip("*"), entry["text"]))
        elif entries:
            name, text = entries[-1]
            entries[-1] = (name, f"{text} {line.strip()}".strip())
    return entries
