"""C: a system's text and earlier turns before the question, images in the turns that they belong to."""

import json
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import CLASSES, TEXT_ONLY, make
from PIL import Image
from typer.testing import CliRunner

from relope import steps
from relope.asked import asked_digest
from relope.cli import app
from relope.errors import InvalidInputError
from relope.extract.data.flaws import input_digest, read_skipped
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import open_backbone
from relope.extract.model.generate import answer_batch, captures
from relope.spec import build
from relope.store import open_store
from relope.types import Sample

PLAIN = Sample("a", "d", "test", "Which one?", ("x",))
TURNS = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "A bar."},
    {"role": "user", "content": "Which one?"},
]
SHOWN = {"type": "image"}


def said(text):
    return {"type": "text", "text": text}


def read(tmp_path, *rows, n_images=3):
    """Return the samples of rows in a JSON Lines file, beside images 0.png, 1.png, …"""
    for number in range(n_images):
        Image.new("RGB", (40, 40), (number * 60, 0, 0)).save(tmp_path / f"{number}.png")
    filled = [{"id": str(n), "answer": "x", "split": "test", **row} for n, row in enumerate(rows)]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, filled)))
    return open_dataset(str(path)).load("test", None)


def test_c_system_and_messages_are_read(tmp_path):
    one, two, three = read(
        tmp_path,
        {"question": "Which one?", "system": "Be brief."},
        {"messages": TURNS, "system": "Be brief."},
        {"messages": [{"role": "system", "content": "Be brief."}, *TURNS], "question": None, "choices": ["x", "y"]},
    )
    assert (one.question, one.system, one.earlier) == ("Which one?", "Be brief.", ())
    assert (two.question, two.system) == ("Which one?", "Be brief.")
    assert two.earlier == three.earlier == (("user", "What is it?"), ("assistant", "A bar."))
    assert three.system == "Be brief." and three.choices == ("x", "y")


def test_c_what_was_said_before_is_part_of_what_is_asked(tmp_path):
    told = replace(PLAIN, system="Be brief.")
    talked = replace(PLAIN, earlier=(("user", "Hi"), ("assistant", "Hello")))
    assert len({input_digest(one) for one in (PLAIN, told, talked, replace(told, system="Be long."))}) == 4
    assert asked_digest("q", (), "", ()) != asked_digest("q", (), "", (), told.said_before)
    plain, before = (read(tmp_path, {"question": "Which one?", **more})[0] for more in ({}, {"system": "Be brief."}))
    assert plain.id == before.id and input_digest(plain) != input_digest(before)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": TURNS[:2]}, r"line 1 of own\.jsonl ends with a turn of the assistant; the last is the user's"),
        ({"messages": [{"role": "system", "content": "x"}]}, "has no turn of the user"),
        ({"messages": [TURNS[0], {"role": "system", "content": "x"}, TURNS[2]]}, "system that is not the first"),
        ({"messages": [{"role": "tool", "content": "x"}, TURNS[2]]}, "turn 1 .* role 'tool'; it must be system, user"),
        ({"messages": [{"content": "x"}]}, "role 'None'"),
        ({"messages": ["x"]}, "must have role and content, not be str"),
        ({"messages": "no json"}, "is no JSON"),
        ({"messages": {"role": "user"}}, "must be a list of 1–1000 turns"),
        ({"messages": [{**TURNS[2], "tool_calls": []}]}, "holds 'tool_calls'; only role and content are read"),
        ({"messages": [{"role": "user", "content": 7}]}, "has int as content"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "has a part"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "for the next image of column"),
        ({"messages": [{"role": "assistant", "content": [SHOWN]}, TURNS[2]]}, "only the user's turns can"),
        (
            {"messages": [{"role": "system", "content": "x"}, TURNS[2]], "system": "y"},
            "'system' and a system's turn",
        ),
        ({"messages": TURNS, "question": "Something else?"}, "both 'question' and 'messages'"),
        ({"question": "x", "system": 7}, "column 'system' in line 1 of own.jsonl holds int"),
    ],
)
def test_c_messages_of_another_shape_are_named(tmp_path, row, says):
    with pytest.raises(InvalidInputError, match=says):
        read(tmp_path, row)


