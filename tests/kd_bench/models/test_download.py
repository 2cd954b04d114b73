from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from kd_bench.errors import UserError
from kd_bench.models import download
from kd_bench.models.download import default_cache_dir, fetch

CONTENT = b"\x80\x02" + os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _content(site: Any) -> None:
    site.content = CONTENT


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def interrupted(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, after: int = 100_000) -> Path:
    """Leave a download that stopped; the path of its part."""
    with monkeypatch.context() as patch:
        patch.setattr(download, "ATTEMPTS", 1)
        site.break_after = [after]
        with pytest.raises(UserError, match=rf"ended after {after:,} of 300,002.*{after:,} bytes received are kept"):
            fetch(site.url, sha256=SHA256, cache_dir=folder)
    (part,) = folder.glob("*.part")
    assert part.stat().st_size == after
    assert not list(folder.glob("*.pth"))
    site.requests.clear()
    return part


def test_a_file_is_fetched_once_and_then_comes_from_the_cache(site: Any, tmp_path: Path) -> None:
    path = fetch(site.url, sha256=SHA256, cache_dir=tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-ckpt_epoch_240.pth")
    assert files(tmp_path / "new") == [path.name]
    assert fetch(site.url, sha256=SHA256.upper(), cache_dir=tmp_path / "new") == path
    assert fetch(site.url, sha256=SHA256[:8], cache_dir=tmp_path / "new") == path
    assert fetch(site.url, cache_dir=tmp_path / "new") == path
    assert len(site.requests) == 1


def test_files_of_the_same_name_do_not_collide(site: Any, tmp_path: Path) -> None:
    first = fetch(site.url, cache_dir=tmp_path)
    assert fetch(site.url.replace("teachers", "others"), cache_dir=tmp_path) != first


def test_a_broken_connection_is_taken_up_again_within_the_call(site: Any, tmp_path: Path) -> None:
    site.break_after = [100_000, 50_000]
    assert fetch(site.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert [request.get("Range") for request in site.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.requests[1]["If-Range"] == '"v1"'


def test_a_later_call_goes_on_where_an_interrupted_one_stopped(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(site, tmp_path, monkeypatch)
    path = fetch(site.url, sha256=SHA256, cache_dir=tmp_path)
    assert path.read_bytes() == CONTENT
    assert [request.get("Range") for request in site.requests] == ["bytes=100000-"]
    assert files(tmp_path) == [path.name]


def test_a_complete_part_needs_nothing_more(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(site, tmp_path, monkeypatch).write_bytes(CONTENT)
    assert fetch(site.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT
    assert len(site.requests) == 1


@pytest.mark.parametrize("how", ["changed", "no ranges", "shorter", "changed without a version"])
def test_what_cannot_be_continued_starts_again(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    part = interrupted(site, tmp_path, monkeypatch)
    if how == "changed":
        site.etag = '"v2"'
        part.write_bytes(b"older version" * 100)
    elif how == "no ranges":
        site.ranges = False
    elif how == "shorter":
        part.write_bytes(CONTENT + b"more")
    else:  # the hash tells
        site.etag = None
        part.with_name(f"{part.name}.version").unlink()
        part.write_bytes(b"older version" * 100)
    assert fetch(site.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_kept(site: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"wrong checksum: expected sha256 {'0' * 64}, found {SHA256}.*try again"):
        fetch(site.url, sha256="0" * 64, cache_dir=tmp_path)
    assert files(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_fetched_anew(site: Any, tmp_path: Path) -> None:
    path = fetch(site.url, sha256=SHA256, cache_dir=tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert fetch(site.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_not_taken_for_a_checkpoint(site: Any, tmp_path: Path, content_type: str) -> None:
    site.content, site.content_type = b"\n<!DOCTYPE html><html><body>Sign in</body></html>", content_type
    with pytest.raises(UserError, match="gave an HTML page, not a checkpoint"):
        fetch(site.url, cache_dir=tmp_path)
    assert files(tmp_path) == []


def test_a_passing_server_error_is_tried_again(site: Any, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert fetch(site.url, cache_dir=tmp_path).read_bytes() == CONTENT


def test_a_lasting_server_error_is_not(site: Any, tmp_path: Path) -> None:
    site.statuses = [404]
    with pytest.raises(UserError, match="answers 404 Not Found"):
        fetch(site.url, cache_dir=tmp_path)
    assert len(site.requests) == 1
    site.statuses = [503] * 9
    with pytest.raises(UserError, match="answers 503"):
        fetch(site.url, cache_dir=tmp_path)
    assert len(site.requests) == 1 + download.ATTEMPTS


def test_an_unreachable_server(site: Any, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.pth"
        with pytest.raises(UserError, match=r"refused \(4 attempts\).*give the path of a local copy"):
            fetch(url, cache_dir=tmp_path)


def test_a_full_disk_keeps_what_was_received(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = interrupted(site, tmp_path, monkeypatch)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download.os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*Make room"):
            fetch(site.url, sha256=SHA256, cache_dir=tmp_path)
    assert part.stat().st_size > 100_000
    assert fetch(site.url, sha256=SHA256, cache_dir=tmp_path).read_bytes() == CONTENT


def test_two_at_once_fetch_once(site: Any, tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(site.url, cache_dir=tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(paths) == 3
    assert len(set(paths)) == 1
    assert len(site.requests) == 1


def test_addresses_and_hashes_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="http:// or https://"):
        fetch("ftp://example.org/file.pth", cache_dir=tmp_path)
    for wrong in ("123", "z" * 64, "0" * 65):
        with pytest.raises(UserError, match="64 hexadecimal digits"):
            fetch("https://example.org/file.pth", sha256=wrong, cache_dir=tmp_path)


def test_the_cache_follows_torch_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert default_cache_dir() == tmp_path / "hub" / "kd_bench"
