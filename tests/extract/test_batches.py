"""Memory that runs out, and ropes that change with length: batches are cut, nothing is lost."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from relope import steps
from relope.errors import InvalidInputError
from relope.extract import batches as module
from relope.extract.batches import Batches
from relope.extract.data.flaws import find_flaws
from relope.extract.model.generate import answer_batch, captures
from relope.extract.plan import halvings
from relope.extract.prompt_checks import unreadable_prompts
from relope.spec import ExtractSpec
from relope.store import ActivationStore, plan_path


def scarce(monkeypatch, most):
    """Let the device hold at most so many rows; return the sizes that were tried."""
    tried = []

    def answer(backbone, inputs, *rest):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return answer_batch(backbone, inputs, *rest)

    monkeypatch.setattr(module, "answer_batch", answer)
    return tried


def test_a_batch_that_does_not_fit_is_halved_until_it_does(backbone, questions, monkeypatch):
    told = []
    run = Batches(backbone, (3, 4), 2, "float32", halved=lambda ids: told.append(list(ids)))
    batch = questions[:10]
    whole = captures(answer_batch(backbone, run.prepare(batch), (3, 4), 2, "float32"), (3, 4))
    tried = scarce(monkeypatch, 3)
    pieces = list(run.answer(batch, run.prepare(batch)))
    assert [sample.id for piece, _ in pieces for sample in piece] == [sample.id for sample in batch]
    assert tried == [10, 5, 3, 2, 3, 2] and [len(ids) for ids in told] == [10, 5]
    for one, two in zip((c for _, found in pieces for c in captures(found, (3, 4))), whole, strict=True):
        assert np.abs(one.hidden[4] - two.hidden[4]).max() < 1e-4
    tried.clear()
    list(run.answer(questions[10:17], run.prepare(questions[10:17])))
    assert tried == [3, 3, 1], "what is known not to fit is not tried again"


def test_one_sample_that_does_not_fit_is_named(backbone, questions, monkeypatch):
    run = Batches(backbone, (4,), 2, "float32")
    scarce(monkeypatch, 0)
    with pytest.raises(InvalidInputError, match=f"sample '{questions[0].id}' alone"):
        list(run.answer(questions[:2], run.prepare(questions[:2])))


def test_a_run_goes_on_and_keeps_it_on_record(tmp_path, monkeypatch, caplog):
    scarce(monkeypatch, 8)
    spec = ExtractSpec(
        model="tiny-vl", dataset="tiny", split=("test",), limit=20, batch_size=16, out=tmp_path / "x.zarr"
    )
    outcome = steps.run(spec)
    assert "halved" in outcome.text and "going on with 8" in caplog.text
    (record,) = halvings(plan_path(spec.out))
    assert record["samples"] == 16 and record == outcome.facts["halved"][0]
    with ActivationStore.open(spec.out) as store:
        assert len(store) == outcome.facts["samples"]
    more = steps.run(spec.model_copy(update={"limit": 21}))
    assert halvings(plan_path(spec.out))[0] == record and more.facts["computed"] > 0


def test_rows_on_two_sides_of_a_ropes_bound_are_not_mixed(backbone, questions):
    lengths = [3, 4, 9, 4, 12, 13]
    inputs = {"attention_mask": torch.tensor([[0] * (13 - n) + [1] * n for n in lengths])}
    run = Batches(SimpleNamespace(traits=SimpleNamespace(rope_bound=8)), (4,), 2, "float32")
    assert [len(piece) for piece in run._pieces(questions[:6], inputs)] == [2, 1, 1, 2]
    run.backbone.traits.rope_bound = None
    assert [len(piece) for piece in run._pieces(questions[:6], inputs)] == [6]
    assert backbone.traits.rope_bound is None


def test_an_answer_that_would_cross_the_bound_is_no_answer(backbone, questions):
    """There the library drops what it has read, and goes on from one token."""
    lengths = [int(backbone.inputs([sample])["input_ids"].shape[1]) for sample in questions[:6]]
    near = dataclasses.replace(backbone, traits=dataclasses.replace(backbone.traits, rope_bound=max(lengths)))
    _, sizes = find_flaws(questions[:6], False)
    flawed = {flaw.id: flaw.reason for flaw in unreadable_prompts(near, questions[:6], sizes, False, room=1)}
    assert set(flawed) == {each.id for each, n in zip(questions, lengths, strict=False) if n == max(lengths)}
    assert all("cross the" in reason and f"{max(lengths):,} tokens" in reason for reason in flawed.values())
    assert unreadable_prompts(near, questions[:6], sizes, False) == []  # states alone cross nothing
