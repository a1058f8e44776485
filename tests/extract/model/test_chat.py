"""Chat templates: where images stand, what a template takes, and that a text begins once."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from checkpoints import make
from jinja2 import Environment

from relope.errors import UnsupportedError
from relope.extract.data.turns import split_at_images
from relope.extract.model.backbone import open_backbone
from relope.extract.model.chat import Chat

ONE_TURN = "{% for m in messages %}[{{ m['role'] }}]BODY{% endfor %}"
IN_ORDER = ONE_TURN.replace(
    "BODY", "{% for c in m['content'] %}{{ c['text'] if c['type'] == 'text' else '<pic>' }}{% endfor %}"
)
IMAGES_FIRST = ONE_TURN.replace(
    "BODY",
    "{% for c in m['content'] if c['type'] == 'image' %}<pic>{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}",
)
TEXT_ALONE = "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}"
SPELT_OUT = ONE_TURN.replace("BODY", "{{ m['content'] }}")
ASKED = "Is <image 1> left of <image 2>, and <image 1> red?"


@pytest.mark.parametrize(
    ("text", "n", "parts"),
    [
        ("Why?", 0, ["Why?"]),
        ("Why?", 2, [None, None, "Why?"]),
        (ASKED, 2, ["Is ", None, " left of ", None, ", and <image 1> red?"]),
        ("<image 1>", 1, [None]),
        ("A. <image 1>\nB. <image 2>", 2, ["A. ", None, "\nB. ", None]),
        ("<image 2> then <image 1>", 2, [None, None, "<image 2> then <image 1>"]),
        ("only <image 2>", 2, [None, None, "only <image 2>"]),
        ("<image 9> <image 1>", 1, ["<image 9> ", None]),
        ("<image 1>", 0, ["<image 1>"]),
        (f"<image {'1' * 5000}>", 1, [None, f"<image {'1' * 5000}>"]),
    ],
)
def test_images_stand_where_they_are_first_mentioned(text, n, parts):
    assert split_at_images([("user", text)], n) == [("user", parts)]


def chat(template, image_token=""):
    """Return the chat of a processor with a template and nothing else."""

    def apply(messages, add_generation_prompt, tokenize):
        return Environment().from_string(template).render(messages=messages)

    return Chat("m", SimpleNamespace(apply_chat_template=apply, chat_template=None), True, image_token)


@pytest.mark.parametrize(
    ("template", "style", "rendered"),
    [
        (IN_ORDER, "parts", "[user]Is <pic> left of <pic>, and <image 1> red?"),
        (IMAGES_FIRST, "first", f"[user]<pic><pic>{ASKED}"),
        (TEXT_ALONE, "text", "[user]Is <tok> left of <tok>, and <image 1> red?"),
        (SPELT_OUT, "text", "[user]Is <tok> left of <tok>, and <image 1> red?"),
    ],
)
def test_every_kind_of_template_shows_question_and_images(template, style, rendered):
    made = chat(template, image_token="<tok>")
    assert made.style == style
    assert made.render(made.turns([("user", ASKED)], 2)) == rendered
    assert made.render(made.turns([("user", "Why?")], 0)) == "[user]Why?"


def test_a_template_that_takes_no_images_where_there_is_no_token_for_them():
    made = chat(TEXT_ALONE)
    assert made.render([("user", ["Why?"])]) == "[user]Why?"
    with pytest.raises(UnsupportedError, match="takes no images"):
        made.render(made.turns([("user", "Why?")], 1))


def with_begin(folder):
    """Let a checkpoint's tokenizer begin every text with its <bos>, as Gemma's and Llama's do."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    begin = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<bos>")
    single = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [begin], "tokens": ["<bos>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<bos>"}))
    return begin


@pytest.mark.parametrize("name", ["gemma3", "gemma3-text"])
def test_the_token_that_begins_a_text_stands_there_once(name, tmp_path, questions):
    begin = with_begin(make(name, tmp_path / name))
    backbone = open_backbone(str(tmp_path / name), "cpu")
    assert backbone.tokenizer("x")["input_ids"][0] == begin, "the tokenizer writes it by itself"
    samples = [replace(sample, images=()) for sample in questions[:2]]
    if name == "gemma3":
        samples[0] = questions[0]
    inputs = backbone.inputs(samples)
    ids = inputs["input_ids"]
    assert (ids == begin).sum(1).tolist() == [1, 1]
    assert backbone.follow_up("Sure?").count("<bos>") == 0
    template = backbone.processor.chat_template
    backbone.processor.chat_template = template.replace("<bos>", "", 1)
    assert torch.equal(backbone.inputs(samples)["input_ids"], ids), "where the template does not, the tokenizer does"


def test_a_tokenizer_without_a_padding_token_pads_all_the_same(tmp_path):
    folder = make("llama", tmp_path / "llama")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    from relope.types import Sample

    samples = [Sample(str(n), "d", "test", "word " * n, ("x",)) for n in (1, 9)]
    inputs = open_backbone(str(folder), "cpu").inputs(samples)
    assert inputs["attention_mask"][0, 0] == 0 and inputs["attention_mask"][:, -1].tolist() == [1, 1]


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    folder = make("llama", tmp_path / "llama")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedError, match=r"has no chat template.*instruction-tuned"):
        open_backbone(str(folder), "cpu")


def test_phi4_with_the_template_of_its_own_repository(tmp_path, questions):
    listed = open_backbone(str(make("phi4-multimodal", tmp_path / "phi")), "cpu")
    shutil.copytree(tmp_path / "phi", tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
    )
    plain = open_backbone(str(tmp_path / "plain"), "cpu")
    assert (listed.chat.style, plain.chat.style) == ("parts", "text")
    one, two = (backbone.inputs(questions[:2]) for backbone in (listed, plain))
    assert torch.equal(one["input_ids"], two["input_ids"]) and plain.follow_up("Sure?") == listed.follow_up("Sure?")


@pytest.mark.parametrize("name", ["llama", "qwen2.5-vl"])
def test_a_template_that_writes_the_date_writes_the_same_on_every_day(name, tmp_path, questions):
    folder = make(name, tmp_path / name)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}" + template)
    backbone = open_backbone(str(folder), "cpu")
    inputs = (
        backbone.inputs(questions[:1], text_only=False)
        if name != "llama"
        else backbone.inputs([replace(questions[0], images=())])
    )
    assert backbone.tokenizer.decode(inputs["input_ids"][0]).startswith("26 Jul 2024")
