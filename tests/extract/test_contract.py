"""Every class: what is captured equals an independent pass, and what is asked further equals asking it anew."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import CLASSES, TEXT_ONLY, make
from torch import nn

from relope.extract.data import prompts
from relope.extract.model.backbone import open_backbone
from relope.extract.model.continuation import Extras, draws
from relope.extract.model.generate import STYLES, answer_batch, captures, extra_columns, generations
from relope.types import Sample

LAYERS = (3, 4)
NO_HIDDEN_STATES = {
    "phi4-multimodal": "the class raises when asked for hidden states after an image",
    "qwen3-vl": "its hidden states lack what it adds between blocks",
}


@pytest.fixture(scope="module", params=CLASSES)
def case(request, tmp_path_factory, questions):
    """A class's tiny checkpoint and eight samples: images and plain text mixed, where it sees images."""
    folder = make(request.param, tmp_path_factory.mktemp("classes") / request.param)
    backbone = open_backbone(str(folder), "cpu", "float32")
    texts = [Sample(f"t{n}", "d", "test", "What is it? " + "word " * n, ("x",)) for n in (9, 0, 5, 2, 7, 3, 1, 12)]
    samples = texts if request.param in TEXT_ONLY else [*questions[:3], *texts[:3], *questions[3:5]]
    return SimpleNamespace(name=request.param, backbone=backbone, samples=samples)


def captured(backbone, samples, layers=LAYERS, tokens=3):
    return captures(answer_batch(backbone, backbone.inputs(samples), layers, tokens, "float32"), layers)


def truncated(backbone, sample, layer):
    """Run the model with blocks 1…layer alone and return what reaches the final norm."""
    decoder, blocks, seen = backbone.decoder, backbone.decoder.layers, []
    hook = decoder.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    decoder.layers = nn.ModuleList(list(blocks)[:layer])
    try:
        backbone.model.generate(**backbone.inputs([sample]), max_new_tokens=1, do_sample=False)
    finally:
        decoder.layers = blocks
        hook.remove()
    return seen[0][0]


def test_states_equal_a_truncated_pass_exactly(case):
    for sample in (case.samples[0], case.samples[-1]):
        (capture,) = captured(case.backbone, [sample])
        for layer in LAYERS:
            truth = truncated(case.backbone, sample, layer)
            assert torch.equal(torch.from_numpy(capture.hidden[layer]), truth), layer


