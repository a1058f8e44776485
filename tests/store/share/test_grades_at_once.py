"""Two people correct the answers of one shared store: what each has said stays."""

import polars as pl
import pytest

from relope.store.grade_files import Grades
from relope.store.grades import read_grades
from relope.store.labels import LABELS, said_by_people, write_labels
from relope.store.share.push import push
from relope.store.share.remote_reader import RemoteStore


@pytest.fixture
def people(made, uri):
    push(made.path, uri)
    return RemoteStore.open_uri(uri), RemoteStore.open_uri(uri)


def says(store, said):
    """Keep labels as `relope view` does."""
    unjudged = store.samples.select("id", "split").with_columns(
        pl.lit(None, pl.Boolean).alias("correct"), *(pl.lit("").alias(name) for name in ("parsed", "parse_status"))
    )
    path, _, _ = write_labels(store, said, unjudged)
    store.save(f"{path.parent.name}/{path.name}")


def said(store):
    labels = said_by_people(read_grades(store, LABELS).table)
    return {name: correct for name, correct in labels.items() if correct is not None}


def test_what_two_people_say_at_once_is_kept(people, uri):
    one, two = people
    says(one, {"a": True})
    says(two, {"b": False})
    assert said(RemoteStore.open_uri(uri)) == {"a": True, "b": False}
    says(one, {"c": True, "a": False})
    assert said(one) == {"a": False, "b": False, "c": True} == said(RemoteStore.open_uri(uri))
    says(two, {"b": None})
    assert said(two) == {"a": False, "c": True} == said(RemoteStore.open_uri(uri))


def test_grades_of_samples_that_somebody_adds_meanwhile_stay(uri, build):
    push(build("few.zarr", parts=["ab"]).path, uri)
    one = RemoteStore.open_uri(uri)
    push(build("more.zarr", parts=["cd"]).path, uri)
    says(RemoteStore.open_uri(uri), {"c": True})
    says(one, {"a": True})
    assert said(RemoteStore.open_uri(uri)) == {"a": True, "c": True} and said(one) == {"a": True}


def test_a_person_counts_before_a_grader():
    def graded(*rows, order=1):
        table = pl.DataFrame(rows, schema={"id": pl.String, "correct": pl.Boolean, "by": pl.String}, orient="row")
        return Grades(LABELS, table, order)

    base = graded(("a", True, "exact@1"), ("b", True, "exact@1"), ("c", True, "human"), ("d", True, "human"))
    ours = graded(("a", False, "auto@2"), ("b", False, "human"), ("c", False, "auto@2"), ("d", False, "human"))
    theirs = graded(("a", True, "human"), ("b", True, "human"), ("c", True, "human"), ("d", True, "human"), order=3)
    both = ours.merged(base, theirs)
    assert both.table.rows() == [("a", True, "human"), *ours.table.rows()[1:]] and both.order == 3
