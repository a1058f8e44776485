"""The commands and the snippet of docs/calibrating.md, run as they stand there."""

import re

from pages import Walk

from relope.serve.routing import close_sessions

WALK = Walk("docs/calibrating.md")


def test_every_command_of_calibrating_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with WALK as walk:
        told = [told.text for told in walk]
    assert "share escalated at most 30 %" in told[-2] and re.search(r"P\(correct\) 0\.\d\d, score", told[-1])
    close_sessions()
    printed = capsys.readouterr().out
    assert re.search(r"\d+% escalated, P\(correct\) 0\.\d\d", printed) and re.search(
        r"^(small|large) 0\.", printed, re.M
    )
