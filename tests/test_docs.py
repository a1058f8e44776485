"""The commands of docs/your-data.md, run as they stand there."""

import pytest
from caption_server import honest, server
from pages import ROOT, Walk

WALK = Walk("docs/your-data.md")


def test_every_command_of_your_data_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", "sk-of-nobody")
    with server(honest) as (url, _), WALK as walk:
        walk.here = {"http://localhost:8000/v1": url}
        walk.run_all()
    assert len(walk.said) >= 13
    assert (tmp_path / "runs" / "mine.zarr.report" / "report.html").is_file()
    assert (tmp_path / "mine" / "served.jsonl").is_file()


@pytest.mark.parametrize("name", ["datasets.md", "your-data.md"])
def test_pages_name_every_data_set_and_grader(name):
    from relope import registry

    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    known = registry.names("datasets") if name == "datasets.md" else registry.names("graders")
    assert [one for one in known if f"`{one}`" not in page and not one.startswith("tiny-")] == []
