"""A7: a whole number that answers a question with choices means one thing, in every kind of file, or is refused."""

import pytest
from own_data import WRITERS, answers, lines, read

from relope import steps
from relope.errors import InvalidInputError, RelopeError
from relope.extract.data.flaws import find_flaws
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec, PlanSpec
from relope.steps.reopen import recorded_dataset
from relope.store import open_store

NUMBERS = [1, 2, 3, 4]


def rows(*given, **more):
    """Return a row for each pair of choices and answer."""
    return [
        {"id": f"r{k}", "question": f"How many {k}?", "choices": choices, "answer": answer, **more}
        for k, (choices, answer) in enumerate(given)
    ]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("hole", [False, True], ids=["full", "with a hole"])
def test_a7_a_number_that_could_be_two_options_is_refused_in_every_kind_of_file(tmp_path, kind, hole):
    given = [(NUMBERS, 4), (NUMBERS, 2), *([(NUMBERS, None)] if hole else [])]
    path = WRITERS[kind](tmp_path / f"q{kind}", rows(*given))
    with pytest.raises(
        InvalidInputError, match=r"2(\.0)?'? in .* is the text of option B and, .* place of option C"
    ) as error:
        open_dataset(str(path))
    assert "--answer-is text, index or letter" in error.value.hint and len(error.value.lines.splitlines()) == 2


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("answer_is", "letters"), [("text", "DB"), ("index", "-C"), ("letter", "--")])
def test_a7_what_answers_are_settles_it(tmp_path, kind, answer_is, letters):
    path = WRITERS[kind](tmp_path / f"q{kind}", rows((NUMBERS, 4), (NUMBERS, 2), (NUMBERS, None)))
    samples = read(path, answer_is=answer_is)
    assert "".join((*samples[name].answers, "-")[0] for name in ("r0", "r1")) == letters
    reasons = {flaw.id: flaw.reason for flaw in find_flaws(list(samples.values()), text_only=False)[0]}
    assert reasons.pop("r2") == "it has no answer"
    assert all(f"is the {answer_is} of none of the choices" in reason for reason in reasons.values())


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["red", "blue", "green"], 2, "C"),
        ([10, 20, 30], 20, "B"),
        ([0, 1, 2], 1, "B"),
        ([0, 1, 2], 0, "A"),
        ([1.0, 2.0, 7.0], 7, "C"),
        (["red", "blue"], "B", "B"),
        (["red", "blue"], "blue", "B"),
    ],
)
@pytest.mark.parametrize("hole", [False, True], ids=["full", "with a hole"])
def test_a7_one_table_is_read_alike_whatever_the_file(tmp_path, kind, choices, answer, letter, hole):
    given = [(choices, answer), *([(choices, None)] if hole else [])]
    assert answers(WRITERS[kind](tmp_path / f"q{kind}", rows(*given)))["r0"] == (letter,)


def test_a7_text_is_text_where_the_file_tells_it_from_numbers(tmp_path):
    given = [(NUMBERS, "2"), (["1", "2"], "1"), (["red", "blue"], "1")]
    assert answers(lines(tmp_path / "q.jsonl", rows(*given[:2]))) == {"r0": ("B",), "r1": ("A",)}
    assert answers(lines(tmp_path / "q.jsonl", rows(given[2]))) == {"r0": ("B",)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            [([5, 6, 7], 6), ([5, 6, 7], 0)],
            r"in line 1 of q\.jsonl is an option's text but .* in line 2 of q\.jsonl is a place",
        ),
        ([(["x", "y", "z"], 3), (["x", "y", "z"], 1)], r"that in line 1 of q\.jsonl is their number .* counted from 1"),
        ([(NUMBERS, [4, 2])], "text of option B"),
    ],
    ids=["contradiction", "from 1", "list"],
)
def test_a7_columns_that_no_one_reading_fits_are_refused(tmp_path, given, says):
    path = lines(tmp_path / "q.jsonl", rows(*given))
    with pytest.raises(RelopeError, match=says) as error:
        open_dataset(str(path))
    assert len(error.value.lines.splitlines()) == 2


def test_a7_a_single_place_past_the_end_is_a_flaw_where_others_show_the_count_from_0(tmp_path):
    xs = ["x", "y", "z"]
    samples = read(lines(tmp_path / "q.jsonl", rows((xs, 0), (xs, 1), (xs, 3))))
    assert [flaw.id for flaw in find_flaws(list(samples.values()), text_only=False)[0]] == ["r2"]


def test_a7_lists_as_pandas_writes_them(tmp_path):
    (tmp_path / "q.csv").write_text("id,question,answer,choices\n1,a?,blue,\"['red', 'blue']\"\n", encoding="utf-8")
    assert answers(tmp_path / "q.csv") == {"1": ("B",)}
    (tmp_path / "q.csv").write_text("id,question,answer,choices\n1,a?,blue,red|blue\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"column 'choices' in row 1 of q\.csv holds 'red\|blue'"):
        read(tmp_path / "q.csv")


def test_a7_plan_and_extract_take_it_and_a_store_remembers(tmp_path):
    path = lines(tmp_path / "q.jsonl", rows((NUMBERS, 4), (NUMBERS, 2)))
    asked = {"model": "tiny-vl", "dataset": str(path), "device": "cpu", "max_new_tokens": 4, "out": tmp_path / "s.zarr"}
    for step in (PlanSpec, ExtractSpec):
        with pytest.raises(InvalidInputError, match="text of option B"):
            steps.run(step(**asked))
    assert not (tmp_path / "s.zarr").exists()
    assert steps.run(PlanSpec(**asked, answer_is="index")).facts["samples"] == 1
    outcome = steps.run(ExtractSpec(**asked, answer_is="index"))
    assert [flaw["id"] for flaw in outcome.facts["skipped"]] == ["r0"]
    with open_store(tmp_path / "s.zarr") as store:
        assert store.samples["answers"].to_list() == [["C"]]
        dataset = recorded_dataset(store)
        assert {s.answers for split in dataset.splits for s in dataset.load(split, None)} == {(), ("C",)}


def test_a7_answers_of_a_set_with_a_name_are_known():
    with pytest.raises(InvalidInputError, match="answers of data set tiny are known"):
        open_dataset("tiny", answer_is="index")
