"""Every code block of every page is run by a test, or says above it why not; commands that are not run can be typed."""

import re

import pytest
import yaml
from pages import ROOT, Block, blocks, commands

from relope.commands.flags import command_of
from relope.spec import SPECS

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
RUN_BY = {
    "docs/calibrating.md": "test_docs_calibrating.py",
    "docs/extending.md": "test_docs_extending.py",
    "docs/importing.md": "test_docs_importing.py",
    "docs/judging.md": "test_docs_judging.py",
    "docs/large-model.md": "test_docs_large_model.py",
    "docs/python.md": "test_docs_python.py",
    "docs/scale.md": "test_docs_scale.py",
    "docs/serving.md": "test_docs_serving.py",
    "docs/sharing.md": "test_docs_sharing.py",
    "docs/tutorial.md": "test_docs_tutorial.py",
    "docs/your-data.md": "test_docs.py",
}
"""Page → the test that runs what it does not mark."""


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_run_or_says_why_not(page):
    silent = [block.line for block in blocks(page) if not block.shown and not block.reason]
    assert not silent or page in RUN_BY, f"{page}: not run, and unmarked: lines {silent}"


@pytest.mark.parametrize("page", RUN_BY)
def test_the_page_is_read_by_its_test(page):
    test = (ROOT / "tests" / RUN_BY[page]).read_text(encoding="utf-8")
    assert page.rpartition("/")[2] in test and any(not block.shown and not block.reason for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_mark_stands_above_a_block(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    marks = re.findall(r"^<!-- not run:", text, re.MULTILINE)
    assert len(marks) == sum(bool(block.reason) for block in blocks(page))


def test_a_mark_is_read(tmp_path, monkeypatch):
    (tmp_path / "x.md").write_text("<!-- not run: it is long -->\n```\nrelope run\n```\n\n```text\nshown\n```\n")
    monkeypatch.setattr("pages.ROOT", tmp_path)
    assert blocks("x.md") == [Block("", "relope run\n", 3, "it is long"), Block("text", "shown\n", 7)]
    assert blocks("x.md")[1].shown


def typed():
    """Yield page and words of each command that no test runs; … stands for what only a reader knows."""
    for page in PAGES:
        for block in blocks(page):
            if block.reason and block.language in ("", "sh", "bash"):
                yield from ((page, words) for words in commands(block) if words[0] == "relope" and "…" not in words)


@pytest.mark.parametrize(("page", "words"), [pytest.param(*one, id=" ".join(one[1])[:60]) for one in typed()])
def test_what_is_not_run_can_be_typed(page, words):
    """Flags, their values and names of methods are those that there are."""
    words = [word for word in words[1:] if word != "&"]
    if words[0] == "run":  # of pipelines.yaml
        assert not words[1:] or words[1] in yaml.safe_load((ROOT / "pipelines.yaml").read_text(encoding="utf-8"))
        return
    step = next(name for name in sorted(SPECS, key=len, reverse=True) if words[: len(name.split())] == name.split())
    words, taken = words[len(step.split()) :], []
    command_of(step, lambda spec, as_json, quiet: taken.append(spec)).main(words, standalone_mode=False)
    assert type(taken[0]) is SPECS[step], page


def test_no_reason_is_empty():
    for page in PAGES:
        for block in blocks(page):
            assert not block.reason or re.search(r"\w{2}", block.reason), (page, block.line)
