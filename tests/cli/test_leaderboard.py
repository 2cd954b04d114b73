"""`lightning-kd leaderboard build`."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.entries import load_entries
from kd_bench.leaderboard.export import write_exports
from kd_bench.leaderboard.page import build_page
from kd_bench.run_set_files import run_set_path
from page_reader import read_html
from synthetic_results import write_results

from lightning_kd.cli.main import main


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "runs" / "results"
    write_results(results, seeds=(0, 1))
    return results


def test_without_arguments_runs_become_site_index(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "build"]) == 0
    assert capsys.readouterr().out == "Page: site/index.html\n"
    expected = build_page(load_entries(results), results.parent / "expected.html")
    assert Path("site/index.html").read_bytes() == expected.read_bytes()


def test_directory_output_and_date(results: Path) -> None:
    moved = results.rename(results.parent / "elsewhere")
    assert main(["leaderboard", "build", str(moved), "--output", "page.html", "--date", "2026-03-04"]) == 0
    assert "Generated 2026-03-04." in Path("page.html").read_text(encoding="utf-8")


def test_exports_lie_beside_the_page_which_links_them(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "build", "--output", "out/page.html", "--export"]) == 0
    assert capsys.readouterr().out == "Page: out/page.html\nTable: out/results.csv\nData: out/results.json\n"
    page = read_html(Path("out/page.html").read_text(encoding="utf-8"))
    links = [link["href"] for link in page.all("a") if "download" in link.attributes]
    assert links == ["results.csv", "results.json"]
    for made in write_exports(load_entries(results), results.parent / "expected"):
        assert (Path("out") / made.name).read_bytes() == made.read_bytes()


def test_a_missing_directory_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "build", "resluts"]) == 2
    assert "resluts" in capsys.readouterr().err
    assert not Path("site").exists()


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1}', "[]"])
def test_a_corrupt_result_is_named_and_nothing_is_written(
    content: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_set_path(results, "digits-v1", "KD", "mini_cnn4", "mini_resnet14")
    path.write_text(content)
    assert main(["leaderboard", "build"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert "KD" in errors
    assert "run_set.json" in errors
    assert "Traceback" not in errors
    assert not Path("site").exists()


def test_reported_figures_come_from_the_package_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(Path("runs"), seeds=(0, 1), protocol="cifar100-v1", models=("resnet8x4", "resnet32x4"))
    assert main(["leaderboard", "build"]) == 0
    page = Path("site/index.html").read_text(encoding="utf-8")
    assert '["76.32","best?"' in page
    Path("mine").mkdir()
    shipped = Path(__file__).parents[2] / "leaderboards" / "reported" / "cifar100.csv"
    mine = shipped.read_text(encoding="utf-8").replace(",DKD,top1,76.32,", ",DKD,top1,12.34,")
    Path("mine/cifar100.csv").write_text(mine, encoding="utf-8")
    assert main(["leaderboard", "build", "--reported", "mine"]) == 0
    assert '["12.34","best?"' in Path("site/index.html").read_text(encoding="utf-8")


def test_bad_reported_figures_are_named_and_nothing_is_written(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "build", "--reported", "missing"]) == 2
    assert "no such directory: missing" in capsys.readouterr().err
    Path("mine").mkdir()
    Path("mine/x.csv").write_text("dataset\n")
    assert main(["leaderboard", "build", "--reported", "mine"]) == 2
    assert "x.csv, line 1: no column 'teacher'" in capsys.readouterr().err
    assert not Path("site").exists()
