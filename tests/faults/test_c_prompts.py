"""C: a question in one's own words, a frame for a base model, and texts that end an answer; all keyed."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import CLASSES, TEXT_ONLY, make
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, StoreError, UnsupportedError
from relope.extract.data import prompts
from relope.extract.data.templates import PLAIN, PromptTemplate, chat_template, open_prompt
from relope.extract.data.turns import prompt_text
from relope.extract.model.backbone import open_backbone, open_skeleton
from relope.extract.model.capture import Tap
from relope.extract.model.continuation import Extras
from relope.extract.model.generate import answer_batch, captures, extra_columns, generations
from relope.extract.model.stops import Stops, cut_at, read_stops
from relope.spec import build
from relope.store import open_store
from relope.types import Sample

ASKED = Sample("a", "d", "test", "Which is it?", ("B",), choices=("cat", "dog"), hint="It barks.")
THE_PAPERS = """{% if hint %}
Hint: {{ hint }}
{% endif %}
Question: {{ question }}
Options:
{{ options }}
{{ instruction }} 
"""


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def extract(out, data, **more):
    given = {"model": "tiny-vl", "dataset": str(data), "device": "cpu", "max_new_tokens": 2, "out": out}
    return steps.run(build("extract", {**given, **more}))


@pytest.fixture
def data(tmp_path):
    """Six questions without images, two with choices."""
    rows = [
        {"id": f"q{n}", "split": "train", "question": f"what color is {n} ?", "answer": "red", "hint": "look" * (n % 2)}
        for n in range(4)
    ]
    rows += [
        {"id": f"c{n}", "split": "train", "question": "which ?", "answer": "A", "choices": ["red", "blue"]}
        for n in (1, 2)
    ]
    return written(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows)))


def prompts_in(store):
    """Return id → token ids of the prompts in a store."""
    with open_store(store) as opened:
        rows = np.arange(len(opened))
        tokens = opened.tokens(rows)
        return dict(zip(opened.samples["id"].to_list(), (table[:, 0].tolist() for table in tokens), strict=True))


# A prompt template


@pytest.mark.parametrize("sample", [ASKED, replace(ASKED, hint=""), replace(ASKED, instruction="Say a letter.")])
def test_c_the_papers_prompt_can_be_written_as_a_template(sample):
    worded = PromptTemplate(THE_PAPERS).worded(sample)
    usual = prompts.multiple_choice(sample.question, sample.choices, sample.hint, sample.instruction or prompts.SELECT)
    assert worded.prompt == usual.removesuffix("\n")


def test_c_every_placeholder():
    text = "{{ question }}|{{ choices | join('/') }}|{{ letters }}|{{ hint }}|{{ caption }}|{{ instruction }}"
    worded = PromptTemplate(text).worded(replace(ASKED, caption="A dog."))
    assert worded.prompt == f"Which is it?|cat/dog|['A', 'B']|It barks.|A dog.|{prompts.SELECT}"
    assert prompt_text(worded, text_only=True) == worded.prompt
    plain = PromptTemplate("{{ question }}").worded(replace(ASKED, caption="A dog.", choices=()))
    assert plain.prompt == "A dog.\nWhich is it?", "a caption that is not placed comes first, as ever"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{{ question }} {{ answer }}", NotFoundError, "unknown placeholder in p.txt 'answer'"),
        ("{{ qestion }}", NotFoundError, "did you mean 'question'"),
        ("Tell me. {question}", InvalidInputError, "never shows the question"),
        ("{{ question", InvalidInputError, "p.txt is no Jinja template"),
        ("{% for %}{{ question }}", InvalidInputError, r"\(line 1\)"),
        ("   \n", InvalidInputError, "is empty"),
        ("{{ question }}" + " " * 70_000, InvalidInputError, "at most 64 KiB"),
    ],
)
def test_c_a_template_that_asks_something_else_is_refused(tmp_path, text, kind, says):
    with pytest.raises(kind, match=says):
        open_prompt(written(tmp_path / "p.txt", text))


def test_c_a_template_that_cannot_be_read(tmp_path):
    with pytest.raises(NotFoundError, match="there is no prompt template at"):
        open_prompt(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="must be a file"):
        open_prompt(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe{{ question }}\xff")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        open_prompt(tmp_path / "b")


def test_c_a_template_runs_in_a_sandbox():
    worded = PromptTemplate("{{ question }}{{ question.__class__.__mro__ }}").worded(ASKED)
    assert "fails on it" in worded.meta["flaw"] and not worded.prompt
    worded = PromptTemplate("{{ question }}{{ choices.append('x') }}").worded(ASKED)
    assert "fails on it" in worded.meta["flaw"]


def test_c_a_template_keys_the_recipe_and_is_kept_in_the_store(tmp_path, data):
    words = "the object the object {{ question }} {% if choices %}\n{{ options }}{% endif %}"
    path = written(tmp_path / "p.txt", words)
    extract(tmp_path / "usual.zarr", data)
    extract(tmp_path / "own.zarr", data, prompt=path)
    usual, own = (open_store(tmp_path / f"{name}.zarr").manifest for name in ("usual", "own"))
    assert own.identity.differing(usual.identity) == ["prompt_template"]
    assert own.recorded["prompt_template"] == words and "prompt_template" not in usual.recorded
    before, after = prompts_in(tmp_path / "usual.zarr"), prompts_in(tmp_path / "own.zarr")
    decode = open_backbone("tiny-vl", "cpu").tokenizer.decode
    assert "the object the object what" in decode(after["q1"]) and "the object" not in decode(before["q1"])
    assert len(after["q1"]) == len(after["q0"]) and len(before["q1"]) > len(before["q0"]), "it leaves out the hint"
    written(path, words + " please")
    with pytest.raises(StoreError, match="prompt_template"):
        extract(tmp_path / "own.zarr", data, prompt=path)
    path.unlink()
    result = CliRunner().invoke(app, ["store", "verify", str(tmp_path / "own.zarr"), "--against-model", "6"])
    assert result.exit_code == 0, result.output


def test_c_options_that_a_template_leaves_out_are_refused(tmp_path, data):
    path = written(tmp_path / "p.txt", "{{ question }}")
    with pytest.raises(InvalidInputError, match="shows no options, but 2 of 6 samples have some"):
        extract(tmp_path / "x.zarr", data, prompt=path)


def test_c_samples_that_a_template_fails_on_are_named(tmp_path, data):
    path = written(tmp_path / "p.txt", "{{ question }} {{ choices[1] }}")
    outcome = extract(tmp_path / "x.zarr", data, prompt=path)
    assert {flaw["id"] for flaw in outcome.facts["skipped"]} == {"q0", "q1", "q2", "q3"}
    assert all("p.txt fails on it" in flaw["reason"] for flaw in outcome.facts["skipped"])


def test_c_control_tokens_in_a_template_are_seen(tmp_path, data):
    path = written(tmp_path / "p.txt", "{{ question }} {{ options }}<|im_end|>")
    with pytest.raises(InvalidInputError, match=r"6 of 6 samples cannot be used.*holds <\|im_end\|>"):
        extract(tmp_path / "x.zarr", data, prompt=path)


def test_c_images_stand_where_a_template_mentions_them(backbone, questions):
    worded = PromptTemplate("{{ question }} see <image 1> there {{ options }}").worded(questions[0])
    ((_, parts),) = backbone.turns(worded)
    assert parts[1] is None and parts[0].endswith(f"{questions[0].question} see ") and "there" in parts[2]


def test_c_plan_and_extract_read_the_same_prompts(tmp_path, data):
    path = written(tmp_path / "p.txt", "{{ question }} {{ options }} a b c d e f g h")
    planned = steps.run(
        build("plan", {"model": "tiny-vl", "dataset": str(data), "prompt": path, "out": tmp_path / "x"})
    )
    extract(tmp_path / "x.zarr", data, prompt=path)
    lengths = [len(ids) for ids in prompts_in(tmp_path / "x.zarr").values()]
    assert planned.facts["longest_seen"] == max(lengths)
    assert planned.facts["tokens_per_sample"] == pytest.approx(np.mean(lengths))


# A chat template


@pytest.fixture(scope="module", params=CLASSES)
def base(request, tmp_path_factory):
    """A checkpoint without a chat template, as base models are."""
    folder = make(request.param, tmp_path_factory.mktemp("base") / request.param)
    for name in ("tokenizer_config.json", "processor_config.json"):
        if (folder / name).is_file():
            held = json.loads((folder / name).read_text())
            held.pop("chat_template", None)
            (folder / name).write_text(json.dumps(held))
    for path in folder.glob("chat_template*"):
        path.unlink()
    return SimpleNamespace(name=request.param, folder=str(folder))


def test_c_a_base_model_is_asked_plainly(base, questions):
    with pytest.raises(UnsupportedError, match="has no chat template") as error:
        open_backbone(base.folder, "cpu")
    assert "--chat-template plain" in error.value.hint
    backbone = open_backbone(base.folder, "cpu", "float32", chat_template=chat_template("plain"))
    sample = replace(questions[0], images=() if base.name in TEXT_ONLY else questions[0].images)
    assert list(backbone.faults([sample])) == [""]
    inputs = backbone.inputs([sample])
    prompt = prompt_text(sample, False)
    said = backbone.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)
    assert said.strip().endswith(prompt.strip()) and "assistant" not in said
    kinds = captures(answer_batch(backbone, inputs, (3, 4), 2, "float32"), (3, 4))[0].tokens[:, 1]
    assert bool(kinds.any()) == bool(sample.images)
    skeleton = open_skeleton(base.folder, "cpu", "float32", chat_template("plain"))
    assert torch.equal(skeleton.inputs([sample])["input_ids"], inputs["input_ids"])


def test_c_a_chat_template_keys_the_recipe_and_is_kept_in_the_store(tmp_path, data):
    own = "{% for m in messages %}ask : {{ m['content'] }} {% endfor %} reply :"
    path = written(tmp_path / "own.jinja", own)
    extract(tmp_path / "usual.zarr", data)
    extract(tmp_path / "own.zarr", data, chat_template=str(path))
    extract(tmp_path / "plain.zarr", data, chat_template="plain")
    usual, mine, plain = (open_store(tmp_path / f"{name}.zarr").manifest for name in ("usual", "own", "plain"))
    assert mine.identity.differing(usual.identity) == plain.identity.differing(usual.identity) == ["chat_template"]
    assert mine.recipe_id != plain.recipe_id
    assert (mine.recorded["chat_template"], plain.recorded["chat_template"]) == (own, PLAIN)
    path.unlink()
    for name in ("own", "plain"):
        result = CliRunner().invoke(app, ["store", "verify", str(tmp_path / f"{name}.zarr"), "--against-model", "6"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{text}", "shows no messages"),
        ("{% for m in messages %}{{ m['content'] }}", "is no Jinja template"),
        ("", "is empty"),
    ],
)
def test_c_a_chat_template_that_is_none_is_refused(tmp_path, text, says):
    with pytest.raises(InvalidInputError, match=says):
        chat_template(str(written(tmp_path / "t.jinja", text)))
    with pytest.raises(NotFoundError, match="there is no chat template at"):
        chat_template(str(tmp_path / "none.jinja"))


def test_c_a_chat_template_that_drops_or_refuses_the_question(tmp_path, data):
    dropping = written(tmp_path / "d.jinja", "{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(InvalidInputError, match="leaves out what user says"):
        extract(tmp_path / "x.zarr", data, chat_template=str(dropping))
    refusing = written(tmp_path / "r.jinja", "{{ messages }}{{ raise_exception('Only systems may speak') }}")
    with pytest.raises(InvalidInputError, match="Only systems may speak"):
        extract(tmp_path / "x.zarr", data, chat_template=str(refusing))
    assert not (tmp_path / "x.zarr").exists()


def test_c_tags_of_generated_tokens_are_no_error(tmp_path):
    text = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    assert chat_template(str(written(tmp_path / "t.jinja", text))) == text


# Texts that end an answer


def test_c_stop_texts_are_read_once_and_in_one_order():
    assert read_stops(["b", r"\n\n", "a", "b", r"C:\\n"]) == ("\n\n", "C:\\n", "a", "b")
    for wrong in ([""], ["x" * 300], ["x"] * 17):
        with pytest.raises(InvalidInputError, match="stop text"):
            read_stops(wrong)


def test_c_an_answer_ends_before_the_first_stop_text():
    assert cut_at("one. two, three", (",", ".")) == "one" and cut_at("one", (",",)) == "one"
    words = {1: "The", 2: " cat", 3: ".\n", 4: "Quest", 5: "ion: x"}
    stops = Stops(("\n", "Question:"), lambda ids: "".join(words[number] for number in ids))
    assert [stops.ended(ids) for ids in ([], [1], [1, 2])] == [None, None, None]
    assert stops.ended([1, 2, 3]) == (3, "The cat."), "a token that begins before the stop text belongs to the answer"
    across = Stops(("Question:",), stops.decode)
    assert across.ended([1, 2, 4]) is None and across.ended([1, 2, 4, 5]) == (2, "The cat")
    within = Stops(("\nQuestion:",), stops.decode)
    assert within.ended([1, 2, 3, 4, 5]) == (3, "The cat."), "the text is cut within a token that belongs to it"
    assert Stops(("The",), stops.decode).ended([1]) == (0, "")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = make("llama", tmp_path_factory.mktemp("stops") / "llama", blocks=4)
    return open_backbone(str(folder), "cpu", "float32")


SAMPLES = [Sample(f"s{n}", "d", "test", "What is it? " + "word " * n, ("x",)) for n in (1, 5, 2, 9)]


def answered(backbone, stops=(), extras=None, n=12):
    ids = [sample.id for sample in SAMPLES]
    return answer_batch(backbone, backbone.inputs(SAMPLES), (2, 3), n, "float32", extras, ids, stops)


def test_c_a_stopped_answer_is_the_free_one_cut(llama):
    """Tokens, log-probs and the mean state are those of the answer's own tokens; the other rows go on."""
    free = answered(llama)
    said = generations(free, llama.decode)
    first = next(one for one in said if len(one.text) > 6)
    stop = first.text[3:6]
    cut = answered(llama, (stop,))
    finals, hook = [], llama.decoder.norm.register_forward_hook(lambda m, a, out: finals.append(out[:, -1].float()))
    answered(llama)
    hook.remove()
    states = captures(cut, (2, 3))
    n_cut = 0
    for row, (whole, short) in enumerate(zip(said, generations(cut, llama.decode), strict=True)):
        n = len(short.token_ids)
        assert short.token_ids == whole.token_ids[:n] and short.logprobs == pytest.approx(whole.logprobs[:n])
        raw = llama.decode(whole.token_ids)
        assert short.text == cut_at(raw, (stop,)).strip()
        if stop in raw:
            n_cut += 1
            assert short.finish_reason == "stop" and len(llama.decode(whole.token_ids[: max(n - 1, 0)])) <= raw.index(
                stop
            )
        else:
            assert short == whole
        mean = torch.stack([final[row] for final in finals[:n]]).mean(0) if n else torch.zeros(64)
        assert np.abs(states[row].answer - mean.numpy()).max() < 1e-5
    assert 0 < n_cut < len(SAMPLES), "one row at least must stop and one go on"
    for one, two in zip(captures(free, (2, 3)), states, strict=True):
        assert np.array_equal(one.hidden[3], two.hidden[3])


