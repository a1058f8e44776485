"""The commands and the snippet of docs/serving.md, run as they stand there, at ports that are free."""

import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from relope.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_every_command_of_serving_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    large, small = free_port(), free_port()
    ported = lambda text: text.replace("localhost:9001", f"localhost:{large}").replace("9001", str(large))  # noqa: E731
    moved = lambda text: ported(text).replace("localhost:8000", f"localhost:{small}")  # noqa: E731
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    before, six = re.findall(r"```\n((?:relope|curl) .*?)```", PAGE, re.DOTALL)
    assert len(six.splitlines()) == 6
    servers, told = [], []
    try:
        for command in [*before.splitlines(), *six.splitlines()]:
            words = shlex.split(moved(command), comments=True)
            if words[-1] == "&":
                port = [] if "--port" in words else ["--port", str(small)]
                servers.append(subprocess.Popen([sys.executable, "-m", *words[:-1], *port]))
            elif words[0] == "relope":
                result = CliRunner().invoke(app, words[1:])
                assert result.exit_code == 0, f"{command}\n{result.output}"
            else:
                done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
                told.append(done.stdout)
        exec(compile(moved(snippet), "snippet", "exec"), {})
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(40) for server in servers]
    _, ready, answer, score, metrics = told
    assert codes == [0, 0] and '"ready"' in ready and "HTTP/1.1 200" in answer and "x-relope-route" in answer
    assert '"object": "relope.score"' in score and "relope_requests_total" in metrics
    assert re.search(r"tiny-vl(-large)? (small|large) 0\.\d+", capsys.readouterr().out)
    assert Path("runs/decisions.jsonl").read_text().count('"kind": "decision"') == 2
