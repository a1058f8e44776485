"""Progress on a terminal: what runs has a bar, what has ended scrolls by, and no label is markup."""

import io
import sys

import pytest

from relope.commands import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Give a function that puts a terminal in the place of stderr; pytest puts its own there before each test."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")

    def put():
        monkeypatch.setattr(sys, "stderr", shown := Terminal())
        return shown

    return put


def test_a_step_shows_how_far_it_is(on_a_terminal):
    terminal = on_a_terminal()
    with console.progress("extract tiny") as told:
        told(3, 12)
        told(12, 12)
    assert "12/12" in terminal.getvalue()


def test_a_pipeline_shows_what_runs_and_what_has_ended(on_a_terminal):
    terminal = on_a_terminal()
    with console.board(2) as board:
        told = board.begin(0, "fit [bold]probe")
        told(1, 4)
        board.end(0, "fit [bold]probe", "done [red]")
        board.end(1, "predict", "up to date")
    text = terminal.getvalue()
    assert "fit [bold]probe: done [red]" in text and "predict: up to date" in text and "2/2" in text
