"""The local preview: the page as the results are now, and nothing else that lies on the disk."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.serve import HOST, Preview, address_of, preview_server
from kd_bench.reported import shipped_reported
from kd_bench.run_set_files import RUN_SET_FILE
from many_results import many_entries, write_entries

from lightning_kd.cli.main import main

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def leaderboards(tmp_path: Path) -> Path:
    folder = tmp_path / "leaderboards"
    write_entries(folder, many_entries(6, rows=6))
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def port(leaderboards: Path, said: list[str]) -> Iterator[int]:
    with preview_server(Preview(leaderboards, tell=said.append), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, path: str, method: str = "GET", host: str | None = None) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.putrequest(method, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def methods(answer: Answer) -> set[str]:
    return {entry["method"] for entry in json.loads(answer[2])["entries"]}


def remove(leaderboards: Path, method: str) -> None:
    (file,) = leaderboards.glob(f"results/*/{method}/*/{RUN_SET_FILE}")
    file.unlink()


def test_the_page_is_the_one_that_build_writes(port: int, leaderboards: Path, tmp_path: Path) -> None:
    status, headers, content = ask(port, "/")
    built = build_page(load_entries(leaderboards), tmp_path / "page.html", reported=shipped_reported(), exports=True)
    assert status == 200
    assert content == built.read_bytes()  # with its content security policy
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert ask(port, "/index.html?method=KD")[2] == content


def test_exports_are_beside_it(port: int) -> None:
    assert ask(port, "/results.csv")[1]["Content-Type"] == "text/csv; charset=utf-8"
    assert len(ask(port, "/results.csv")[2].splitlines()) == 7
    tree = ask(port, "/results.json")
    assert tree[1]["Content-Type"] == "application/json; charset=utf-8"
    assert methods(tree) == {"plain", "KD", "Method002", "Method003", "Method004", "Method005"}


@pytest.mark.parametrize(
    "path",
    [
        "/favicon.ico",
        "/leaderboards",
        "/results",
        "/results/",
        "/x//index.html",
        "/./index.html",
        "/../index.html",
        "/..%2f..%2fetc%2fpasswd",
        "/../../../../../../etc/passwd",
        "/etc/passwd",
        "/index.html/",
        "/INDEX.HTML",
        "/%69ndex.html",
        "/results.csv%00.html",
    ],
)
def test_nothing_else_is_there(port: int, path: str) -> None:
    status, headers, content = ask(port, path)
    assert status == 404
    assert headers["Content-Type"].startswith("text/plain")
    assert content == b"There is only the page, results.csv and results.json.\n"


def test_nothing_can_be_sent(port: int) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(port, "/", method)[0] == 501


def test_head_has_the_length_and_no_content(port: int) -> None:
    status, headers, content = ask(port, "/", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) == len(ask(port, "/")[2])


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:8000", "", "127.0.0.1.elsewhere.example"])
def test_a_name_from_elsewhere_that_points_here_gets_nothing(port: int, host: str) -> None:
    assert ask(port, "/", host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1"])
def test_a_forwarded_port_is_no_hindrance(port: int, host: str) -> None:
    assert ask(port, "/", host=host)[0] == 200


def test_it_is_built_once_until_a_file_changes(port: int, said: list[str], leaderboards: Path) -> None:
    ask(port, "/")
    ask(port, "/results.json")
    assert said == ["Built: 6 entries"]
    remove(leaderboards, "Method003")
    assert methods(ask(port, "/results.json")) == {"plain", "KD", "Method002", "Method004", "Method005"}
    assert b"Method003" not in ask(port, "/")[2]
    assert said[1:] == ["Built: 5 entries"]


def test_a_correction_and_a_touched_file_are_seen(port: int, said: list[str], leaderboards: Path) -> None:
    ask(port, "/")
    entry = next(entry for entry in load_entries(leaderboards) if entry.run_set.method.name == "Method002")
    withdrawal = {
        "id": "one", "date": "2026-04-01", "entry": entry.path, "kind": "withdrawal", "reason": "made up", "by": "me",
    }  # fmt: skip
    (leaderboards / "corrections" / "one.json").write_text(json.dumps(withdrawal), encoding="utf-8")
    entries = json.loads(ask(port, "/results.json")[2])["entries"]
    assert [one["method"] for one in entries if one["withdrawn"]] == ["Method002"]
    assert len(said) == 2
    assert entry.folder is not None
    os.utime(entry.folder / RUN_SET_FILE, ns=(1, 1))
    ask(port, "/")
    assert len(said) == 3


def test_what_the_page_is_not_made_of_does_not_count(port: int, said: list[str], leaderboards: Path) -> None:
    ask(port, "/")
    (leaderboards / "README.md").write_text("new", encoding="utf-8")
    (leaderboards / "results" / "notes.npz").write_bytes(b"new")
    ask(port, "/")
    assert said == ["Built: 6 entries"]


def test_a_corrupt_result_is_explained_until_it_is_mended(port: int, said: list[str], leaderboards: Path) -> None:
    ask(port, "/")
    (file,) = leaderboards.glob(f"results/*/KD/*/{RUN_SET_FILE}")
    whole = file.read_bytes()
    file.write_text("<script>alert(1)</script>", encoding="utf-8")
    for path in ("/", "/results.csv"):
        status, headers, content = ask(port, path)
        assert status == 500
        assert headers["Content-Type"].startswith("text/plain")  # what a file holds is never read as a page
        assert content.startswith(b"error: ")
        assert str(file).encode() in content
    assert len(said) == 2
    file.write_bytes(whole)
    assert ask(port, "/")[0] == 200


def test_many_ask_at_once_and_all_get_one_page(port: int, said: list[str]) -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(port, "/")[2])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert len(said) == 1


def test_only_this_machine_can_ask(leaderboards: Path, said: list[str]) -> None:
    with preview_server(Preview(leaderboards, tell=said.append), 0) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"
        assert address_of(server) == f"http://127.0.0.1:{server.server_port}/"


def test_a_port_in_use_is_named_with_another(leaderboards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["leaderboard", "serve", str(leaderboards), "--port", str(port)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"port {port} of 127.0.0.1 is in use" in printed.err
    assert f"--port {port + 1}" in printed.err


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_number_that_is_no_port_is_refused(port: int, leaderboards: Path, said: list[str]) -> None:
    with pytest.raises(UserError, match="0 to 65535"), preview_server(Preview(leaderboards, tell=said.append), port):
        pass


def test_results_that_cannot_be_shown_end_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "serve", str(tmp_path / "missing"), "--port", "0"]) == 2
    assert "missing" in capsys.readouterr().err


def test_the_browser_is_opened_when_asked(leaderboards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_and_leave(address: str) -> None:
        opened.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", open_and_leave)
    assert main(["leaderboard", "serve", str(leaderboards), "--port", "0", "--open"]) == 130
    assert opened[0].startswith("http://127.0.0.1:")


@pytest.mark.slow
def test_from_the_command_line_to_ctrl_c(leaderboards: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lightning_kd.cli.main", "leaderboard", "serve", str(leaderboards), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "Built: 6 entries\n"
        line = process.stdout.readline()
        port = int(line.removeprefix("Page: http://127.0.0.1:").partition("/")[0])
        assert methods(ask(port, "/results.json")) >= {"plain", "KD"}
        remove(leaderboards, "KD")
        assert methods(ask(port, "/results.json")) == {"plain", "Method002", "Method003", "Method004", "Method005"}
        assert process.stdout.readline() == "Built: 5 entries\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert (output, errors) == ("", "\nlightning-kd: interrupted\n")
