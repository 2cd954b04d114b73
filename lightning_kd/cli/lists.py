"""Lists typed on a command line: seeds and names."""

from __future__ import annotations

import re

from lightning_kd.cli.errors import CommandError

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MAX_SEEDS = 1000


def parse_seeds(text: str) -> list[int]:
    """Read seeds: numbers and inclusive ranges, separated by commas.

    Args:
        text: such as ``"0,1,2"`` or ``"0-4"``.

    Returns:
        The seeds in the order given.

    Raises:
        CommandError: if the text is something else, names a seed twice, or holds more than 1,000 seeds.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]
    """
    advice = "Give numbers and ranges separated by commas, for example --seeds 0-4 or --seeds 0,1,7."
    seeds: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise CommandError(f"cannot read {part.strip()!r} in --seeds {text!r}. {advice}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise CommandError(f"the range {part.strip()!r} in --seeds {text!r} runs backwards. {advice}")
        if len(seeds) + last - first + 1 > MAX_SEEDS:
            raise CommandError(f"--seeds {text!r} names more than {MAX_SEEDS} seeds. {advice}")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        raise CommandError(f"--seeds {text!r} names a seed twice. {advice}")
    return seeds


def parse_names(option: str, text: str) -> list[str]:
    """Read names separated by commas.

    Args:
        option: the option's name, for the message.
        text: such as ``"kd,dkd"``.

    Raises:
        CommandError: if a name is empty or given twice.

    >>> parse_names("--methods", "kd, dkd")
    ['kd', 'dkd']
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise CommandError(f"{option} {text!r} holds an empty name. Give names separated by commas.")
    if len(set(names)) < len(names):
        raise CommandError(f"{option} {text!r} gives a name twice. Give each name once.")
    return names
