"""Sampled traces and P(True) by hand."""

import dataclasses
import math
import shutil

import numpy as np
import polars as pl
import pytest
from made_traces import drop_grades_of_traces

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.graders import exact
from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers

DIRECT = [["a", "a", "b"], ["a", "", ""], ["", "", ""], ["b", "a", "c"], ["a", "a", "a"]]
CHAIN = [["b", "b", "b"], ["a", "b", ""], ["", "", ""], ["b", "b", "a"], ["a", "a", "a"]]


class FakeStore:
    """Five samples with traces and P(True)."""

    label = "x.zarr"
    samples = pl.DataFrame(
        {
            "traces_direct": DIRECT,
            "traces_chain": CHAIN,
            "p_true": [0.0, 0.25, 0.5, 0.75, 1.0],
        }
    )


GRADES = pl.DataFrame({"id": list("12345"), "parsed_direct": DIRECT, "parsed_chain": CHAIN})
EXAMPLES = Examples(FakeStore(), np.arange(5), None, 4, grades=GRADES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("mot", {}, [4 / 6, 2 / 6, 0, 3 / 6, 1]),  # row 2: "a" twice of six, three unparsed ones still count
        ("mot", {"variant": "verify"}, [0, 1, 0, 1, 1]),  # rows 2 and 4: ties go to the answer sampled first
        ("self-consistency", {}, [2 / 3, 1 / 3, 1 / 3, 1 / 3, 1]),
        ("self-consistency", {"style": "chain"}, [1, 1 / 3, 1 / 3, 2 / 3, 1]),
        ("p-true", {}, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_scores(name, settings, expected):
    assert np.allclose(make(name, settings).predict_proba(EXAMPLES), expected, atol=1e-7)


def test_semantic_entropy_is_that_of_scipy():
    from scipy.stats import entropy

    expected = [math.exp(-entropy([2, 1])), *[math.exp(-entropy([1, 1, 1]))] * 3, 1.0]
    assert np.allclose(make("semantic-entropy", {}).predict_proba(EXAMPLES), expected, atol=1e-7)


def test_a_chain_of_thought_counts_by_what_exact_reads_at_its_end():
    chain = [["An answer is a word. The answer is a.", "So the answer is: a", "answers vary"]] * 5
    chain = [[exact.grade(trace, ()).parsed for trace in traces] for traces in chain]
    grades = GRADES.with_columns(pl.Series("parsed_chain", chain))
    examples = dataclasses.replace(EXAMPLES, grades=grades)
    assert np.allclose(make("mot", {}).predict_proba(examples), [4 / 6, 3 / 6, 2 / 6, 3 / 6, 5 / 6])
    assert make("mot", {"variant": "verify"}).predict_proba(examples).tolist() == [1, 1, 0, 0, 1]


def test_another_variant_survives_saving(tmp_path):
    probe = make("mot", {"variant": "verify"})
    probe.save(tmp_path)
    assert np.array_equal(type(probe).load(tmp_path).predict_proba(EXAMPLES), probe.predict_proba(EXAMPLES))


@pytest.mark.parametrize("name", ["mot", "self-consistency", "semantic-entropy"])
def test_grades_from_before_the_traces_are_refused(name, traced_path, tmp_path):
    copy = shutil.copytree(traced_path, tmp_path / "old.zarr")
    drop_grades_of_traces(copy)
    with ActivationStore.open(copy) as store:
        rows, _ = labelled(store, ("test",), None)
        for grades in (parsed_answers(store, rows, None), None):
            examples = Examples(store, rows, None, 4, grades=grades)
            with pytest.raises(NotFoundError, match=r"every sampled trace graded") as caught:
                make(name, {}).predict_proba(examples)
            assert caught.value.hint == f"run `relope grade --store {copy}` again"


@pytest.mark.parametrize("value", [None, float("nan"), 1.5])
def test_p_true_that_is_no_probability_is_refused(value):
    store = FakeStore()
    store.samples = FakeStore.samples.with_columns(pl.Series("p_true", [value, 0.5, 0.5, 0.5, 0.5], pl.Float64))
    with pytest.raises(InvalidInputError, match="1 of 5 samples"):
        make("p-true", {}).predict_proba(Examples(store, np.arange(5), None, 4))
