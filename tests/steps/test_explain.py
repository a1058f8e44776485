"""Attention weights of a sample: every token once, summing to 1, each patch where it is in the image."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.pages.attention import Patches, Picture, Word, render_attention, scale
from relope.spec import ExplainSpec, FitSpec
from relope.steps import explain as explaining
from relope.steps.prompt_parts import patches_of, words_of
from relope.store import ActivationStore


@pytest.fixture(scope="module")
def router(store_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("routers") / "attention-probe"
    asked = {"epochs": 3, "lr": 0.01}
    steps.run(FitSpec(method="attention-probe", store=store_path, out=out, set=asked, device="cpu"))
    return out


@pytest.fixture(scope="module")
def sample(store_path):
    from relope.store import ActivationStore

    return ActivationStore.open(store_path).samples.filter(split="test")["id"][3]


@pytest.fixture(scope="module")
def facts(router, store_path, sample, tmp_path_factory):
    out = tmp_path_factory.mktemp("explained")
    return steps.run(ExplainSpec(router=router, store=store_path, sample=sample, out=out)).facts, out


def test_every_token_is_there_once_with_its_weight(facts, store, sample, router):
    from relope.probes.methods.attention_probe import Method

    tokens = facts[0]["tokens"]
    row = store.samples.filter(id=sample)["row"][0]
    assert [entry["token"] for entry in tokens] == list(range(len(store.tokens([row])[0])))
    assert sum(entry["weight"] for entry in tokens) == pytest.approx(1, abs=1e-5)
    probe = Method.load(router)
    states = next(store.batches(3, [row], size=1)).values.astype(np.float64)
    query = (probe.net_.query * probe.net_.standardize.scale).detach().numpy().astype(np.float64)
    scores = states @ query / len(query) ** 0.5
    expected = np.exp(scores - scores.max())
    assert np.allclose([entry["weight"] for entry in tokens], expected / expected.sum(), atol=1e-5)


def test_patches_have_the_rows_and_columns_of_the_image(facts, store, sample):
    patches = [entry for entry in facts[0]["tokens"] if entry["kind"] == "image"]
    tokens = store.tokens(store.samples.filter(id=sample)["row"].to_list())[0]
    columns = store.manifest.token_columns
    high, wide = (tokens[:, columns.index(f"position_{axis}")] for axis in (2, 3))
    start = patches[0]["token"]
    assert len(patches) == 16
    for entry in patches:
        assert entry["row"] == high[entry["token"]] - high[start]
        assert entry["column"] == wide[entry["token"]] - wide[start]


def test_the_words_are_those_of_the_question(facts, store, sample):
    text = "".join(entry["text"] + " " for entry in facts[0]["tokens"] if entry["kind"] == "text")
    question = store.samples.filter(id=sample)["question"][0]
    assert all(word in text.split() for word in question.split())


def test_the_page_is_written_and_fetches_nothing(facts):
    told, out = facts
    assert sorted(path.name for path in out.iterdir()) == ["attention.html", "weights.json"]
    text = (out / "attention.html").read_text()
    assert text.count("<i title=") == 16 and text.count("data:image/webp;base64,") == 1
    assert "http" not in text and "<script" not in text
    assert json.loads((out / "weights.json").read_text()) == told


def test_the_command_prints_json(router, store_path, sample, tmp_path):
    command = ["explain", "--router", router, "--store", store_path, "--sample", sample, "--out", tmp_path, "--json"]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0 and len(json.loads(result.stdout)["tokens"]) > 20


def test_other_methods_and_samples_are_refused(router, store_path, sample, tmp_path):
    steps.run(FitSpec(method="probe", store=store_path, out=tmp_path / "probe", set={"epochs": 1}, device="cpu"))
    with pytest.raises(InvalidInputError, match=r"probe weighs no tokens.*can be: attention-probe"):
        steps.run(ExplainSpec(router=tmp_path / "probe", store=store_path, sample=sample))
    with pytest.raises(NotFoundError, match="has no sample 'nobody' among its 240 samples"):
        steps.run(ExplainSpec(router=router, store=store_path, sample="nobody"))


def test_without_model_and_data_the_weights_are_still_shown(router, store_path, sample, tmp_path, monkeypatch):
    monkeypatch.setattr(explaining, "_decode", lambda store: None)
    monkeypatch.setattr(
        explaining, "recorded_samples", lambda *asked, **how: (_ for _ in ()).throw(NotFoundError("no <data> here"))
    )
    outcome = steps.run(ExplainSpec(router=router, store=store_path, sample=sample, out=tmp_path))
    assert sum(entry["weight"] for entry in outcome.facts["tokens"]) == pytest.approx(1, abs=1e-5)
    page = outcome.path.read_text()
    assert "is a thumbnail that the store keeps: no &lt;data&gt; here" in page and "data:image/" in page
    monkeypatch.setattr(ActivationStore, "thumbnail", lambda *row: None)
    page = steps.run(ExplainSpec(router=router, store=store_path, sample=sample, out=tmp_path)).path.read_text()
    assert "not shown: no &lt;data&gt; here" in page and "data:image/" not in page


def tokens(kind, **columns):
    kind = np.array(kind)
    return {"kind": kind, "id": np.arange(len(kind)), **{key: np.array(value) for key, value in columns.items()}}


@pytest.mark.parametrize(
    ("given", "grids"),
    [
        (tokens([0, *[1] * 9, 0, *[1] * 4]), [(3, 3, True), (2, 2, True)]),
        (tokens([1] * 6, position_2=[5, 5, 5, 6, 6, 6], position_3=[5, 6, 7, 5, 6, 7]), [(2, 3, True)]),
        (tokens([1] * 7), [(3, 3, False)]),
        (tokens([0, 0]), []),
    ],
)
def test_grids(given, grids):
    patches = patches_of(given, np.ones(len(given["kind"]), np.float32))
    assert [(grid.rows, grid.columns, grid.known) for grid in patches] == grids


def test_words_join_tokens_that_spell_one_word_or_one_letter():
    pieces = {0: b"Wh", 1: b"at", 2: b" is", 3: b" \xe2\x82", 4: b"\xac", 5: b"?"}

    def decode(ids):
        return b"".join(pieces[number] for number in ids).decode(errors="replace")

    words = words_of(tokens([0] * 6), np.arange(6) / 15, decode)
    assert [(word.text, word.indices) for word in words] == [("What", [0, 1]), (" is", [2]), (" €", [3, 4]), ("?", [5])]
    assert words[0].weight == pytest.approx(1 / 15)


def test_text_on_two_sides_of_an_image_is_not_one_word():
    words = words_of(tokens([0, 1, 0]), np.ones(3), lambda ids: "a" * len(ids))
    assert [(word.text, word.indices) for word in words] == [("a", [0]), ("a", [2])]
    numbers = words_of(tokens([0, 0]), np.ones(2), None)
    assert [word.text for word in numbers] == ["⟨0⟩", "⟨1⟩"]


def test_ink_is_light_where_weights_are_even_and_full_at_the_largest():
    even = (
        [Patches(list(range(8)), np.full(8, 0.1, np.float32), 4, True)],
        [Word("a", [8], [0.1]), Word("b", [9], [0.1])],
    )
    assert scale(*even) == pytest.approx(0.4)
    peaked = [Patches([0, 1, 2, 3], np.full(4, 0.0125, np.float32), 2, True)], [Word("a", [4], [0.95])]
    assert scale(*peaked) == pytest.approx(0.95)
    shown = render_attention("t", "<b>", ["<note>"], [None], *peaked)
    assert "rgb(213 94 0 / 0.850)" in shown and "&lt;b&gt;" in shown and "&lt;note&gt;" in shown


@pytest.mark.parametrize(("known", "called"), [(True, "row 2, column 3"), (False, "token 6 in reading order")])
def test_a_dark_patch_is_where_its_weight_is(known, called):
    """All weight on the last of two rows of three patches: ink there and nowhere else."""
    weights = np.zeros(6, np.float32)
    weights[5] = 1
    shown = [Picture("data:image/webp;base64,", 3, 2)]
    page = render_attention("t", "a", [], shown, [Patches(list(range(6)), weights, 3, known)], [])
    cells = re.findall(r'<i title="([^"]*)" style="background: rgb\(213 94 0 / ([\d.]+)\)">', page)
    assert [float(ink) for _, ink in cells] == [0, 0, 0, 0, 0, 0.85]
    assert cells[5][0] == f"{called}: 100.00%" and "repeat(2, 1fr) / repeat(3, 1fr)" in page
