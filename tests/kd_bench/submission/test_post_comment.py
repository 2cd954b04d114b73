"""The script that posts the comment, against a server that answers like GitHub's."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest

SCRIPT = Path(__file__).parents[3] / ".github" / "post_comment.py"
HEAD = "a" * 40
GOOD = "## Submission: nothing refused\n\n| entry | p |\n| --- | ---: |\n| `a/b/c__d` | ≤ 0.001 |\n"


class GitHub:
    """What the server knows and what it was asked to write."""

    def __init__(self) -> None:
        self.head = HEAD
        self.files = ["leaderboards/results/a/b/c__d/run_set.json"]
        self.renamed_from: dict[str, str] = {}
        self.comments: list[dict[str, Any]] = []
        self.written: list[tuple[str, str, str]] = []

    def answer(self, method: str, path: str, content: Any) -> Any:
        url = urlparse(path)
        page = int(parse_qs(url.query).get("page", ["1"])[0])
        part = slice(100 * (page - 1), 100 * page)
        if method != "GET":
            self.written.append((method, url.path, content["body"]))
            return {}
        if url.path.endswith("/files"):
            return [
                {"filename": name} | ({"previous_filename": old} if (old := self.renamed_from.get(name)) else {})
                for name in self.files[part]
            ]
        if url.path.endswith("/comments"):
            return self.comments[part]
        assert url.path == "/repos/owner/name/pulls/7"
        return {"head": {"sha": self.head}}


class Handler(BaseHTTPRequestHandler):
    github: ClassVar[GitHub]

    def do_GET(self) -> None:
        assert self.headers["Authorization"] == "Bearer token"
        length = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(length)) if length else None
        answer = json.dumps(self.github.answer(self.command, self.path, content)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("post_comment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    Handler.github = GitHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("GITHUB_API_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("GITHUB_TOKEN", "token")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    monkeypatch.setenv("HEAD_SHA", HEAD)
    yield Handler.github
    server.shutdown()
    server.server_close()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "number").write_text("7\n")
    (tmp_path / "comment.md").write_text(GOOD, encoding="utf-8")
    return tmp_path


def test_a_comment_is_posted_as_it_is(script: ModuleType, github: GitHub, report: Path) -> None:
    assert script.main(str(report)) == 0
    assert github.written == [("POST", "/repos/owner/name/issues/7/comments", f"{script.MARK}\n{GOOD}")]


def test_it_replaces_the_one_before_and_nobody_elses(script: ModuleType, github: GitHub, report: Path) -> None:
    bot = "github-actions[bot]"
    github.comments = [
        *({"id": number, "user": {"login": "someone"}, "body": "talk"} for number in range(150)),
        {"id": 201, "user": {"login": "someone"}, "body": f"{script.MARK}\nnot the bot's"},
        {"id": 202, "user": {"login": bot}, "body": f"another comment, {script.MARK}"},
        {"id": 203, "user": {"login": bot}, "body": f"{script.MARK}\nold"},
    ]
    assert script.main(str(report)) == 0
    assert github.written == [("PATCH", "/repos/owner/name/issues/comments/203", f"{script.MARK}\n{GOOD}")]


@pytest.mark.parametrize(
    "number", ["", "x", "0", "-7", "7; rm", "7\n8", "../8", "9" * 12, "7/../8", "\N{FULLWIDTH DIGIT SEVEN}", " 7"]
)
def test_a_number_is_a_number(number: str, script: ModuleType, github: GitHub, report: Path) -> None:
    (report / "number").write_text(number, encoding="utf-8")
    assert script.main(str(report)) == 1
    assert github.written == []


def test_a_report_about_another_pull_request_is_not_posted(script: ModuleType, github: GitHub, report: Path) -> None:
    github.head = "b" * 40
    assert script.main(str(report)) == 1
    assert github.written == []


@pytest.mark.parametrize(
    "text",
    [
        "@owner",
        "<img src=x>",
        "[text](x)",
        "![x](y)",
        "https://example.org",
        "www.example.org",
        "WWW.example.org",
        "#12",
        "owner/name#12",
        "GH-12",
        "gh-12",
        "&lt;",
        "$x$",
        "\\",
        "\x1b[31m",
        "\u202e",
        "\u200b",
        "x" * 60_001,
    ],
)
def test_a_comment_that_would_come_to_life_is_not_posted(
    text: str, script: ModuleType, github: GitHub, report: Path
) -> None:
    (report / "comment.md").write_text(f"{GOOD}\n{text}\n", encoding="utf-8")
    assert script.main(str(report)) == 0
    ((_, _, body),) = github.written
    assert text not in body
    assert "The report of the check is not posted" in body


@pytest.mark.parametrize("how", ["missing", "link", "folder", "bytes", "huge"])
def test_only_small_text_files_are_read(how: str, script: ModuleType, github: GitHub, report: Path) -> None:
    comment = report / "comment.md"
    comment.unlink()
    if how == "link":
        (report / "secret").write_text("the secret")
        comment.symlink_to(report / "secret")
    if how == "folder":
        comment.mkdir()
    if how == "bytes":
        comment.write_bytes(b"\xff\xfe")
    if how == "huge":
        comment.touch()
        os.truncate(comment, 2**31)
    assert script.main(str(report)) == 0
    ((_, _, body),) = github.written
    assert "not posted" in body
    assert "the secret" not in body


@pytest.mark.parametrize("path", [".github/workflows/submission.yml", ".github/post_comment.py"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_changed_workflow_reports_on_itself(
    renamed: bool, path: str, script: ModuleType, github: GitHub, report: Path
) -> None:
    github.files += [f"leaderboards/{number}" for number in range(120)]
    github.files.append("leaderboards/moved" if renamed else path)
    if renamed:
        github.renamed_from["leaderboards/moved"] = path
    assert script.main(str(report)) == 0
    ((_, _, body),) = github.written
    assert "changes files in `.github`" in body
    assert GOOD not in body


def test_too_many_files_to_see_are_not_trusted(script: ModuleType, github: GitHub, report: Path) -> None:
    github.files = [f"leaderboards/{number}" for number in range(3000)]
    assert script.main(str(report)) == 0
    assert "not posted" in github.written[0][2]


def test_other_changes_are_named_by_the_trusted_side(script: ModuleType, github: GitHub, report: Path) -> None:
    github.files.append("lightning_kd/module.py")
    assert script.main(str(report)) == 0
    ((_, _, body),) = github.written
    assert body.startswith(f"{script.MARK}\n{GOOD}")
    assert "outside of `leaderboards`" in body
