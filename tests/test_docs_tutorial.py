"""docs/tutorial.md, worked through from its first command to its last; what it shows is what is printed."""

import json
import re
from pathlib import Path

import pytest
from pages import Walk, blocks, unnumbered

from relope.serve.routing import close_sessions

PAGE = "docs/tutorial.md"
WALK = Walk(PAGE, ports=(8000, 8010, 9001))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The walk with its folder; what each output on the page was compared with."""
    pairs, said = [], ""
    with pytest.MonkeyPatch.context() as patch, WALK as walk:
        patch.chdir(tmp_path_factory.mktemp("tutorial"))
        patch.setenv("COLUMNS", "140")
        for block in blocks(PAGE):
            if block.shown:
                pairs.append((block, said))
            elif not block.reason:
                before = len(walk.said)
                walk.run(block)
                said = "\n".join(list(walk.said.values())[before:])
        walk.folder = Path.cwd()
        yield walk, pairs
    close_sessions()


def test_what_the_page_shows_is_what_is_printed(walked):
    _, pairs = walked
    assert len(pairs) >= 8
    for block, said in pairs:
        printed = unnumbered(said)
        for line in block.text.splitlines():
            assert line == "…" or unnumbered(line) in printed, f"line {block.line}: {line}\n{said}"


def test_the_router_was_served(walked):
    walk, _ = walked
    (answer,) = [text for line, text in walk.said.items() if "chat/completions" in line]
    assert "HTTP/1.1 200" in answer and re.search(r"x-relope-score: 0\.\d+", answer)
    (logged,) = (walk.folder / "runs/decisions.jsonl").read_text().splitlines()[-1:]
    assert json.loads(logged)["kind"] == "decision"
    assert (walk.folder / "runs/demo/report.html").is_file()
    (viewed,) = [text for line, text in walk.said.items() if "8010/" in line]
    assert viewed.strip().endswith("200")


def test_one_question_was_decided(walked):
    walk, _ = walked
    (told,) = [text for line, text in walk.said.items() if line.startswith("relope route")]
    assert re.search(r"P\(correct\) 0\.\d\d, score 0\.\d+ . threshold", " ".join(told.split()))
