"""A real vLLM server hands over the states that transformers computes, and answers as transformers does."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from checkpoints import make

from relope.extract.data.turns import prompt_text
from relope.extract.model.backbone import open_backbone
from relope.extract.model.card import locate, open_card
from relope.vllm.command import reads_images_whole
from relope.vllm.states import take

pytestmark = pytest.mark.vllm
LAYERS = (3, 4)
CHECKPOINTS = {"gemma3": {"head_dim": 32, "newline_tokens": True}, "internvl": {"hidden_size": 128}}
"""Tiny ones of classes that have ``SupportsEagle3`` by our plug-in; the CPU's attention needs heads of 32 or more."""


def pieces_of(sample, longer=""):
    return [*(image.open().convert("RGB") for image in sample.images), f"{prompt_text(sample, False)}{longer}"]


def expected(backbone, pieces, n=8, answer=()):
    """The tokens of a prompt (and of an answer), what blocks l-1 and l give for them, and what is said next."""
    turns = [("user", [None if not isinstance(piece, str) else piece for piece in pieces])]
    inputs = backbone.to_device(
        backbone.encoded([backbone.chat.render(turns)], [[p for p in pieces if not isinstance(p, str)]])
    )
    if answer:
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        zeros = torch.zeros(1, len(answer), dtype=torch.long)
        for kinds in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
            inputs[kinds] = torch.cat([inputs[kinds], zeros], 1)
    with torch.inference_mode():
        states = backbone.model(**inputs, output_hidden_states=True).hidden_states
        said = backbone.model.generate(**inputs, max_new_tokens=n, do_sample=False)
    prompt = inputs["input_ids"][0].tolist()
    return prompt, {layer: states[layer][0] for layer in LAYERS}, said[0, len(prompt) :].tolist()


def metric(url, name):
    with urllib.request.urlopen(f"{url}/metrics") as told:
        lines = told.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def off(given, wanted):
    return float((given - wanted).norm() / wanted.norm())


@pytest.fixture(scope="module", params=["tiny-vl", *sorted(CHECKPOINTS)])
def name(request):
    """The embedded model, and classes of our own plug-in."""
    return request.param


@pytest.fixture(scope="module")
def checkpoint(name, tmp_path_factory):
    if name == "tiny-vl":
        return locate(open_card(name))[0]
    return make(name, tmp_path_factory.mktemp(name), **CHECKPOINTS[name])


@pytest.fixture(scope="module")
def model(checkpoint):
    return open_backbone(str(checkpoint), "cpu", "float32")


@pytest.fixture(scope="module")
def served(name, checkpoint, request):
    """Its server, ended with its tests; the embedded model's serves others, too."""
    if name == "tiny-vl":
        yield request.getfixturevalue("tiny_server")
    else:
        start_server = request.getfixturevalue("start_server")
        process, server = start_server(checkpoint, LAYERS, context=1024, whole_images=reads_images_whole(checkpoint))
        yield process, server
        process.end()


@pytest.fixture(scope="module")
def prompts(questions):
    """Prompts with images, some longer than a step of the server and with a common beginning."""
    more = " ".join(["is it red ?"] * 20)
    return [pieces_of(sample, f" {more}" if number % 3 == 0 else "") for number, sample in enumerate(questions[:12])]


def test_states_and_answers_are_those_of_transformers_also_when_cached(served, ask, model, prompts, left):
    process, server = served
    for _ in range(2):
        for pieces in prompts:
            said = ask(process.url, server.name, *pieces, max_tokens=8, return_token_ids=True)
            handed = take(server.folder, said["kv_transfer_params"], LAYERS)
            ids, states, answer = expected(model, pieces)
            assert handed.token_ids.tolist() == ids
            assert max(off(handed.blocks[layer], states[layer]) for layer in LAYERS) <= 1e-5
            assert said["choices"][0]["token_ids"] == answer
    assert left(server.folder) == []
    assert len(expected(model, prompts[0])[0]) > server.batch_tokens, "none is read in chunks"
    assert metric(process.url, "vllm:prefix_cache_hits_total") >= 32, "none was cached"


def test_many_at_once_keep_theirs_apart(served, ask, model, prompts, left):
    process, server = served
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda pieces: ask(process.url, server.name, *pieces, max_tokens=1), prompts * 3))
    for pieces, said in zip(prompts * 3, told, strict=True):
        handed = take(server.folder, said["kv_transfer_params"], LAYERS)
        ids, states, _ = expected(model, pieces, 1)
        assert handed.token_ids.tolist() == ids and off(handed.blocks[4], states[4]) <= 1e-5
    assert left(server.folder) == []


def test_states_of_the_answer_are_those_of_one_pass_over_it(served, ask, model, prompts):
    process, server = served
    said = ask(
        process.url, server.name, *prompts[0], wants="all", max_tokens=6, min_tokens=6, ignore_eos=True,
        return_token_ids=True,
    )  # fmt: skip
    handed = take(server.folder, said["kv_transfer_params"], LAYERS)
    answer = said["choices"][0]["token_ids"]
    ids, states, _ = expected(model, prompts[0], answer=answer[:-1])
    assert len(answer) == 6 and handed.token_ids.tolist() == ids
    assert max(off(handed.blocks[layer], states[layer]) for layer in LAYERS) <= 1e-5


def test_nothing_is_written_for_who_did_not_ask(served, ask, prompts, left):
    process, server = served
    said = ask(process.url, server.name, *prompts[0], wants=None, max_tokens=2)
    assert said.get("kv_transfer_params") is None and left(server.folder) == []
