"""The second testbed asks what it means to, and its shortcuts compute what the library and the package compute."""

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import premise
import premise_fits
import premise_tables
import pytest
import torch
from premise_ask import by_kind, put, questions
from premise_fits import JOBS, ORDERS, TrainSettings, aucs, fit, jobs_for, shown_at
from premise_model import Size, build_model, build_processor, decode, image_features
from premise_nets import OnBlock, OnTokens
from premise_paint import draw_look, draw_shift, paint, pictures
from premise_rows import IMAGE, LENGTHS, PAD, begin_of, build_batch, layout, left_aligned, seen_by
from premise_scenes import ANSWERS, COLORS, KINDS, MARGIN, MOST, SHAPES, SIDE, ask, draw_scenes, wording
from premise_states import States
from sklearn.metrics import roc_auc_score

from relope.probes.lora import attach
from relope.probes.methods.attention_probe import Net

SMALL = Size(32, 4, 2, 48, 32, 2, 2, 48)


@pytest.fixture(scope="module")
def model():
    return build_model(0, SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(300, torch.Generator().manual_seed(1))


def there(scenes, image):
    """Return the objects of an image, as plain numbers."""
    names = "x", "y", "size", "color", "shape"
    return [
        {"at": at, **{name: getattr(scenes, name)[image, at].item() for name in names}}
        for at in range(MOST)
        if scenes.there[image, at]
    ]


def extreme(objects, superlative, attribute, value):
    """Return the one object of a class that is largest (0) or smallest (1)."""
    among = sorted((o for o in objects if o[attribute] == value), key=lambda o: o["size"] * (1, -1)[superlative])
    assert len(among) > 1 and among[-1]["size"] != among[-2]["size"]
    return among[-1]


def on_side(side, one):
    """Return whether an object is left (0), right, above or below the middle."""
    gap = (-1, 1, -1, 1)[side] * (one["xxyy"[side]] - SIDE / 2)
    assert abs(gap) > MARGIN
    return gap > 0


def answered(kind, words, objects):
    """Return the answer that a person would give."""
    if kind == "count":
        return str(sum(words[0] in (o["color"], len(COLORS) + o["shape"]) for o in objects))
    if kind == "count-in":
        return str(sum(on_side(words[1], o) for o in objects if o["color"] == words[0]))
    one = extreme(objects, words[0], "color" if kind == "shape-of" else "shape", words[1])
    if kind == "place-of":
        return ("bottom" if on_side(3, one) else "top") + ("-right" if on_side(1, one) else "-left")
    return COLORS[one["color"]] if kind == "color-of" else SHAPES[one["shape"]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_what_a_person_would_say(scenes, kind):
    asked = ask(scenes, kind, torch.Generator().manual_seed(2))
    assert asked.asked.float().mean() > 0.8
    for image in torch.nonzero(asked.asked)[:, 0].tolist():
        said = answered(kind, asked.words[image].tolist(), there(scenes, image))
        assert ANSWERS[kind][asked.answer[image]] == said
    assert len(set(asked.answer[asked.asked].tolist())) == len(ANSWERS[kind]), "no answer is left out"


def test_the_words_of_a_question():
    assert wording("count-in", [0, 0]) == "how many red things are on the left"


def test_objects_do_not_touch(scenes):
    gap = torch.hypot(scenes.x[:, :, None] - scenes.x[:, None], scenes.y[:, :, None] - scenes.y[:, None])
    touching = gap < scenes.radius[:, :, None] + scenes.radius[:, None]
    assert not (touching & ~torch.eye(MOST, dtype=torch.bool)).any()


def test_a_picture_is_the_same_alone_and_among_others(scenes):
    generator = torch.Generator().manual_seed(3)
    few = scenes.take(torch.arange(4))
    look = draw_look(few, draw_shift(4, 1.5, generator), generator)
    together = pictures(few, look, "cpu")
    alone = pictures(few, look, "cpu", at_once=1)
    assert (together.int() - alone.int()).abs().max() <= 1
    clean = draw_look(few, torch.zeros(4, 8), torch.Generator().manual_seed(4))
    assert torch.equal(paint(few, clean), paint(few, clean, shifted=False))


def test_a_shorter_split_is_the_beginning_of_a_longer_one():
    short, long = questions("a", 20, 1.0, 1.0), questions("a", 520, 1.0, 1.0)
    assert short.text == long.text[:20] and torch.equal(short.prompts["text"], long.prompts["text"][:20])
    assert short.text != questions("b", 20, 1.0, 1.0).text


def test_the_decoder_is_the_library_s(model):
    asked = questions("a", 4, 1.0, 1.0)
    shown = paint(asked.scenes, asked.look)
    for order in ("image-first", "image-last"):
        ids = asked.prompts[order]
        embedded = model.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == IMAGE)[..., None], image_features(model, shown))
        states = decode(model, embedded, torch.arange(ids.shape[1]), seen_by(ids))
        scaled = shown.permute(0, 3, 1, 2).float() / 127.5 - 1
        given = {"input_ids": ids, "pixel_values": scaled, "attention_mask": (ids != PAD).long()}
        library = model(**given, output_hidden_states=True).hidden_states
        for block in range(SMALL.blocks):
            torch.testing.assert_close(states[block][:, -1], library[block][:, -1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(states[-1][:, -1], library[-1][:, -1], rtol=1e-4, atol=1e-4)


def test_prompts_are_the_processor_s(model):
    asked, processor = questions("a", 10, 0.0, 0.0), build_processor()
    shown = paint(asked.scenes, asked.look).numpy()
    for row in range(10):
        for order in ("image-first", "image-last"):
            content = [{"type": "image"}, {"type": "text", "text": asked.text[row]}]
            turn = {"role": "user", "content": content if order == "image-first" else content[::-1]}
            text = processor.apply_chat_template([turn], add_generation_prompt=True)
            ids = asked.prompts[order][row]
            assert processor(images=[shown[row]], text=[text])["input_ids"][0] == ids[ids != PAD].tolist()


def test_a_tail_reads_what_the_whole_prompt_reads(model):
    batch = build_batch(0, 0, 6, 3)
    features = image_features(model, paint(batch.scenes, batch.look, shifted=False))
    begin, embed = begin_of(torch.device("cpu")).expand(6, -1), model.get_input_embeddings()
    plan = layout(2 + features.shape[1], torch.device("cpu"))
    embedded = torch.cat([embed(begin), features, embed(batch.tails)], 1)
    tails = decode(model, embedded, plan.positions, plan.mask)[-1][:, plan.answers]
    words = batch.tails[:, 10 + 11 : 10 + 11 + 10]  # the third tail without its answer
    image = torch.full((6, features.shape[1]), IMAGE)
    ids = left_aligned(torch.cat([begin, image, words], 1), LENGTHS["image-first"])
    whole = embed(ids).masked_scatter((ids == IMAGE)[..., None], features)
    alone = decode(model, whole, torch.arange(ids.shape[1]), seen_by(ids))[-1][:, -1]
    torch.testing.assert_close(tails[:, 2], alone, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def shown(model):
    asked = questions("a", 60, 1.0, 1.0)
    replies = put(model, asked, "text", last=(2,), tokens=(1,))
    state = replies.last[2][:, 0]
    return shown_at(2, model, asked, "text", replace(replies, correct=state > state.median()))


def test_block_l_is_the_package_s_with_lora_and_without(shown):
    net = OnBlock(shown, 0, lora=True).eval()
    hidden = shown.tokens.float()
    torch.testing.assert_close(net._last(hidden, shown.seen), shown.last, rtol=2e-2, atol=2e-2)  # tokens are float16
    for adapter in net.learned.adapters.values():
        torch.nn.init.normal_(adapter.up, std=0.1)
    adapted = attach(shown.block, net.learned.named_adapters()).eval()
    order = torch.ones(2 * (hidden.shape[1],)).tril().bool()
    mask = torch.where(shown.seen[:, None, None] & order | torch.eye(len(order)).bool(), 0.0, -1e30)
    rotary = tuple(part[None] for part in shown.rotary)
    whole = adapted(hidden, attention_mask=mask, position_embeddings=rotary)
    torch.testing.assert_close(net._last(hidden, shown.seen), whole[:, -1], rtol=1e-4, atol=1e-4)


def test_pooling_is_the_package_s(shown):
    ours, theirs = OnTokens(SMALL.width, 0), Net(SMALL.width)
    torch.nn.init.normal_(ours.query)
    theirs.load_state_dict(ours.state_dict())
    ragged, bounds = shown.tokens[shown.seen].float(), [0, *shown.seen.sum(1).cumsum(0).tolist()]
    torch.testing.assert_close(ours(shown.tokens, shown.seen)[0], theirs(ragged, bounds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.method} {job.variant}")
def test_every_method_fits(shown, job):
    if job.pool == "image":
        pytest.skip("a description has no image tokens")
    settings = TrainSettings(epochs=2, batch=16, patience=1)
    for fitted in fit(job, [shown, shown], [shown, shown], 40, 2, settings):
        assert fitted.scores.shape == (2, 60) and np.isfinite(fitted.scores).all()
        assert not np.array_equal(fitted.scores[0], fitted.scores[1])
        assert all(0 <= auc <= 1 for auc in fitted.inner) and all(1 <= epoch <= 2 for epoch in fitted.epochs)


def test_states_on_disk_are_what_is_asked_at_once(model, tmp_path):
    asked, orders = questions("a", 12, 1.0, 1.0), ("image-first", "text")
    States(tmp_path, "a", {"model": 1}).replies(model, asked.part(0, 5), orders, (1, 3))
    found = States(tmp_path, "a", {"model": 1}).replies(model, asked, orders, (1, 3))
    again = States(tmp_path, "a", {"model": 1}).replies(model, asked, orders, (1, 3))
    for order in orders:
        alone = put(model, asked, order, last=(1, 3), tokens=(0, 2))
        for replies in (found[order], again[order]):
            assert torch.equal(replies.correct, alone.correct)
            torch.testing.assert_close(replies.logprob, alone.logprob, rtol=1e-4, atol=1e-5)
            for block in (0, 2):
                torch.testing.assert_close(replies.tokens[block], alone.tokens[block], rtol=2e-3, atol=2e-3)
                torch.testing.assert_close(replies.last[block + 1], alone.last[block + 1], rtol=1e-4, atol=1e-5)


def test_states_of_another_model_are_asked_anew(model, tmp_path):
    asked = questions("a", 3, 1.0, 1.0)
    first = States(tmp_path, "a", {"model": 1}).replies(model, asked, ["text"], (1,))["text"].final.clone()
    other = build_model(1, SMALL).eval()
    second = States(tmp_path, "a", {"model": 2}).replies(other, asked, ["text"], (1,))["text"].final
    assert not torch.equal(first, second)


def run_fits(monkeypatch, model, folder, *more):
    record = {"accuracy": {"strength": 1.0, "smudge": 1.0}}
    monkeypatch.setattr(premise_fits, "opened", lambda *_: (model, record))
    monkeypatch.setattr(premise_fits, "digest_of", lambda _: "one")
    given = ["--model", "x", "--device", "cpu", "--out", str(folder), "--states", str(folder / "states")]
    monkeypatch.setattr(sys, "argv", ["premise_fits.py", *given, "--seeds", "2", *more])
    premise_fits.main()


def test_fits_go_on_where_they_were(monkeypatch, model, tmp_path, caplog):
    caplog.set_level("INFO")
    both, few = ["--order", "text", "image-last"], ["--train", "40", "--test", "24", "--sizes", "40"]
    run_fits(monkeypatch, model, tmp_path, *both, *few, "--fit", "probe", "--layers", "2")
    run_fits(monkeypatch, model, tmp_path, *both, *few, "--fit", "attention-probe pool=all")
    told = caplog.text
    run_fits(monkeypatch, model, tmp_path, *both, *few, "--fit", "probe", "--layers", "2")
    assert "text probe l=[2] n=40: " in told and caplog.text.count("l=[2] n=40: ") == told.count("l=[2] n=40: ")
    run_fits(monkeypatch, model, tmp_path, *both, *few, "--fit", "posthoc", "--seconds", "0")
    assert "left out: image-last posthoc l=[1] n=40" in caplog.text
    scores = pl.read_parquet(tmp_path / "image-last.scores.parquet")
    assert sorted(scores["method"].unique()) == ["attention-probe", "probe"] and len(scores) == 2 * (3 + 2)
    with pytest.raises(SystemExit, match="scores 24 test questions, not 20: pass --test 24"):
        run_fits(monkeypatch, model, tmp_path, *both, "--train", "40", "--test", "20", "--sizes", "40")
    run_fits(monkeypatch, model, tmp_path, *both, "--train", "10", "--test", "24", "--sizes", "40")
    assert len(pl.read_parquet(tmp_path / "text.answers.parquet")) == 64, "more was known"


def write_fits(folder, order, n_test, questions="q"):
    rng = np.random.default_rng(0)
    split = ["train"] * 30 + ["test"] * n_test
    n, words = len(split), [f"{questions} {row % 7}" for row in range(30 + n_test)]
    told = {"correct": rng.random(n) < 0.6, "logprob": -rng.random(n), "entropy": rng.random(n)}
    pl.DataFrame(
        {"split": split, "kind": [KINDS[row % 5] for row in range(n)], "question": words, **told}
    ).write_parquet(folder / f"{order}.answers.parquet")
    fitted = {"method": "probe", "variant": "", "layer": 2, "n": 30, "inner_auc": 0.5, "epochs": 1}
    rows = [{**fitted, "seed": seed, "scores": rng.random(n_test).tolist()} for seed in range(5)]
    pl.DataFrame(rows).write_parquet(folder / f"{order}.scores.parquet")


def test_descriptions_and_images_are_compared_on_the_questions_they_share(monkeypatch, tmp_path, capsys):
    write_fits(tmp_path, "text", 60)
    write_fits(tmp_path, "image-last", 40)
    monkeypatch.setattr(sys, "argv", ["premise_tables.py", str(tmp_path)])
    premise_tables.main()
    told = capsys.readouterr().out
    assert "60 test questions" in told and "40 test questions" in told and premise_tables.TEXT in told
    both = {order: premise_tables.Fits(tmp_path, order) for order in ("text", "image-last")}
    alike = premise_tables.shared(tmp_path, both)
    assert len(alike["text"].test) == 40 and alike["image-last"] is both["image-last"]
    (*_, found) = premise_tables.claims(both, alike)[premise_tables.TEXT][0]
    means = [
        np.mean([roc_auc_score(fits.correct, row[:40]) for row in fits.scores["scores"].to_list()])
        for fits in (alike["text"], alike["image-last"])
    ]
    assert found.value == pytest.approx(means[0] - means[1])
    write_fits(tmp_path, "image-first", 40, questions="others")
    with pytest.raises(SystemExit, match="other test questions"):
        premise_tables.main()


def test_aucs_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    correct, scores = rng.random((2, 50)) < 0.6, rng.random((2, 50))
    ours = aucs(torch.from_numpy(correct), torch.from_numpy(scores))
    assert ours.tolist() == pytest.approx([roc_auc_score(*pair) for pair in zip(correct, scores, strict=True)])


def test_a_step_trains_every_part():
    model = build_model(0, SMALL)
    heads = premise.Heads(SMALL.width)
    batch = build_batch(0, 0, 5, 5)
    for progress in (0.0, 0.5):
        loss, right = premise.loss_of(model, heads, batch, progress)
        loss.backward()
        assert torch.isfinite(loss) and (((right >= 0) & (right <= 1)) | right.isnan()).all()
    named = {**dict(model.named_parameters()), **dict(heads.named_parameters())}
    assert [name for name, p in named.items() if p.grad is None and "post_layernorm" not in name] == []


def test_a_testbed_that_missed_a_goal_is_named():
    good = {"all": 0.95}
    orders = ("image-first", "image-last")
    found = {f"{state} {order}": good for state in ("clean", "blanked", "shifted") for order in orders}
    met = premise.goals({**found, "blind guess": 0.4})
    assert met["clean image-first >= 0.90"] and not met["shifted image-last in 0.5..0.8"]
    assert not met["blanked image-last <= guess + 0.08"]


def test_text_is_fitted_with_what_it_has():
    assert {job.method for job in jobs_for("text", 1000)} == {"probe", "attention-probe"}
    assert len(jobs_for("image-last", 16000)) < len(jobs_for("image-last", 4000)) == len(JOBS)
    assert set(ORDERS) == {"image-first", "image-last", "text"}


def test_accuracy_by_kind():
    asked = questions("a", 50, 0.0, 0.0)
    shares = by_kind(asked, asked.kind == 0)
    assert shares["color-of"] == 1 and shares["count"] == 0
