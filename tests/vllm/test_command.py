"""The command of a vLLM server: what it says, and for which models there is one."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from relope.errors import NotFoundError, OutputError, UnsupportedError
from relope.vllm import guard
from relope.vllm.command import PLUGIN, Server, check_class, reads_images_whole, served_name
from relope.vllm.process import Process, check_python, free_port, is_healthy

GEMMA = "Gemma3ForConditionalGeneration"


def made(tmp_path, **settings):
    given = {"checkpoint": "org/model", "name": "m@1", "layers": (3, 4), "dtype": "bfloat16", "folder": tmp_path / "s"}
    return Server(**{**given, **settings})


def test_the_command_names_the_connector_the_blocks_and_the_folder(tmp_path):
    command = made(tmp_path, context=4096, processor={"max_pixels": 9}, more=("--seed", "3")).command("py")
    flags = dict(zip(command[3::2], command[4::2], strict=True))
    connector = json.loads(flags["--kv-transfer-config"])
    assert command[:3] == ["py", "-m", "vllm.entrypoints.openai.api_server"]
    assert connector["kv_connector_extra_config"] == {"folder": str(tmp_path / "s")}
    assert (PLUGIN / f"{connector['kv_connector_module_path']}.py").is_file()
    extracting = json.loads(flags["--speculative-config"])
    assert extracting["draft_model_config"]["hf_config"] == {"eagle_aux_hidden_state_layer_ids": [3, 4]}
    assert int(flags["--block-size"]) % 32 == 0 and flags["--max-model-len"] == "4096" and flags["--seed"] == "3"
    assert json.loads(flags["--mm-processor-kwargs"]) == {"max_pixels": 9} and "--chat-template" not in flags
    assert "--limit-mm-per-prompt" not in made(tmp_path, images=0).command()


def test_a_shell_reads_the_line_as_the_command(tmp_path):
    server = made(tmp_path, folder=tmp_path / "it's here")
    words = shlex.split(server.line("py"))
    assert words[0].startswith(f"PYTHONPATH={PLUGIN}") and words[len(server.environment()) :] == server.command("py")
    python = tmp_path / "a python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    for inherited in ({}, {"PYTHONPATH": ""}, {"PYTHONPATH": "/a module:/b"}):
        told = subprocess.run(["sh", "-c", server.line(str(python))], env=inherited, capture_output=True, text=True)
        read = [server.environment(inherited)["PYTHONPATH"], *server.command(str(python))[1:]]
        assert told.stdout.splitlines() == read, told.stderr
    assert read[0] == f"{PLUGIN}:/a module:/b"


def test_a_server_of_other_weights_or_blocks_has_another_name():
    names = {served_name("m", {"model_files": files}, layers) for files in "ab" for layers in ((3, 4), (4, 5))}
    assert len(names) == 4 and all(name.startswith("m@") for name in names)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            {"architectures": ["Gemma2ForCausalLM"]},
            "no states of Gemma2ForCausalLM .*lacks its interface SupportsEagle3",
        ),
        (
            {"architectures": ["Phi4MultimodalForCausalLM"]},
            "no states of Phi4MultimodalForCausalLM .*dropped the class",
        ),
        (
            {"architectures": [GEMMA], "mm_tokens_per_image": 256, "text_config": {"sliding_window": 128}},
            "an image of 256 tokens is longer than the 128",
        ),
        (
            {
                "architectures": ["Gemma4ForConditionalGeneration"],
                "text_config": {"use_bidirectional_attention": "vision"},
            },
            "attends in both directions here .use_bidirectional_attention vision.",
        ),
        ({}, "no states of a model without a class"),
        (
            {
                "architectures": ["Qwen3VLForConditionalGeneration"],
                "vision_config": {"deepstack_visual_indexes": [5, 11, 17]},
            },
            "adds image features behind its first 3 blocks; vLLM hands block 3 over with them",
        ),
    ],
)
def test_models_without_their_states_are_refused_by_name(tmp_path, config, why):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=why):
        check_class(tmp_path, "m", (3, 4))
    if "vision_config" in config:
        check_class(tmp_path, "m", (0, 4))
    with pytest.raises(NotFoundError, match="no config"):
        check_class(tmp_path / "none", "m", (3, 4))


def test_gemma3_is_served_with_its_images_whole(tmp_path):
    config = {"architectures": [GEMMA], "mm_tokens_per_image": 256, "text_config": {"sliding_window": 1024}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_class(tmp_path, "m", (3, 4))
    assert reads_images_whole(tmp_path)
    assert "--disable-chunked-mm-input" in made(tmp_path, whole_images=True).command()
    assert "--disable-chunked-mm-input" not in made(tmp_path).command()
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    check_class(tmp_path, "m", (3, 4))
    assert not reads_images_whole(tmp_path)


def test_what_cannot_start_a_server_is_said_in_a_line(tmp_path):
    with pytest.raises(NotFoundError, match="no Python at"):
        check_python(str(tmp_path / "python"))
    with pytest.raises(NotFoundError, match="has no vLLM"):
        check_python(sys.executable)
    assert not is_healthy(f"http://127.0.0.1:{free_port()}", 0.5)


@pytest.fixture
def stand_in(tmp_path):
    """Give a function that makes a "Python" that does as a script says in place of a server."""

    def make(script):
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{script}\n')
        path.chmod(0o755)
        return str(path)

    return make


def test_a_server_that_ends_at_its_start_says_why(tmp_path, stand_in):
    lines = (
        "(APIServer pid=2) WARNING 11-26 [utils.py:2] fd limit errors like OSError: [Errno 24] Too many open files",
        "(EngineCore pid=3) ERROR 11-26 [core.py:2]     raise ValueError(message)",
        "(EngineCore pid=3) ERROR 11-26 [core.py:3] ValueError: no such layer",
    )
    python = stand_in("\n".join([*(f"echo '{line}'" for line in lines), "exit 3"]))
    process = Process(made(tmp_path, port=free_port()), python, tmp_path / "log")
    with pytest.raises(OutputError, match="ended at its start: ValueError: no such layer"):
        process.wait(20)
    process.end()
    assert not process.runs


def test_a_server_that_never_answers_is_ended_with_all_that_it_started(tmp_path, stand_in):
    python = stand_in(f"sleep 100 & echo $! > {tmp_path}/child; wait")
    process = Process(made(tmp_path, port=free_port()), python, tmp_path / "log")
    with pytest.raises(OutputError, match=r"not ready within 1 s$") as late:
        process.wait(1)
    assert "--vllm-url" in late.value.hint
    assert not process.runs and gone(int((tmp_path / "child").read_text()))


def test_a_server_is_waited_for_while_it_writes(tmp_path, stand_in):
    python = stand_in("for n in 1 2 3 4; do echo $n; sleep 0.4; done; sleep 100")
    process = Process(made(tmp_path, port=free_port()), python, tmp_path / "log")
    with pytest.raises(OutputError, match=r"not ready within [23] s, and wrote nothing for 0\.8 s"):
        process.wait(60, silent_s=0.8)
    assert not process.runs and (tmp_path / "log").read_text() == "1\n2\n3\n4\n"


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("Free memory on device cuda:0 (3/80 GiB) on startup is less than desired GPU memory", "utilization=0.5"),
        ("Available memory on node 0 (3/80 GiB) on startup is less than desired CPU memory", "utilization=0.5"),
        ("is needed, which is larger than the available KV cache memory (1.2 GiB). Try", "--max-model-len=8192"),
        (
            "is larger than the available KV cache memory (1 GiB). Based on the available memory, the estimated "
            "maximum model length is 5120. Try",
            "--max-model-len=5120",
        ),
        ("No available memory for the cache blocks. Try", "utilization=0.95"),
        ("no such layer", ""),
    ],
)
def test_what_helps_is_what_the_log_says(tmp_path, stand_in, said, helps):
    process = Process(made(tmp_path, port=free_port()), stand_in(f"echo 'ValueError: {said}'; exit 3"), tmp_path / "l")
    with pytest.raises(OutputError, match="ended at its start: ValueError") as died:
        process.wait(20)
    assert helps in died.value.hint and str(tmp_path / "l") in died.value.hint
    assert ("--" in died.value.hint) is bool(helps)


def gone(process):
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().split()[2] == "Z"


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


STARTS = """
import sys, time
from pathlib import Path
from relope.vllm.command import Server
from relope.vllm.process import Process
work = Path(sys.argv[1])
Process(Server(checkpoint="c", name="m", layers=(1,), dtype="float32", folder=work / "s"), sys.argv[2], work / "log")
print("started", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_server_goes_with_who_has_started_it_also_by_sigkill(tmp_path, stand_in, stubborn):
    """With all that the server has started; SIGTERM reaches it first, so that it may end in its own way."""
    on_term = ": ignored" if stubborn else "echo ended >> ended; exit"
    python = stand_in(f"cd {tmp_path}; trap '{on_term}' TERM; sleep 100 & echo $$ $! > ids; while :; do wait; done")
    code = STARTS
    if stubborn:
        impatient = tmp_path / "guard.py"
        impatient.write_text(Path(guard.__file__).read_text().replace("GRACE_S = 20.0", "GRACE_S = 0.5"))
        code = f"from relope.vllm import guard; guard.__file__ = {str(impatient)!r}\n{STARTS}"
    command = [sys.executable, "-c", code, str(tmp_path), python]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "started\n"
        assert until(lambda: (tmp_path / "ids").exists() and len((tmp_path / "ids").read_text().split()) == 2)
        server, child = map(int, (tmp_path / "ids").read_text().split())
        assert not gone(server) and not gone(child)
        starter.send_signal(signal.SIGKILL)
    assert until(lambda: gone(server) and gone(child))
    assert (tmp_path / "ended").exists() is not stubborn


def test_a_guard_ends_as_its_command_does():
    code = "import os, signal, sys; os.kill(os.getpid(), 9) if sys.argv[1] == 'killed' else sys.exit(7)"
    before = signal.getsignal(signal.SIGTERM)
    try:
        for how, status in (("ends", 7), ("killed", 137)):
            assert guard.guard(os.getppid(), [sys.executable, "-c", code, how]) == status
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_log_of_its_own_goes_with_a_server_that_was_ended_and_stays_of_one_that_died(tmp_path, stand_in):
    process = Process(made(tmp_path, port=free_port()), stand_in("sleep 100"))
    given_up = threading.Event()
    assert process.log.exists()
    given_up.set()
    with pytest.raises(OutputError, match="ended while it was loading"):
        process.wait(20, given_up)
    assert not process.runs and not process.log.exists()
    process = Process(made(tmp_path, port=free_port()), stand_in("echo it is broken; exit 3"))
    with pytest.raises(OutputError, match="exit status 3") as died:
        process.wait(20)
    process.end()
    assert process.log.read_text() == "it is broken\n" and str(process.log) in died.value.hint
    process.log.unlink()


def test_logs_of_servers_that_have_died_long_ago_go_and_those_that_are_written_stay(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Process(made(tmp_path, port=free_port()), stand_in("sleep 100"))
    beginning = f"relope-vllm-{os.getuid()}-"
    old, young, other = (tmp_path / f"{name}.log" for name in (f"{beginning}a", f"{beginning}b", "relope-vllm-x-c"))
    for log in (old, young, other):
        log.write_bytes(b"")
    for log in (old, other, living.log):
        os.utime(log, (1, 1))
    ended = Process(made(tmp_path, port=free_port()), stand_in("sleep 100"))
    assert {log for log in (old, young, other, living.log) if not log.exists()} == {old}
    for process in (living, ended):
        process.end()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="no log can be written"):
        Process(made(tmp_path, port=free_port()), stand_in("sleep 100"))
