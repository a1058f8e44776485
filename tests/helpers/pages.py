"""Pages of docs/ as tests read them: their code blocks, and a walk that runs the blocks of one page in order."""

import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from relope.cli import app

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
"""The mark on the line above a block that no test runs; it says why not."""


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, its text, its first line's number, why it is not run."""

    language: str
    text: str
    line: int
    reason: str = ""

    @property
    def shown(self) -> bool:
        """Whether it is to be read, not run: what a command prints, a folder, a drawing, a formula."""
        return self.language in ("text", "math")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, a path below the repository's root."""
    lines, found, begin = (ROOT / page).read_text(encoding="utf-8").splitlines(), [], None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if begin is None:
            begin = number
            continue
        mark = NOT_RUN.fullmatch(lines[begin - 1]) if begin else None
        text = "".join(f"{one}\n" for one in lines[begin + 1 : number])
        found.append(Block(lines[begin].removeprefix("```"), text, begin + 2, mark[1] if mark else ""))
        begin = None
    assert begin is None, f"{page}: the block of line {begin} has no end"
    return found


def to_run(page: str) -> list[Block]:
    """Return the blocks of a page that a test has to run."""
    return [block for block in blocks(page) if not block.shown and not block.reason]


def commands(block: Block) -> Iterator[list[str]]:
    r"""Yield the commands of a block as words; a line that ends with \ goes on, what follows # is a remark."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Walk:
    """The blocks of a page, run one after another in the current folder; servers end with it.

    Attributes:
        said: what each command line printed, and what the Python blocks did.
    """

    def __init__(self, page: str, ports: tuple[int, ...] = ()) -> None:
        """Read a page.

        Args:
            page: a path below the repository's root.
            ports: those that the page names; a free one takes the place of each.
        """
        self.page = page
        self.ports = {port: free_port() for port in ports}
        self.said: dict[str, str] = {}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.names: dict[str, object] = {}

    def __enter__(self) -> "Walk":
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(40) for server in self.servers]
        assert set(codes) <= {0}, codes

    def moved(self, text: str) -> str:
        """Return a text with the ports that are in use here."""
        return re.sub(r"\b\d{4}\b", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def run(self, block: Block) -> None:
        """Run a block: Python as one, else each command."""
        if block.language == "python":
            code = compile(self.moved(block.text), f"{self.page}, line {block.line}", "exec")
            exec(code, self.names)
            return
        for words in commands(block):
            line = shlex.join(words)
            self.said[line] = self.command([self.moved(word) for word in words], line)

    def command(self, words: list[str], line: str) -> str:
        """Run one command, `relope` in this process, and return what it printed."""
        if words[-1] == "&":
            self.servers.append(subprocess.Popen([sys.executable, "-m", *words[:-1]], stdout=subprocess.DEVNULL))
            return ""
        if words[0] != "relope":
            return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        return result.output


def unnumbered(text: str) -> str:
    """Return what a command prints without its numbers, rules and line breaks: what is alike on every machine."""
    plain = re.sub(r"[─-╿]", " ", text)
    return " ".join(re.sub(r"[+−]?\d[\d,]*(?:\.\d+)?", "#", plain).split())
