"""`relope vllm-command`: the server that a bundle needs, as a command; what cannot be served so is refused by name."""

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from made_bundle import calibrated

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, UnsupportedError
from relope.extract.model import told as told_by_servers
from relope.extract.model.card import locate, open_card
from relope.probes.router import Router, load_router
from relope.serve.apart.server import check_router, server_of, with_template
from relope.serve.bundle import load_bundle
from relope.serve.engine import EngineSettings
from relope.serve.local.backbone import open_served
from relope.serve.local.scoring import Scorer
from relope.spec import build
from tests.helpers.served import drawn_router


@pytest.fixture(scope="module")
def bundles(store_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles")
    return {
        "probe": calibrated(store_path, "probe", out, head="logistic"),
        "relope": calibrated(store_path, "relope", out, epochs=1, z=8),
    }


def told(bundle, **settings):
    return steps.run(build("vllm-command", {"bundle": bundle, **settings}))


def test_it_names_the_blocks_that_the_router_reads_and_a_name_that_no_other_server_has(bundles, tmp_path):
    facts = {
        name: told(bundle, states=tmp_path / "s", argument=["--max-model-len=99"]).facts
        for name, bundle in bundles.items()
    }
    assert facts["probe"]["layers"] == [4] and facts["relope"]["layers"] == [3, 4]
    assert facts["probe"]["name"] != facts["relope"]["name"] and facts["probe"]["name"].startswith("tiny-vl@")
    outcome = told(bundles["relope"], states=tmp_path / "s", port=9, max_images=2)
    words = shlex.split(outcome.text)
    assert words[-len(outcome.facts["command"]) :] == outcome.facts["command"]
    command = dict(zip(words[words.index("--model") :: 2], words[words.index("--model") + 1 :: 2], strict=True))
    assert command["--model"] == str(locate(open_card("tiny-vl"))[0]) and command["--dtype"] == "float32"
    assert json.loads(command["--limit-mm-per-prompt"])["image"] == 2 and command["--port"] == "9"
    assert facts["probe"]["command"][-1] == "--max-model-len=99" and outcome.facts["url"] == "http://127.0.0.1:9"


def test_another_model_is_refused_before_a_server_reads_it(bundles):
    with pytest.raises(InvalidInputError, match="is for tiny-vl, checkpoint"):
        told(bundles["probe"], model="tiny-vl-large")
    with pytest.raises(NotFoundError, match="holds no bundle"):
        told(bundles["probe"].parent)


def test_run_becomes_the_server(bundles, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$PYTHONPATH" "$@"; exit 7\n')
    python.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "relope",
        "vllm-command",
        "--bundle",
        bundles["probe"],
        "--run",
        "--python",
        python,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    assert (
        done.returncode == 7
        and words[0].split(os.pathsep)[0].endswith("plugin")
        and words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    )


@pytest.mark.parametrize("method", ["p-true", "self-consistency"])
def test_what_no_query_brings_is_refused_by_name(backbone, method):
    with pytest.raises(UnsupportedError, match=f"^{method} cannot be served"):
        check_router(drawn_router(method, backbone, 4), backbone)


def test_entropies_are_those_that_a_router_has_learned_from(backbone, monkeypatch):
    few = {"engine": {"name": "vllm", "version": 1, "entropies": "top 20 and the rest"}}
    routers = {name: drawn_router(name, backbone, 4) for name in ("entropy", "cascade", "posthoc", "logprob")}
    of_few = {name: replace_identity(router, few) for name, router in routers.items()}
    for router in routers.values():
        check_router(router, backbone)
    for name in ("entropy", "cascade"):
        with pytest.raises(UnsupportedError, match=f"^{name} has learned from entropies of top 20 and the"):
            Scorer(of_few[name], 4, backbone)
    Scorer(of_few["posthoc"], 4, backbone)
    monkeypatch.setattr(told_by_servers, "WHOLE", 1)
    for router in (*of_few.values(), routers["posthoc"], routers["logprob"]):
        check_router(router, backbone)
    for name in ("entropy", "cascade"):
        with pytest.raises(UnsupportedError, match="of the whole distribution; a vLLM server tells those of top 20"):
            check_router(routers[name], backbone)


def replace_identity(router, more):
    record = dataclasses.replace(router.record, identity={**router.record.identity, **more})
    return Router(router.name, record, router.probe)


@pytest.mark.parametrize(
    ("method", "layers", "flags"),
    [
        ("probe", (4,), ()),
        ("logprob", (4,), ()),
        ("entropy", (4,), ("--max-logprobs", "vocabulary")),
        ("posthoc", (6,), ("--enable-scale-out",)),
        ("kernel-posthoc", (6,), ("--enable-scale-out", "--max-logprobs", "vocabulary")),
        ("fusion", (3, 4, 6), ("--enable-scale-out", "--max-logprobs", "vocabulary")),
    ],
)
def test_a_server_hands_over_and_tells_what_the_router_reads(bundles, backbone, tmp_path, method, layers, flags):
    bundle = load_bundle(bundles["probe"])
    server = server_of(
        bundle, drawn_router(method, backbone, 4), open_served(bundle, EngineSettings(), runs=False), tmp_path
    )
    vocabulary = str(backbone.model.config.get_text_config().vocab_size)
    assert server.layers == layers and server.more == tuple(flag.replace("vocabulary", vocabulary) for flag in flags)


def test_weights_that_vllm_would_compute_otherwise_are_refused(bundles, tmp_path):
    bundle, router = load_bundle(bundles["probe"]), load_router(bundles["probe"])
    skeleton = open_served(bundle, EngineSettings(), runs=False)
    for field, why in (("quantize", "quantized weights"), ("adapter_files", "an adapter merged")):
        other = dataclasses.replace(bundle, backbone={**bundle.backbone, field: "x"})
        with pytest.raises(UnsupportedError, match=why):
            server_of(other, router, skeleton, tmp_path)
    copy = shutil.copytree(locate(open_card("tiny-vl"))[0], tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["Idefics3ForConditionalGeneration"]}))
    with pytest.raises(UnsupportedError, match="no states of Idefics3"):
        server_of(bundle, router, dataclasses.replace(skeleton, name=str(copy)), tmp_path)


def test_a_chat_template_of_its_own_goes_with_it(bundles, tmp_path):
    copy = shutil.copytree(bundles["probe"], tmp_path / "b")
    bundle = dataclasses.replace(load_bundle(copy), chat_template="{{ messages }}")
    server = server_of(
        load_bundle(copy), load_router(copy), open_served(load_bundle(copy), EngineSettings(), runs=False), tmp_path
    )
    path = tmp_path / "chat.jinja"
    assert with_template(server, load_bundle(copy), path).chat_template is None and not path.exists()
    assert with_template(server, bundle, path).chat_template == path and path.read_text() == "{{ messages }}"
