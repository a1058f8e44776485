"""`relope doctor`: each thing it looks at, as it is and as it is wrong; nothing secret is told."""

import errno
import fcntl
import json
import os
import socket
import sys
from importlib.metadata import requires
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.doctor import accelerator, folder, reach, software
from relope.spec import DoctorSpec


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(reach, "_asked", lambda url: "no network in tests")


def level(findings, name):
    (found,) = [one for one in findings if one.name == name]
    return found.level


def test_this_machine_is_told_line_by_line(tmp_path):
    told = steps.run(DoctorSpec(out=tmp_path / "runs")).payload
    names = [check["name"] for check in told["checks"]]
    for name in ("Python", "packages", "transformers", "torch", "CUDA", "bitsandbytes", "vLLM", "disk", "disk speed",
                 "locks", "hard links", "hub", "hub token", "clouds",
                 "port 8000", "port 8001", "port 8010"):  # fmt: skip
        assert name in names
    assert told["errors"] == 0 and not (tmp_path / "runs").exists() and list(tmp_path.iterdir()) == []


def test_an_error_ends_with_1_and_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(software, "version", lambda name: {"transformers": "4.1"}.get(name, "999"))
    done = CliRunner().invoke(app, ["doctor", "--json", "--out", str(tmp_path)])
    told = json.loads(done.stdout)
    wrong = [check for check in told["checks"] if check["level"] == "error"]
    assert done.exit_code == 1 and told["errors"] == len(wrong) == 1
    pin = next(one for one in map(Requirement, requires("relope")) if one.name == "transformers")
    assert wrong[0]["do"] == f"pip install 'transformers{pin.specifier}'" and wrong[0]["said"].startswith("4.1")


def test_a_package_that_is_not_there(monkeypatch):
    def version(name):
        if name in ("torch", "starlette"):
            raise software.PackageNotFoundError(name)
        return "999"

    needs = ["torch>=2.6", "transformers>=5", "starlette>=1; extra == 'serve'", "obstore; extra == 'cloud'"]
    monkeypatch.setattr(software, "requires", lambda name: needs)
    monkeypatch.setattr(software, "version", version)
    found = list(software.packages())
    assert level(found, "torch") == "error" and "packages" not in [one.name for one in found]
    assert "serve (`relope serve` and `relope view`)" in software.extras().said
    assert software.extras().do.startswith("pip install 'relope[") and "serve" in software.extras().do


def test_a_torch_that_is_broken_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = accelerator.compute()
    assert found.level == "error" and "cannot be imported" in found.said


def card(capability, bf16=True, free=70, whole=80):
    cuda = SimpleNamespace(
        is_available=lambda: True, mem_get_info=lambda n: (free << 30, whole << 30), get_device_name=lambda n: "A card",
        device_count=lambda: 2, get_device_capability=lambda n: capability, is_bf16_supported=lambda: bf16)  # fmt: skip
    return SimpleNamespace(
        cuda=cuda, version=SimpleNamespace(cuda="13.0"), __version__="2.9", get_num_threads=lambda: 4
    )


@pytest.mark.parametrize(
    ("torch", "levels"),
    [(card((9, 0)), {"CUDA": "ok", "bf16": "ok"}), (card((7, 5), bf16=False), {"CUDA": "ok", "bf16": "warning"}),
     (card((9, 0), free=8), {"CUDA": "warning", "bf16": "ok"})],
)  # fmt: skip
def test_cards(monkeypatch, torch, levels):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(accelerator.importlib.util, "find_spec", lambda name: None)
    found = list(accelerator.compute())
    assert {name: level(found, name) for name in levels} == levels
    assert "2 × A card" in next(one.said for one in found if one.name == "CUDA")
    assert "sdpa" in next(one.said for one in found if one.name == "flash-attention")


def test_flash_attention_on_a_card_that_is_too_old(monkeypatch):
    monkeypatch.setattr(accelerator.importlib.util, "find_spec", lambda name: object())
    assert level(accelerator._on_gpu((7, 5), False), "flash-attention") == "warning"


def test_a_card_that_torch_does_not_use(monkeypatch):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), version=SimpleNamespace(cuda=None))
    monkeypatch.setattr(accelerator.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "built without CUDA" in accelerator._cuda(torch).said
    torch.version.cuda = "13.0"
    assert "update the driver" in accelerator._cuda(torch).do


def test_a_folder_without_locks_links_or_room(monkeypatch, tmp_path):
    def refused(*given):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    found = list(folder.folder(tmp_path / "a" / "b"))
    assert [level(found, name) for name in ("disk", "locks", "hard links")] == ["error", "warning", "warning"]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(fcntl, "flock", lambda *given: None)
    assert level(folder.folder(tmp_path), "locks") == "warning"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (found,) = folder.folder(tmp_path / "file")
    assert found.level == "error" and "--out" in found.do


def test_secrets_are_never_told(monkeypatch, tmp_path):
    secrets = {
        "HF_TOKEN": "hf_" + "s" * 30,
        "AWS_ACCESS_KEY_ID": "AKIA" + "T" * 16,
        "AWS_SECRET_ACCESS_KEY": "u" * 40,
        "AZURE_STORAGE_ACCOUNT_KEY": "v" * 44,
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "w.json"),
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path)])
    assert "there is one" in done.output and "S3, Google Cloud, Azure" in done.output
    assert not [value for value in secrets.values() if value in done.output]


def test_a_hub_that_is_not_reached_is_no_error(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert level(reach.hub(), "hub") == "warning"
    monkeypatch.setattr(reach, "_asked", lambda url: "")
    assert level(reach.hub(), "hub") == "ok"


def test_a_name_server_that_does_not_answer_takes_no_longer_than_our_patience(monkeypatch):
    import threading

    never = threading.Event()
    monkeypatch.setattr(reach, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(reach, "_asked", lambda url: never.wait(30) or "")
    assert "no answer in 0.05 s" in reach._unreachable("https://hub.example")
    never.set()


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (found,) = reach.ports({taken.getsockname()[1]: "relope view"})
    assert found.level == "warning" and "--port" in found.do and "where relope view would listen" in found.said


def test_vllm_in_an_environment_of_its_own(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0.21.0\n")
    python.chmod(0o755)
    assert software.vllm(str(python)).said == f"0.21.0 for {python}"
    assert software.vllm(str(tmp_path / "none")).level == "error"
