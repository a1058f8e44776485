"""Pages of docs/ as tests read them: their code blocks, and a walk that runs the blocks of one page in order."""

import ast
import importlib.util
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


@dataclass(frozen=True)
class Told:
    """A command of a page as it stands there, and what it printed: all of it, and to stdout alone."""

    line: str
    text: str
    out: str


class Walk:
    """Blocks of a page that a test runs, one after another in the current folder; servers end with it.

    A test module makes its walks at its top, where `walks_of_tests` finds them: a block that no walk has, and that
    does not say why, is an error. Leaving a walk asserts that each of its blocks was run.

    Attributes:
        blocks: those to run.
        here: what takes the place of a text of the page, such as a server's address.
        flags: step → words that are added to its commands, such as fewer questions.
        said: what each command line printed.
        names: of the Python blocks, which share them.
    """

    def __init__(self, page: str, holding: str = "", ports: tuple[int, ...] = ()) -> None:
        """Read a page.

        Args:
            page: a path below the repository's root.
            holding: a text that one block has, the only one of this walk; else it has all that are not marked.
            ports: those that the page names; a free one takes the place of each.
        """
        self.page, self.asked = page, ports
        self.blocks = [block for block in to_run(page) if holding in block.text]
        assert len(self.blocks) == 1 if holding else self.blocks, f"{page}: {len(self.blocks)} blocks with {holding!r}"
        self.here: dict[str, str] = {}
        self.flags: dict[str, list[str]] = {}
        self.ports: dict[int, int] = {}
        self.said: dict[str, str] = {}
        self.names: dict[str, object] = {}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ran: set[int] = set()

    @property
    def text(self) -> str:
        """The text of its only block."""
        (block,) = self.blocks
        return block.text

    def __enter__(self) -> "Walk":
        self.ports = {port: free_port() for port in self.asked}
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(40) for server in self.servers]
        assert set(codes) <= {0}, codes
        left = [block.line for block in self.blocks if block.line not in self.ran]
        assert failed or not left, f"{self.page}: not run: lines {left}"

    def __iter__(self) -> Iterator[Told]:
        """Run every block; yields after each command."""
        for block in self.blocks:
            yield from self.perform(block)
            self.ran.add(block.line)

    def run(self, block: Block) -> None:
        """Run one block."""
        for _ in self.perform(block):
            pass
        self.ran.add(block.line)

    def run_all(self) -> None:
        """Run every block."""
        for _ in self:
            pass

    def perform(self, block: Block) -> Iterator[Told]:
        """Run a block: Python as one, else each command."""
        if block.language == "python":
            exec(compile(self.moved(block.text), f"{self.page}, line {block.line}", "exec"), self.names)
            return
        for words in commands(block):
            line = shlex.join(words)
            told = self.command([self.moved(word) for word in words], line)
            self.said[line] = told.text
            yield told

    def moved(self, text: str) -> str:
        """Return a text with what is in use here in the place of what the page names."""
        for there, here in self.here.items():
            text = text.replace(there, here)
        return re.sub(r"\b\d{4}\b", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def command(self, words: list[str], line: str) -> Told:
        """Run one command, `relope` in this process, and return what it printed."""
        if words[-1] == "&":
            port = [] if "--port" in words else ["--port", str(self.ports[8000])]  # the server's own default
            self.servers.append(subprocess.Popen([sys.executable, "-m", *words[:-1], *port], stdout=subprocess.DEVNULL))
            return Told(line, "", "")
        if words[0] != "relope":
            words, into = (words[:-2], words[-1]) if ">" in words[-2:] else (words, None)
            out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
            if into:
                Path(into).write_text(out, encoding="utf-8")
            return Told(line, out, out)
        result = CliRunner().invoke(app, [*words[1:], *self.flags.get(words[1], [])])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        return Told(line, result.output, result.stdout)


def walks_of_tests() -> Iterator[tuple[Walk, list[str]]]:
    """Yield each walk at the top of a test module, with the tests and fixtures there that use it."""
    for path in sorted((ROOT / "tests").glob("test_docs*.py")):
        source = path.read_text(encoding="utf-8")
        if path.name == "test_docs_blocks.py" or "Walk" not in source:
            continue
        spec = importlib.util.spec_from_file_location(f"walks_of_{path.stem}", path)
        spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        for name, walk in vars(module).items():
            if isinstance(walk, Walk):
                used = [one for one in functions if any(getattr(node, "id", "") == name for node in ast.walk(one))]
                yield walk, [f"{path.name}::{one.name}" for one in used]


def unnumbered(text: str) -> str:
    """Return what a command prints without its numbers, rules and line breaks: what is alike on every machine."""
    plain = re.sub(r"[─-╿]", " ", text)
    return " ".join(re.sub(r"[+−]?\d[\d,]*(?:\.\d+)?", "#", plain).split())
