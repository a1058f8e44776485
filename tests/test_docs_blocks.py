"""Every code block of every page is run by a test, or says above it why not; commands that are not run can be typed."""

import re

import pytest
import yaml
from pages import ROOT, Block, Walk, blocks, commands, to_run, walks_of_tests

from relope.commands.flags import command_of
from relope.spec import SPECS

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
WALKS = list(walks_of_tests())
RUN = {(walk.page, block.line): by for walk, by in WALKS for block in walk.blocks}
"""Page and line of each block that is run → the tests and fixtures that do."""


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_run_or_says_why_not(page):
    silent = [block.line for block in to_run(page) if (page, block.line) not in RUN]
    assert not silent, f"{page}: not run, and unmarked: lines {silent}"


@pytest.mark.parametrize("place", RUN, ids=lambda place: f"{place[0]}-{place[1]}")
def test_a_test_can_be_named_that_runs_the_block(place):
    assert RUN[place], "a walk that no test of its module uses"


def test_a_block_has_one_walk():
    assert len(RUN) == sum(len(walk.blocks) for walk, _ in WALKS)


def test_a_block_left_out_is_found(tmp_path, monkeypatch):
    (tmp_path / "x.md").write_text("```python\nfirst = 1\n```\n\n```python\nsecond = 2\n```\n")
    monkeypatch.setattr("pages.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"x\.md: not run: lines \[6\]"), Walk("x.md") as walk:
        walk.run(walk.blocks[0])
    assert walk.names["first"] == 1 and "second" not in walk.names


@pytest.mark.parametrize("page", PAGES)
def test_a_mark_stands_above_a_block(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    marks = re.findall(r"^<!-- not run:", text, re.MULTILINE)
    assert len(marks) == sum(bool(block.reason) for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_no_block_escapes_the_rule(page):
    """A fence within a list is not seen, a command in a block that is only shown is not run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.search(r"^([ >]+```|~~~|[ >]+~~~)", text, re.MULTILINE), "a fence begins its line, with ```"
    shown = "".join(block.text for block in blocks(page) if block.shown)
    assert not re.search(r"^(\$|>>>|relope|pip|python3?|import|from) ", shown, re.MULTILINE)


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