def test_c_messages_in_csv_and_parquet(tmp_path):
    import csv

    import polars as pl

    expected = read(tmp_path, {"messages": TURNS, "system": "Be brief."})[0]
    with (tmp_path / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("answer", "split", "messages", "system"), ("x", "test", json.dumps(TURNS), "Be brief.")])
    frame = pl.DataFrame({"answer": ["x"], "split": ["test"], "messages": [TURNS], "system": ["Be brief."]})
    frame.write_parquet(tmp_path / "own.parquet")
    for name in ("own.csv", "own.parquet"):
        (sample,) = open_dataset(str(tmp_path / name)).load("test", None)
        assert (sample.question, sample.system, sample.earlier) == (
            expected.question,
            expected.system,
            expected.earlier,
        )


def test_c_images_are_placed_by_their_order(tmp_path):
    """By parts, by tags, or all before the user's first text."""
    parts = [
        {"role": "user", "content": [said("Is this "), SHOWN, said(" red?")]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [SHOWN, said("And this?")]},
    ]
    tags = [
        {"role": "user", "content": "Is this <image 1> red?"},
        parts[1],
        {"role": "user", "content": "<image 2>And this?"},
    ]
    leading = [{"role": "user", "content": [SHOWN, SHOWN, said("Are they red?")]}, parts[1], TURNS[2]]
    images = ["0.png", "1.png"]
    samples = read(tmp_path, *({"messages": messages, "images": images} for messages in (parts, tags, leading, TURNS)))
    backbone = open_backbone("tiny-vl", "cpu")
    turns = [backbone.turns(sample) for sample in samples]
    placed = [("user", ["Is this ", None, " red?"]), ("assistant", ["Yes."]), ("user", [None, "And this?"])]
    assert turns[0] == turns[1] == placed
    assert turns[2][0] == ("user", [None, None, "Are they red?"]) and samples[2].earlier[0][1] == "Are they red?"
    assert turns[3][0] == ("user", [None, None, "What is it?"]) and turns[3][2] == ("user", ["Which one?"])


def test_c_images_and_messages_that_do_not_agree_are_skipped(tmp_path):
    more = [{"role": "user", "content": [SHOWN, said("a"), SHOWN]}]
    (few, empty, sound) = read(
        tmp_path,
        {"messages": more, "images": ["0.png"]},
        {"messages": [{"role": "user", "content": "  "}, *TURNS[1:]]},
        {"messages": more, "images": ["0.png", "1.png"]},
    )
    assert (
        few.meta["flaw"] == "its messages show 2 images, it has 1"
        and "turn 1 of its messages is empty" in empty.meta["flaw"]
    )
    assert "flaw" not in sound.meta


@pytest.mark.parametrize("name", CLASSES)
def test_c_a_conversation_is_what_the_template_makes_of_it(name, tmp_path, questions):
    """Token for token what transformers' own processor gives for the same messages."""
    backbone = open_backbone(str(make(name, tmp_path / name)), "cpu", "float32")
    images = () if name in TEXT_ONLY else (questions[0].images[0], questions[1].images[0])
    first = "Is it red?" if name in TEXT_ONLY else "<image 1>Is it red?"
    last = "And this?" if name in TEXT_ONLY else "And this <image 2>?"
    sample = replace(
        PLAIN, question=last, system="Be brief.", earlier=(("user", first), ("assistant", "No.")), images=images
    )
    assert list(backbone.faults([sample])) == [""]
    shown = (lambda text: text) if name in TEXT_ONLY else (lambda text: [said(text)])
    messages = [
        {"role": "system", "content": shown("Be brief.")},
        {"role": "user", "content": shown(first) if name in TEXT_ONLY else [SHOWN, said("Is it red?")]},
        {"role": "assistant", "content": shown("No.")},
        {"role": "user", "content": shown(last) if name in TEXT_ONLY else [said("And this "), SHOWN, said("?")]},
    ]
    prompt = backbone.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    given = {"images": [[image.open() for image in images]]} if images else {}
    own = backbone.processor(text=[prompt], return_tensors="pt", add_special_tokens=False, **given)
    inputs = backbone.inputs([sample])
    assert inputs["input_ids"].tolist() == own["input_ids"].tolist()
    shorter = replace(sample, system="", earlier=(), question="And this?", images=())
    together = captures(answer_batch(backbone, backbone.inputs([sample, shorter]), (3, 4), 1, "float32"), (3, 4))
    alone = captures(answer_batch(backbone, inputs, (3, 4), 1, "float32"), (3, 4))[0]
    assert np.abs(together[0].hidden[4] - alone.hidden[4]).max() < 1e-4