@pytest.mark.parametrize("case", [name for name in CLASSES if name not in NO_HIDDEN_STATES], indirect=True)
def test_states_equal_hidden_states_where_they_can_be_asked_for(case):
    sample = case.samples[0]
    (capture,) = captured(case.backbone, [sample])
    out = case.backbone.model.generate(
        **case.backbone.inputs([sample]),
        max_new_tokens=1,
        do_sample=False,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    for layer in LAYERS:
        truth = out.hidden_states[0][layer][0]
        assert torch.equal(torch.from_numpy(capture.hidden[layer]), truth), layer


def test_rows_of_a_padded_mixed_batch_equal_themselves_alone(case):
    together = captured(case.backbone, case.samples)
    assert len({len(capture.tokens) for capture in together}) > 2, "the batch must be padded to mean anything"
    for sample, capture in zip(case.samples, together, strict=True):
        (alone,) = captured(case.backbone, [sample])
        assert np.array_equal(capture.tokens, alone.tokens)
        for layer in LAYERS:
            assert np.abs(capture.hidden[layer] - alone.hidden[layer]).max() <= 1e-5


@pytest.mark.parametrize("case", [name for name in CLASSES if name not in TEXT_ONLY], indirect=True)
def test_images_change_what_is_captured_and_are_marked(case):
    first, second = case.samples[:2]
    one, two = (captured(case.backbone, [s])[0] for s in (first, Sample(**{**vars(first), "images": second.images})))
    assert np.abs(one.hidden[4][-1] - two.hidden[4][-1]).max() > 1e-4
    kinds = one.tokens[:, 1]
    assert 0 < kinds.sum() < len(kinds) and (np.diff(np.flatnonzero(kinds)) >= 1).all()
    assert not captured(case.backbone, [case.samples[3]])[0].tokens[:, 1].any()


@pytest.mark.parametrize("case", [name for name in CLASSES if name not in TEXT_ONLY], indirect=True)
def test_images_stand_where_the_text_first_mentions_them(case):
    backbone, (first, second) = case.backbone, (case.samples[0], case.samples[1])
    said = ("Is ", " like ", ", or <image 1> larger?")
    sample = replace(
        first,
        question=f"{said[0]}<image 1>{said[1]}<image 2>{said[2]}",
        choices=(),
        hint="",
        instruction="",
        images=(*first.images, *second.images),
    )
    (capture,) = captured(backbone, [sample])
    ids, kinds = capture.tokens[:, 0], capture.tokens[:, 1]
    places = np.flatnonzero(kinds)
    between = backbone.tokenizer.decode(ids[places[0] : places[-1]][kinds[places[0] : places[-1]] == 0])
    assert "like" in between and "Is" not in between and "larger" not in between
    content = [
        {"type": "text", "text": said[0]},
        {"type": "image"},
        {"type": "text", "text": said[1]},
        {"type": "image"},
        {"type": "text", "text": said[2]},
    ]
    shown = [image.open() for image in sample.images]
    prompt = backbone.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    own = dict(backbone.processor(text=[prompt], images=[shown], return_tensors="pt"))
    assert ids.tolist() == own["input_ids"][0].tolist()
    blocks = backbone.decoder.layers
    seen = []
    hook = blocks[3].register_forward_hook(lambda m, args, out: seen.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        backbone.model.generate(**own, max_new_tokens=1, do_sample=False)
    hook.remove()
    assert torch.equal(torch.from_numpy(capture.hidden[4]), seen[0].reshape(len(ids), -1))


def test_without_answers_the_states_are_the_same_and_deeper_blocks_stay_idle(case):
    backbone, ran = case.backbone, []
    hooks = [block.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(backbone.blocks, 1)]
    found = answer_batch(backbone, backbone.inputs(case.samples[:3]), LAYERS, 0, "float32")
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2, 3, 4]
    said = generations(found, str)
    assert [(g.finish_reason, g.token_ids) for g in said] == [("none", ())] * 3
    for one, two in zip(captures(found, LAYERS), captured(backbone, case.samples[:3]), strict=True):
        assert all(np.array_equal(one.hidden[layer], two.hidden[layer]) for layer in LAYERS)
        assert not one.answer.any() and np.array_equal(one.tokens, two.tokens)


def anew(backbone, sample, further):
    """Return the logits after a sample's prompt and further tokens, all read by a prefill of their own."""
    inputs = backbone.inputs([sample])
    added = torch.tensor([list(further)], dtype=torch.long)
    for name in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            value = {"input_ids": added, "attention_mask": torch.ones_like(added)}.get(name, torch.zeros_like(added))
            inputs[name] = torch.cat([inputs[name], value.to(inputs[name])], 1)
    out = backbone.model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return out.logits[0][0].double()


def test_traces_and_p_true_equal_asking_anew_and_cost_no_second_prefill(case):
    backbone, samples = case.backbone, case.samples[:4]
    extras = Extras(samples=2, temperature=0.8, trace_tokens=4, p_true=True, seed=5)
    reads, sights = [], []
    hooks = [backbone.decoder.layers[0].register_forward_pre_hook(lambda m, args: reads.append(args[0].shape))]
    tower = next((module for module in backbone.model.modules() if "Vision" in type(module).__name__), None)
    if tower is not None:
        hooks.append(tower.register_forward_hook(lambda *_: sights.append(1)))
    inputs = backbone.inputs(samples)
    found = answer_batch(backbone, inputs, LAYERS, 3, "float32", extras, [sample.id for sample in samples])
    for hook in hooks:
        hook.remove()
    longest = inputs["input_ids"].shape[1]
    assert sum(shape[1] >= longest for shape in reads) == 1
    assert len(sights) == (case.name not in TEXT_ONLY)
    said = generations(found, str)
    encode = lambda text: backbone.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    _check_p_true(backbone, samples, said, found, encode)
    for style, (tokens, kept) in found.traces.items():
        tokens, kept = tokens.numpy(), kept.numpy()
        for row in (0, 3):
            trace = row * 2 + 1
            drawn = draws([samples[row].id], style, extras, 3 if style == "direct" else 4)[1]
            for step in range(int(kept[trace].sum())):
                logits = anew(backbone, samples[row], [*encode(STYLES[style]), *tokens[trace, :step].tolist()])
                share = (logits / 0.8).softmax(-1).cumsum(-1)
                assert int(tokens[trace, step]) == int(torch.searchsorted(share, drawn[step].double())), (style, step)


def _check_p_true(backbone, samples, said, found, encode):
    true, false = (encode(word)[0] for word in ("True", "False"))
    for row, (sample, answer) in enumerate(zip(samples, said, strict=True)):
        further = [*answer.token_ids, *encode(backbone.follow_up(prompts.TRUE_OR_FALSE))]
        chance = anew(backbone, sample, further).softmax(-1)
        truth = float(chance[true] / (chance[true] + chance[false]))
        assert abs(float(found.p_true.numpy()[row]) - truth) < 1e-4


def test_what_is_drawn_does_not_depend_on_the_company(case):
    backbone = case.backbone
    extras = Extras(samples=3, temperature=1.0, trace_tokens=4, p_true=True)
    decode = lambda ids: backbone.tokenizer.decode(list(ids))  # noqa: E731

    def ask(samples):
        names = [sample.id for sample in samples]
        found = answer_batch(backbone, backbone.inputs(samples), LAYERS, 4, "float32", extras, names)
        return dict(zip(names, extra_columns(found, decode), strict=True))

    together = ask(case.samples)
    for sample in case.samples[:3]:
        alone = ask([sample])[sample.id]
        for style in STYLES:
            assert alone[f"traces_{style}"] == together[sample.id][f"traces_{style}"]
            assert len(alone[f"traces_{style}"]) == 3
        assert alone["p_true"] == pytest.approx(together[sample.id]["p_true"], abs=1e-4)
