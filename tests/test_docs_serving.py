"""The commands and the snippet of docs/serving.md, run as they stand there, at ports that are free."""

import re
from pathlib import Path

from pages import Walk

WALK = Walk("docs/serving.md", ports=(8000, 9001))


def test_every_command_of_serving_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(WALK.blocks[1].text.splitlines()) == 6
    with WALK as walk:
        told = [told.text for told in walk if told.line.startswith("curl")]
    _, ready, answer, score, metrics = told
    assert len(walk.servers) == 2
    assert '"ready"' in ready and "HTTP/1.1 200" in answer and "x-relope-route" in answer
    assert '"object": "relope.score"' in score and "relope_requests_total" in metrics
    assert re.search(r"tiny-vl(-large)? (small|large) 0\.\d+", capsys.readouterr().out)
    assert Path("runs/decisions.jsonl").read_text().count('"kind": "decision"') == 2