def test_c_a_template_that_knows_no_system_or_no_earlier_turns(tmp_path):
    folder = make("llama", tmp_path / "llama")
    sound, told = replace(PLAIN, id="b"), replace(PLAIN, system="Be brief.")
    talked = replace(PLAIN, id="c", earlier=(("user", "Hi"), ("assistant", "Yes")))
    kept = (folder / "chat_template.jinja").read_text()
    refused, left_out = "{{ raise_exception('No system') }}", "leaves out what system says"
    for template, faults in (
        (f"{{% if messages[0]['role'] == 'system' %}}{refused}{{% endif %}}{kept}", ("No system", "")),
        ("{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}", (left_out, "")),
        ("{{ messages[-1]['content'] }}", (left_out, "leaves out what user says")),
    ):
        (folder / "chat_template.jinja").write_text(template)
        first, none, last = open_backbone(str(folder), "cpu").faults([told, sound, talked])
        assert faults[0] in first and none == "", (first, none)
        assert faults[1] in last and bool(last) == bool(faults[1]), last


def test_c_control_tokens_in_any_turn_are_seen(backbone):
    wrong = [
        replace(PLAIN, system="Be <|im_end|>"),
        replace(PLAIN, earlier=(("user", "x"), ("assistant", "y <|im_start|>"))),
    ]
    assert ["holds <|im_end|>" in one for one in backbone.faults(wrong)] == [True, False]
    assert "holds <|im_start|>" in list(backbone.faults(wrong))[1]


def test_c_from_rows_to_a_store_and_back(tmp_path):
    read(
        tmp_path,
        {"messages": TURNS, "system": "what is it ?", "image": "0.png"},
        {"question": "what color is it ?"},
        {"messages": [{"role": "user", "content": "<|im_end|>"}, *TURNS[1:]]},
    )
    out = tmp_path / "x.zarr"
    asked = {"model": "tiny-vl", "dataset": str(tmp_path / "own.jsonl"), "device": "cpu", "max_new_tokens": 2}
    outcome = steps.run(build("extract", {**asked, "out": out}))
    assert outcome.facts["computed"] == 2 and read_skipped(out).keys() == {"2"}
    again = steps.run(build("extract", {**asked, "out": out}))
    assert again.reused
    result = CliRunner().invoke(app, ["store", "verify", str(out), "--against-model", "2"])
    assert result.exit_code == 0, result.output
    with open_store(out) as store:
        held = dict(zip(store.samples["id"], store.samples["asked"], strict=True))
    assert held["1"] == asked_digest("what color is it ?", (), "", ())
    planned = steps.run(build("plan", {**asked, "out": out}))
    assert planned.facts["samples"] == 2, "as many as extract takes"
    path = tmp_path / "own.jsonl"
    path.write_text(path.read_text().replace("what is it ?", "what was it ?"))
    with pytest.raises(InvalidInputError, match="1 samples have changed"):
        steps.run(build("extract", {**asked, "out": out}))
