"""Every command and snippet of docs/importing.md, in order."""

import pytest
from pages import ROOT, Walk

from relope import registry
from relope.evaluate.report import read_report

WALK = Walk("docs/importing.md")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The page, worked through: the folder, and what each command said."""
    folder = tmp_path_factory.mktemp("importing")
    with pytest.MonkeyPatch.context() as patch, WALK as walk:
        patch.chdir(folder)
        walk.run_all()
    return folder, {line: " ".join(text.split()) for line, text in walk.said.items()}


def test_the_page_says_what_was_matched_and_by_whom_it_is_judged(ran):
    _, said = ran
    imported = next(text for line, text in said.items() if line.startswith("relope import"))
    assert "80 answers of large matched to runs/tiny.zarr (80 by id)" in imported and "by imported@1" in imported
    first, again = (text for line, text in said.items() if line.startswith("relope evaluate"))
    assert "large is judged by the tool that its answers come from" in first and "imported@1" not in again


def test_both_reports_have_the_same_numbers(ran):
    folder, _ = ran
    first, again = (read_report(folder / "runs" / name) for name in ("tiny.zarr.report", "judged-alike.report"))
    assert first.hybrid == again.hybrid and first.curves == again.curves and first.hybrid.large_accuracy > 0.5


def test_the_page_names_every_format():
    page = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    assert not [name for name in registry.names("importers") if f"| `{name}` |" not in page]
