"""docs/python.md and examples/ run as they stand."""

import runpy
import sys

from pages import ROOT, Walk

WALK = Walk("docs/python.md")


def test_every_block_of_the_page_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with WALK as walk:
        walk.run_all()
    names = walk.names
    assert len(walk.blocks) >= 8
    assert (tmp_path / "runs/tour.zarr.report/report.html").is_file()
    assert len(names["scored"].scores) == 200 and names["report"].report.n == 200
    assert names["error"].hint and "--" not in str(names["error"])


def test_the_example_draws_its_curves(tmp_path, monkeypatch, capsys):
    script = (ROOT / "examples" / "one_run.py").read_text(encoding="utf-8")
    assert script.count("\n") <= 40
    short = tmp_path / "one_run.py"
    short.write_text(script.replace("limit=600", "limit=80"))
    monkeypatch.setattr(sys, "argv", ["one_run.py", str(tmp_path / "runs")])
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(short))
    assert "posthoc" in capsys.readouterr().out and (tmp_path / "runs/curves.png").stat().st_size > 5_000
