"""The pool: jobs end once, whoever dies is started anew, and what is refused is told."""

import os
import sys
from types import SimpleNamespace

import pytest

from relope.cluster import pool, worker
from relope.cluster.crew import Crew
from relope.cluster.pool import Pool
from relope.cluster.worker import Actor, enter
from relope.errors import InvalidInputError, NotFoundError


@pytest.fixture
def died(tmp_path):
    """The file in which workers note that they die."""
    (tmp_path / "died").write_text("")
    return tmp_path / "died"


def done(words, died, *, workers=1, ahead=1):
    """Return word → what came of it, and what was told on the way."""
    results, told = {}, []
    with Pool(Crew(workers, 0.0), "odd_workers:Worker", {"died": str(died)}, ahead=ahead) as jobs:
        for word in words:
            jobs.submit(word, word, f"the word {word}")
        while len(jobs):
            results |= dict(jobs.ended())
            told += jobs.told()
    return results, told


def test_a_worker_is_started_anew_after_longer_and_longer_pauses(ray_cluster, died, monkeypatch, caplog):
    monkeypatch.setattr(pool, "LONGEST_PAUSE_S", 1.5)
    results, told = done(["dies", "a", "b", "c", "no"], died)
    assert [results[word][0] for word in ("dies", "a", "b", "c")] == ["DIES", "A", "B", "C"]
    assert isinstance(results["no"], InvalidInputError) and died.read_text() == "xxx"
    assert all(value == (1, 2) for _, value in told)
    said = [message.partition(": ") for message in caplog.messages]
    often = ("", ", 2 times in a row", ", 3 times in a row")
    assert [what for what, _, _ in said] == [f"a worker has died (the word dies{times})" for times in often]
    assert [why.rpartition("; ")[2] for _, _, why in said] == [
        f"another is started in {pause}" for pause in ("1 s", "1.5 s", "1.5 s")
    ]
    assert all("exit code 1" in why or "connection error" in why for _, _, why in said), said


def test_the_jobs_that_a_worker_had_ahead_are_done_though_it_dies(ray_cluster, died, monkeypatch):
    monkeypatch.setattr(pool, "LONGEST_PAUSE_S", 0.1)
    results, _ = done(["a", "dies", "b", "c"], died, ahead=3)
    assert {word: said for word, (said, _) in results.items()} == {word: word.upper() for word in results}
    assert len(results) == 4 and died.read_text() == "xxx"


def test_every_worker_has_a_job_before_one_has_two(ray_cluster, died):
    results, _ = done(["a", "b", "c"], died, workers=2, ahead=3)
    assert len({pid for _, pid in results.values()}) == 2


def test_a_refusal_and_a_bug_end_what_waits_and_the_next_job_makes_another_worker(ray_cluster, died):
    asked = {"died": str(died)}
    with Pool(Crew(1, 0.0), "odd_workers:Worker", asked) as jobs:
        for word in ("refused", "a"):
            jobs.submit(word, word, word)
        results = {}
        while len(jobs):
            results |= dict(jobs.ended())
        assert results["refused"].hint == "use smaller images" and results["a"][0] == "A"
        jobs.submit("bug", "bug", "bug")
        with pytest.raises(RuntimeError, match="a bug"):
            while len(jobs):
                jobs.ended()
        jobs.release()
        jobs.submit("b", "b", "b")
        while len(jobs):
            results |= dict(jobs.ended())
        assert results["b"][1] != results["a"][1]  # the other worker was let go
    died.write_text("no")
    results, _ = done(["a"], died)
    assert str(results["a"]) == "the model does not load"


def test_an_actor_without_cards_sees_none_and_fails_all_who_wait(died, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    actor = Actor("odd_workers:Worker", {"died": str(died)}, False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert actor.do(0, "a")[0] == "A" and actor.told() is None
    assert str(actor.do(1, "refused")).startswith("sample 'refused'")
    with pytest.raises(RuntimeError, match="a bug"):
        actor.do(2, "bug")
    assert actor.do(3, "b")[0] == "B"


def test_a_worker_whose_card_is_dead_exits_and_one_with_a_bug_does_not(died, monkeypatch):
    exits = []
    monkeypatch.setattr(worker.os, "_exit", exits.append)

    def kernel(*shape, device):
        raise RuntimeError("CUDA error: unspecified launch failure")

    for torch, codes in (
        (None, []),
        (SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False)), []),
        (SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True), ones=kernel), [70]),
    ):
        monkeypatch.setitem(sys.modules, "torch", torch)
        with pytest.raises(RuntimeError, match="a bug"):
            Actor("odd_workers:Worker", {"died": str(died)}, True).do(0, "bug")
        assert exits == codes


def test_a_folder_that_a_worker_does_not_see_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    enter(str(tmp_path))
    with pytest.raises(NotFoundError, match=r"gone is not to be seen on .*, where a worker runs"):
        enter(str(tmp_path / "gone"))