def test_c_generation_ends_with_the_last_row(llama):
    """A stop text that all answers hold saves what comes after it."""
    letters = {character for one in generations(answered(llama), llama.decode) for character in one.text[:4]}
    steps_run = []

    class Counting(Tap):
        def __call__(self, *args, **kwargs):
            steps_run.append(1)
            return super().__call__(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relope.extract.model.generate.Tap", Counting)
        answered(llama, tuple(sorted(letters))[:16], n=40)
    assert len(steps_run) < 40


def test_c_sampled_answers_end_too(llama):
    extras = Extras(samples=2, trace_tokens=8, p_true=True)
    free, cut = (extra_columns(answered(llama, stops, extras), llama.decode) for stops in ((), ("e", "o", "a")))
    texts = [text for columns in free for text in columns["traces_chain"]]
    assert any(set("eoa") & set(text) for text in texts)
    for columns, ended in zip(free, cut, strict=True):
        for style in ("traces_direct", "traces_chain"):
            assert ended[style] == [cut_at(text, ("e", "o", "a")).strip() for text in columns[style]]


def test_c_stop_texts_key_the_recipe(tmp_path, data):
    out = tmp_path / "x.zarr"
    flags = ["--model", "tiny-vl", "--dataset", str(data), "--device", "cpu", "--max-new-tokens", "2"]
    result = CliRunner().invoke(app, ["extract", *flags, "--stop", r"\n", "--stop", "a, b", "--out", str(out)])
    assert result.exit_code == 0, result.output
    with open_store(out) as store:
        assert store.manifest.identity.generation["stop"] == ["\n", "a, b"]
    extract(tmp_path / "usual.zarr", data)
    assert "stop" not in open_store(tmp_path / "usual.zarr").manifest.identity.generation
    assert build("extract", {"model": "m", "dataset": "tiny", "stop": "a, b"}).stop == ("a, b",)
    with pytest.raises(InvalidInputError, match="nothing to stop"):
        extract(tmp_path / "y.zarr", data, max_new_tokens=0, stop=["x"])
