"""What is captured during generation equals independent forward passes."""

import pytest
import torch

from relope.extract.model.generate import answer_batch, captures, generations, token_columns


@pytest.fixture(scope="module")
def answered(backbone, questions):
    """A padded batch of eight questions of different lengths, answered and split by sample."""
    batch = questions[:8]
    found = answer_batch(backbone, backbone.inputs(batch), (3, 4), 8, "float32")
    decode = backbone.processor.tokenizer.decode
    return batch, captures(found, (3, 4)), generations(found, lambda ids: decode(list(ids)))


def alone(backbone, sample, extra=()):
    """One sample's own forward pass, batch 1, optionally with answer tokens appended."""
    inputs = backbone.inputs([sample])
    added = torch.tensor([list(extra)], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], added], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    zeros = torch.zeros_like(added)
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], zeros.to(inputs["mm_token_type_ids"])], 1)
    with torch.inference_mode():
        return backbone.model(**inputs, output_hidden_states=True, use_cache=False)


def test_states_equal_hidden_states_exactly_at_batch_one(backbone, questions):
    for sample in questions[:5]:
        found = captures(
            answer_batch(backbone, backbone.inputs([sample]), (0, 2, 3, 4, 5), 8, "float32"), (0, 2, 3, 4, 5)
        )[0]
        truth = alone(backbone, sample).hidden_states
        for layer, states in found.hidden.items():
            assert torch.equal(torch.from_numpy(states), truth[layer][0]), layer


def test_states_of_a_padded_batch_equal_those_alone(backbone, answered):
    batch, captured, _ = answered
    assert len({capture.tokens.shape[0] for capture in captured}) > 1, "the batch must be padded to mean anything"
    for sample, capture in zip(batch, captured, strict=True):
        truth = alone(backbone, sample).hidden_states
        for layer in (3, 4):
            assert capture.hidden[layer].shape == truth[layer][0].shape
            assert (torch.from_numpy(capture.hidden[layer]) - truth[layer][0]).abs().max() < 2e-5


def test_logprobs_and_entropies_equal_a_teacher_forced_pass(backbone, answered):
    batch, _, said = answered
    for sample, generation in zip(batch, said, strict=True):
        n = len(generation.token_ids)
        logits = alone(backbone, sample, generation.token_ids).logits[0].float().log_softmax(-1)
        predicting = logits[-n - 1 : -1]
        chosen = torch.tensor(generation.token_ids)
        truth = predicting.gather(1, chosen[:, None])[:, 0]
        assert torch.allclose(torch.tensor(generation.logprobs), truth, atol=1e-4)
        entropy = -(predicting.exp() * predicting).sum(-1)
        assert torch.allclose(torch.tensor(generation.entropies), entropy, atol=1e-4)
        assert torch.equal(predicting.argmax(-1), chosen)


def test_answer_state_is_the_mean_over_predicting_positions_without_the_end(backbone, answered):
    batch, captured, said = answered
    for sample, capture, generation in zip(batch, captured, said, strict=True):
        n = len(generation.token_ids)
        final = alone(backbone, sample, generation.token_ids).hidden_states[-1][0]
        assert torch.allclose(torch.from_numpy(capture.answer), final[-n - 1 : -1].mean(0), atol=2e-5)


def test_the_end_token_is_never_part_of_an_answer(backbone, answered):
    _, _, said = answered
    ends = set(backbone.traits.end_ids)
    assert ends and not any(ends & set(generation.token_ids) for generation in said)
    assert {generation.finish_reason for generation in said} == {"stop"}


def test_an_answer_that_is_cut_short_says_so(backbone, questions):
    found = answer_batch(backbone, backbone.inputs(questions[:3]), (4,), 1, "float32")
    assert [g.finish_reason for g in generations(found, str)] == ["length"] * 3
    assert all(len(g.token_ids) == 1 for g in generations(found, str))


def test_tokens_say_where_the_image_is_and_which_positions_it_got(backbone, answered):
    batch, captured, _ = answered
    columns = token_columns(backbone)
    for sample, capture in zip(batch, captured, strict=True):
        inputs = backbone.inputs([sample])
        table = {name: torch.from_numpy(capture.tokens[:, place]) for place, name in enumerate(columns)}
        assert torch.equal(table["id"].long(), inputs["input_ids"][0])
        assert torch.equal(table["kind"] == 1, inputs["input_ids"][0] == backbone.model.config.image_token_id)
        assert int((table["kind"] == 1).sum()) == 16
        positions, _ = backbone.model.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
        )
        for row in range(3):
            assert torch.equal(table[f"position_{row + 1}"].long(), positions[row, 0])


def test_bfloat16_states_leave_as_uint16_and_come_back(backbone, questions):
    exact = captures(answer_batch(backbone, backbone.inputs(questions[:2]), (4,), 2, "float32"), (4,))
    stored = captures(answer_batch(backbone, backbone.inputs(questions[:2]), (4,), 2, "bfloat16"), (4,))
    for one, two in zip(exact, stored, strict=True):
        assert two.hidden[4].dtype == "uint16"
        back = torch.from_numpy(two.hidden[4]).view(torch.bfloat16)
        assert torch.equal(back, torch.from_numpy(one.hidden[4]).bfloat16())


def test_hooks_are_gone_afterwards(backbone, questions):
    def hooks():
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in backbone.model.modules()]

    before = hooks()  # transformers leaves some of its own behind
    answer_batch(backbone, backbone.inputs(questions[:2]), (3, 4), 2, "float32")
    assert hooks() == before


def test_lean_capture_keeps_one_row_of_the_other_layers(backbone, questions):
    found = captures(answer_batch(backbone, backbone.inputs(questions[:3]), (3, 4), 2, "float32"), (3,))
    full = captures(answer_batch(backbone, backbone.inputs(questions[:3]), (3, 4), 2, "float32"), (3, 4))
    for lean, whole in zip(found, full, strict=True):
        assert lean.hidden[4].shape[0] == 1
        assert (lean.hidden[4][0] == whole.hidden[4][-1]).all()
