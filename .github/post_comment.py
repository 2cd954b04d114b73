"""Post the report of a check under its pull request; the report is untrusted, and so is the number in it."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

API = "https://api.github.com"
MAX_CHARACTERS = 60_000
MARK = "<!-- leaderboard check -->"
"""First line of the comment, by which the next report finds and replaces it."""

SAFE_FOLDER = "leaderboards/"
REFUSED = (
    "The report of the check is not posted: {why}. Look at the log of the workflow *Submission*, and at the changes of "
    "this pull request, before anything else."
)


def main(folder: str) -> int:
    """Validate the report in a folder and post it.

    Args:
        folder: with the files ``number`` and ``comment.md``.

    Returns:
        0 after a comment was posted, else 1.
    """
    report = Path(folder)
    text = read_small(report / "number", 20)
    number = None if text is None else pull_request_number(text)
    if number is None:
        print("the report names no pull request", file=sys.stderr)
        return 1
    repository, head = os.environ["GITHUB_REPOSITORY"], os.environ["HEAD_SHA"]
    if ask(f"/repos/{repository}/pulls/{number}")["head"]["sha"] != head:
        print(f"#{number} is not at the commit {head} that was checked", file=sys.stderr)
        return 1
    comment = read_small(report / "comment.md", 4 * MAX_CHARACTERS)
    changed = changed_files(repository, number)
    if any(path.startswith(".github/") for path in changed):
        comment = REFUSED.format(why="this pull request changes files in `.github`, and so perhaps the check itself")
    elif comment is None or not is_harmless(comment):
        comment = REFUSED.format(why="it is missing, too long or not what the check writes")
    elif any(not path.startswith(SAFE_FOLDER) for path in changed):
        comment += "\nThis pull request also changes files outside of `leaderboards`: review them as code.\n"
    post(repository, number, f"{MARK}\n{comment}")
    return 0


def read_small(path: Path, limit: int) -> str | None:
    """The text of a plain file of at most ``limit`` bytes; ``None`` for anything else."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def pull_request_number(text: str) -> int | None:
    """The number in a text; ``None`` if it is anything else than one."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}\n?", text) else None


def is_harmless(comment: str) -> bool:
    """Whether nothing in a comment mentions, links to, or loads anything; what the check writes is like that."""
    if len(comment) > MAX_CHARACTERS or not comment.replace("\n", "").isprintable():
        return False
    if set(comment) & set("@<>[]!&\\$"):
        return False
    return not re.search(r"://|www\.|GH-[0-9]|#(?![# ])", comment, re.IGNORECASE)


def changed_files(repository: str, number: int) -> set[str]:
    """Paths that a pull request changes, before and after a rename; GitHub lists the first 3,000."""
    found: set[str] = set()
    for page in range(1, 31):
        files = ask(f"/repos/{repository}/pulls/{number}/files?per_page=100&page={page}")
        for file in files:
            found.update({file["filename"], file.get("previous_filename", file["filename"])})
        if len(files) < 100:
            return found
    # there may be more than can be seen
    return found | {".github/"}


def post(repository: str, number: int, body: str) -> None:
    """Write the comment, in place of the one of an earlier report if there is one."""
    for comment in comments(repository, number):
        if comment["user"]["login"] == "github-actions[bot]" and comment["body"].startswith(MARK):
            ask(f"/repos/{repository}/issues/comments/{int(comment['id'])}", "PATCH", {"body": body})
            return
    ask(f"/repos/{repository}/issues/{number}/comments", "POST", {"body": body})


def comments(repository: str, number: int) -> Iterator[dict[str, Any]]:
    """All comments under a pull request, as far as anybody reads."""
    for page in range(1, 21):
        found = ask(f"/repos/{repository}/issues/{number}/comments?per_page=100&page={page}")
        yield from found
        if len(found) < 100:
            return


def ask(path: str, method: str = "GET", content: dict[str, str] | None = None) -> Any:
    """Call GitHub's interface."""
    request = urllib.request.Request(
        os.environ.get("GITHUB_API_URL", API) + path,
        data=None if content is None else json.dumps(content).encode(),
        method=method,
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
