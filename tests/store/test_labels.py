"""What people say of answers: a grader corrected by hand, and labels that come with the data after it."""

import shutil

import pytest

from relope.store import open_store
from relope.store.grades import counting, labelled, read_grades
from relope.store.labels import correct_by_hand, corrected_grader, count_labels, said_by_people, write_labels


@pytest.fixture
def graded(store_path, tmp_path):
    """A store of its own, its grades, and three ids."""
    shutil.copytree(store_path, tmp_path / "tiny.zarr")
    store = open_store(tmp_path / "tiny.zarr")
    return store, read_grades(store, None), store.samples["id"].to_list()[:3]


def test_corrections_add_up_and_are_taken_back(graded):
    store, grades, (one, two, three) = graded
    right = dict(grades.table.select("id", "correct").iter_rows())
    correct_by_hand(store, grades, {one: not right[one]})
    correct_by_hand(store, grades, {two: right[two], three: not right[three]})
    correct_by_hand(store, grades, {three: None})
    table = read_grades(store, "human@1").table
    assert said_by_people(table) == {one: not right[one], two: right[two]} and corrected_grader(table) == grades.name
    others = {**right, one: not right[one]}
    assert dict(table.select("id", "correct").iter_rows()) == others
    assert counting(store) == grades.name
    assert len(labelled(store, ("train", "test"), "human@1")[0]) == len(store)
    count_labels(store)
    assert counting(store) == "human@1"


def test_labels_that_come_with_the_data_are_added_to_and_stay_alone(graded):
    store, grades, (one, two, _) = graded
    write_labels(store, {one: True}, grades.table)
    correct_by_hand(store, grades, {two: False})
    table = read_grades(store, "human@1").table
    assert corrected_grader(table) == "" and table["correct"].null_count() == len(store) - 2
    assert {one: True, two: False}.items() <= said_by_people(table).items()


def test_labels_after_corrections_keep_only_what_people_said(graded):
    store, grades, (one, two, _) = graded
    correct_by_hand(store, grades, {one: True})
    write_labels(store, {two: False}, grades.table)
    table = read_grades(store, "human@1").table
    said = {name: correct for name, correct in said_by_people(table).items() if correct is not None}
    assert said == {one: True, two: False} and "by" not in table.columns
