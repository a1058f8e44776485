"""A store judged by a model at an endpoint: asked once an answer, killed or not; nothing is graded wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from judging import case_of, honest, judging
from openai_stub import BUSY, FILTERED, HALF, HANGS, HTML, HUGE, NO_MODEL, WRONG_KEY, Fault, Stub
from stepping import question, step, write_rows

from relope.errors import InvalidInputError, OutputError, RelopeError
from relope.extract.endpoint import client
from relope.store import open_store, verify
from relope.store.grade_files import bare_grader, grader_flags, orders
from relope.store.grade_names import grades_path
from relope.store.grades import counting, read_grades

KEY = "sk-secret-of-the-judge-0815"
COLOURS = ("red", "blue", "green")
PRICES = "models:\n  m: {dollars_per_million_prompt_tokens: 0, dollars_per_million_answer_tokens: 100000}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_waits):
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def answers(tmp_path):
    """A store of 24 free-form answers: every third in other words than the gold, every fourth wrong."""

    def said(body):
        number = int(body["messages"][0]["content"][1]["text"].split("number ")[1].split("?")[0])
        right = COLOURS[(number + (number % 4 == 3)) % 3]
        return f"I would say that it is {right}, more or less" if number % 3 == 0 else right

    rows = [question(number, choices=None, answer=COLOURS[number % 3]) for number in range(24)]
    data, out = write_rows(tmp_path / "data", rows), tmp_path / "store.zarr"
    with Stub(said) as stub:
        step("extract", model="m", endpoint=stub.url, dataset=data, out=out)
    return out


def judge(store, stub, **more):
    """Let the stub judge a store."""
    fields = {"grader": "judge", "judge_model": "m", "endpoint": stub.url, "api_key_env": "JUDGE_KEY", "workers": 4}
    return step("grade", store=store, **fields | more)


def judged(store):
    """Return name → grades of the judges of a store."""
    with open_store(store) as opened:
        return {name: read_grades(opened, name).table for name in orders(opened.path) if name.startswith("judge:")}


def test_verdicts_become_grades_that_count(answers, capfd):
    with Stub(judging(honest)) as stub:
        made = judge(answers, stub)
        assert len(stub.requests) == made.facts["requests"] == 24
        _, headers, body = stub.requests[0]
        assert headers["authorization"] == f"Bearer {KEY}"
        assert body["temperature"] == 0 and body["model"] == "m" and "logprobs" not in body
        again = judge(answers, stub)
        assert again.reused and again.facts["requests"] == 0 and len(stub.requests) == 24
    assert made.facts["grader"] == "judge:m@1" and made.facts["accuracy"] == 0.75 and made.facts["unparsed"] == 0
    assert made.facts["answered_by"] == ["stub-2026-01-01"]
    with open_store(answers) as store:
        assert counting(store) == "judge:m@1"
        table = read_grades(store, None).table
    assert (answers / "grades" / "judge+3Am@1.parquet").is_file() and verify(answers, deep=True) == []
    assert set(table["answered_by"]) == {"stub-2026-01-01"} and "" not in table["parsed"].to_list()
    for path in answers.parent.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    said = capfd.readouterr()
    assert KEY not in said.out + said.err + made.text + json.dumps(made.facts)


def test_agreement_with_exact_is_told_with_its_n_and_interval(answers):
    with Stub(judging(honest)) as stub:
        made = judge(answers, stub)
    agreed = made.facts["agreement"]
    # Every third answer is in a sentence, which exact calls wrong: of these 8, six are right by the judge.
    assert (agreed["n"], agreed["first_only"], agreed["second_only"]) == (24, 6, 0)
    assert agreed["share"] == 0.75 and agreed["low"] == pytest.approx(0.551, abs=2e-3)  # Wilson, 18 of 24
    assert agreed["high"] == pytest.approx(0.880, abs=2e-3) and agreed["with"].startswith("exact@")
    assert "on 75.0% of the 24 answers that both can judge (95 % interval 55.1% to 88.0%; 6 right" in made.text


def test_agreement_takes_an_image_once():
    from relope.evaluate.numbers.agreement import agreement

    first, second = np.tile([True, False], 20), np.tile([True, True], 20)
    apart, together = (agreement(first, second, groups) for groups in (np.arange(40), np.arange(40) // 2))
    assert apart.share == together.share == 0.5
    alike = agreement(np.repeat(first, 4), np.repeat(second, 4), np.repeat(np.arange(40), 4))
    assert alike.n == 160 and alike.high - alike.low == pytest.approx(apart.high - apart.low, abs=0.02)
    assert agreement(first[:0], second[:0], np.arange(0)) is None


def test_with_choices_exact_does_not_apply(tmp_path):
    data = write_rows(tmp_path / "data", [question(number) for number in range(6)])
    with Stub(lambda body: "the blue one") as stub:
        step("extract", model="m", endpoint=stub.url, dataset=data, out=tmp_path / "s.zarr")
    with Stub(judging(lambda case: case["right_answers"] == ["B. blue"])) as stub:
        made = judge(tmp_path / "s.zarr", stub)
        assert case_of(stub.requests[0][2])[1]["options"] == {"A": "red", "B": "blue", "C": "green"}
    assert made.facts["agreement"] is None and "applies to none of them" in made.text
    assert made.facts["accuracy"] == pytest.approx(1 / 3)


WRONG = {
    "wrong key": (WRONG_KEY, r"answered 401 .*Incorrect API key"),
    "no such model": (NO_MODEL, r"answered 404 .*does not exist"),
    "429 storm": (BUSY, r"answered 429 .*Rate limit reached"),
    "HTML": (HTML, r"sent no chat completion: '<!DOCTYPE html>"),
    "half a stream": (HALF, "cannot be reached: .*peer closed connection"),
    "5 MB": (HUGE, "sent no chat completion: it sent more than 4 MiB"),
    "hangs": (HANGS, "has not answered within 0.5 s"),
    "an echoed key": (Fault(401, {"error": f"bad key Bearer {KEY} of {KEY}"}), "answered 401"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_goes_wrong_is_a_line_or_two_and_verdicts_are_kept(answers, kind, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    fault, says = WRONG[kind]
    failing = Stub(judging(honest), fault=lambda number, body: None if number <= 3 else fault)
    with failing as stub, pytest.raises(OutputError, match=says) as caught:
        judge(answers, stub, workers=1, timeout=0.5)
    assert caught.value.lines.count("\n") <= 1 and len(caught.value.lines) < 600 and KEY not in caught.value.lines
    assert judged(answers) == {}, "no grade is written of a store that is not judged whole"
    with Stub(judging(honest)) as stub:
        assert judge(answers, stub).facts["accuracy"] == 0.75 and len(stub.requests) == 21
    for path in answers.parent.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_judge_that_is_not_there_leaves_nothing_behind(answers, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    with Stub(judging(honest)) as stub:
        pass
    with pytest.raises(OutputError, match="cannot be reached") as caught:
        judge(answers, stub)
    assert caught.value.hint == "nothing was judged yet: mend that, and run it again"
    assert not list(answers.parent.glob("*judged*"))


@pytest.mark.parametrize("prose", ["Sure! The answer agrees with the gold.", "agrees", '{"agrees": true}', ""])
def test_a_judge_of_prose_grades_nothing(answers, prose):
    with Stub(judging(lambda case: prose)) as stub:
        with pytest.raises(OutputError, match="none of 5 replies of m is a verdict, and nothing was graded") as caught:
            judge(answers, stub, workers=1)
        assert caught.value.lines.count("\n") == 1 and len(stub.requests) <= 6, "it stops at once"
        with pytest.raises(OutputError, match=r"none of [56] replies"):
            judge(answers, stub)
        assert len(stub.requests) <= 6 and judged(answers) == {}


def test_a_judge_that_often_gives_no_verdict_grades_nothing(answers):
    says = "8 of 24 replies of m are no verdicts, and nothing was graded"
    vague = Stub(judging(lambda case: "well" if "more or less" in case["answer"] else honest(case)))
    with vague as stub, pytest.raises(OutputError, match=says):
        judge(answers, stub)
    assert judged(answers) == {}


def test_an_answer_without_a_verdict_is_counted_named_and_never_correct(answers):
    def agrees(case):
        return "well, yes" if case["question"].startswith("which of these is number 6?") else honest(case)

    with Stub(judging(agrees), fault=lambda _, body: FILTERED if "number 9?" in str(body) else None) as stub:
        made = judge(answers, stub)
        assert judge(answers, stub).facts["requests"] == 0, "neither is asked again"
    assert set(made.facts["no_verdict"]) == {"q6", "q9"} and made.facts["unparsed"] == 2
    assert "well, yes" in made.facts["no_verdict"]["q6"] and "filtered" in made.facts["no_verdict"]["q9"]
    assert "2 answers without a verdict count as wrong (first: q" in made.text
    rows = judged(answers)["judge:m@1"].filter(pl.col("id").is_in(["q6", "q9"]))
    assert rows["correct"].to_list() == [False, False] and set(rows["parse_status"]) == {"unparsed"}


def test_answers_that_are_shown_alike_are_asked_once(tmp_path):
    rows = [question(number, choices=None, question="which?", answer="red") for number in range(10)]
    data = write_rows(tmp_path / "data", rows)
    with Stub(lambda body: "RED") as stub:
        step("extract", model="m", endpoint=stub.url, dataset=data, out=tmp_path / "s.zarr")
    with Stub(judging(lambda case: case["answer"] == "RED")) as stub:
        made = judge(tmp_path / "s.zarr", stub)
        assert len(stub.requests) == 1 and made.facts["accuracy"] == 1.0 and made.facts["samples"] == 10
        judge(tmp_path / "s.zarr", stub, judge_model="other")
        assert len(stub.requests) == 2, "another model judges for itself"
    assert set(judged(tmp_path / "s.zarr")) == {"judge:m@1", "judge:other@1"}


def test_caps_hold_over_all_runs_of_a_judge(answers, tmp_path):
    costs = tmp_path / "prices.yaml"
    costs.write_text(PRICES)
    with Stub(judging(honest)) as stub:
        with pytest.raises(InvalidInputError, match=r"no prices of m are given: its answers cannot be capped at \$3"):
            judge(answers, stub, max_usd=3)
        with pytest.raises(OutputError, match="5 requests were sent, as many as are allowed"):
            judge(answers, stub, max_requests=5)
        assert len(stub.requests) == 5
        with pytest.raises(OutputError, match=r"are allowed") as caught:
            judge(answers, stub, max_usd=103, costs=costs, workers=1)
        n = len(stub.requests)
        assert "raise --max-usd" in caught.value.hint and 5 < n < 24 and judged(answers) == {}
        made = judge(answers, stub, max_usd=1000, costs=costs)
        assert len(stub.requests) == 24 and made.facts["dollars"] == pytest.approx(2.4)


def test_a_request_without_an_answer_may_have_cost_something(answers, tmp_path):
    costs = tmp_path / "prices.yaml"
    costs.write_text(PRICES)
    with Stub(judging(honest), fault=lambda number, body: HANGS if number == 1 else None) as stub:
        made = judge(answers, stub, costs=costs, timeout=0.5)
        assert len(stub.requests) == 25 and made.facts["dollars"] == pytest.approx(2.4)
        assert made.facts["dollars_in_doubt"] > 0 and "for requests without an answer" in made.text
        again = judge(answers, stub, costs=costs)
        assert again.facts["dollars_in_doubt"] == made.facts["dollars_in_doubt"], "it counts in later runs"


def test_a_killed_run_asks_nobody_twice(answers):
    script = (
        "import sys; sys.path.insert(0, 'tests/helpers'); from stepping import step; "
        f"step('grade', store={str(answers)!r}, grader='judge', judge_model='m', endpoint=sys.argv[1], workers=4)"
    )
    with Stub(judging(honest), latency_s=0.03) as stub:
        for n in (4, 12):
            running = subprocess.Popen([sys.executable, "-c", script, stub.url])
            while len(stub.requests) < n and running.poll() is None:
                time.sleep(0.005)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
            time.sleep(0.1)
        assert judged(answers) == {}
        made = judge(answers, stub)
        # A verdict that was on its way to a killed run is lost with it: at most as many as it has workers.
        assert 24 <= len(stub.requests) <= 24 + 2 * 4 and made.facts["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"grader": "judge"}, "asks a model; what is not given: judge_model, endpoint"),
        ({"grader": "judge", "judge_model": "m"}, "asks a model; what is not given: endpoint"),
        ({"grader": "exact", "judge_model": "m"}, "judge_model is given, and the grader exact asks no model"),
        ({"endpoint": "http://x"}, "endpoint is given, and the grader of the store asks no model"),
        ({"grader": "judge", "judge_model": "a b", "endpoint": "http://x"}, "must be at most 80 letters"),
        ({"grader": "judge", "judge_model": "@" * 70, "endpoint": "http://x"}, "name of 228 characters, more than 210"),
        ({"grader": "judge", "judge_model": "m", "endpoint": "ftp://x"}, "is no web address"),
        (
            {"grader": "judge", "judge_model": "m", "endpoint": "http://x", "api_key_env": "NO_KEY"},
            "no variable NO_KEY",
        ),
    ],
)
def test_mistakes(answers, fields, says):
    with pytest.raises(RelopeError, match=says) as caught:
        step("grade", store=answers, **fields)
    assert caught.value.lines.count("\n") <= 1 and judged(answers) == {}


def test_an_extraction_asks_no_judge(tmp_path):
    with pytest.raises(InvalidInputError, match="asks a model, which is done once the answers are there") as caught:
        step("extract", model="tiny-vl", dataset="tiny", limit=2, grader="judge", out=tmp_path / "x.zarr")
    assert "--judge-model" in caught.value.hint and not (tmp_path / "x.zarr").exists()


def test_responses_of_a_file(tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [{"question": "which?", "response": text, "gold": "red"} for text in ("It is red.", "It is blue.", "")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Stub(judging(honest)) as stub:
        fields = {"responses": path, "grader": "judge", "judge_model": "org/m:8b@x", "endpoint": stub.url}
        made = step("grade", **fields)
        assert [row["correct"] for row in made.payload] == [True, False, False] and len(stub.requests) == 2
        assert case_of(stub.requests[0][2])[1]["question"] == "which?"
        step("grade", **fields)
        assert len(stub.requests) == 2
    assert "judged by judge:org/m:8b@x@1: 1 right" in made.text
    assert bare_grader("judge:org/m:8b@x@1") == "judge:org/m:8b@x"
    assert grader_flags("judge:org/m:8b@x@1") == "--grader judge --judge-model org/m:8b@x --endpoint URL"


def test_names_of_judges_and_their_files():
    assert grades_path(Path("x"), "judge:a@b", "1").name == "judge+3Aa+40b@1.parquet"
    from relope.store.format.layout import is_grades_name
    from relope.store.grade_names import grades_name, grades_stem

    for name in ("judge:gpt-4.1@2", "judge:org/m:8b@x@1", "judge:@cf/a+b@1", "exact@4", "judge.strict@0123"):
        stem = grades_stem(name)
        assert grades_name(stem) == name and is_grades_name(f"{stem}.parquet")
    for stranger in ("judge+3A@1", "judge+3Aa+1B[31m@1", "judge+3aa@1", "judge+3Aa b@1", "a+3@1"):
        assert grades_name(stranger) == stranger


def test_both_models_are_judged_by_one_judge_and_routers_by_another_say_so(store_path, answers, tmp_path):
    """A3 holds for judges, and a router that learned from other grades says so."""
    import shutil

    small = shutil.copytree(store_path, tmp_path / "tiny.zarr")
    large, asked = tmp_path / "large.zarr", {"dataset": "tiny", "split": "test", "limit": 80, "device": "cpu"}
    step("extract", model="tiny-vl-large", tokens="lean", out=large, **asked)
    step("fit", method="probe", store=small, set={"head": "logistic"})
    step("predict", router=f"{small}.routers/probe", store=small)
    with Stub(judging(honest)) as stub:
        judge(small, stub)
        with pytest.raises(InvalidInputError, match=r"is judged by judge:m@1, but .*has grades by auto@") as caught:
            step("evaluate", store=small, large_store=large, bootstrap=100, out=tmp_path / "report")
        assert "--grader judge --judge-model m --endpoint URL" in caught.value.hint
        judge(large, stub)
    made = step("evaluate", store=small, large_store=large, bootstrap=100, out=tmp_path / "report")
    report = json.loads((made.path / "report.json").read_text())
    assert report["provenance"]["grader"] == "judge:m@1"
    assert "probe learned from grades by auto@" in json.dumps(report) and "by judge:m@1" in json.dumps(report)
    step("fit", method="probe", store=small, set={"head": "logistic"}, grades="judge:m@1", out=tmp_path / "router")
    assert json.loads((tmp_path / "router" / "router.json").read_text())["grader"] == "judge:m@1"


def test_a_store_that_has_grown_says_how_it_is_judged(answers, tmp_path):
    with Stub(judging(honest)) as stub:
        judge(answers, stub)
    data = write_rows(tmp_path / "more", [question(number, choices=None, answer="red") for number in range(24, 28)])
    source = tmp_path / "data" / "mine.jsonl"
    source.write_text(source.read_text() + data.read_text())
    for picture in (tmp_path / "more").glob("*.png"):
        picture.rename(
            tmp_path / "data" / f"{24 + int(picture.stem)}.png" if picture.stem < "24" else source.parent / picture.name
        )
    with Stub(lambda body: "red") as stub:
        step("extract", model="m", endpoint=stub.url, dataset=source, out=answers)
    with pytest.raises(InvalidInputError, match="have no grade by judge:m@1") as caught:
        step("fit", method="logprob", store=answers)
    assert "--grader judge --judge-model m --endpoint URL" in caught.value.hint
    with Stub(judging(honest)) as stub:
        judge(answers, stub)
        assert len(stub.requests) == 4


def test_grades_of_judges_are_shared(answers, tmp_path):
    with Stub(judging(honest)) as stub:
        judge(answers, stub)
    step("store push", store=answers, uri=f"file://{tmp_path}/shared.zarr")
    step("store pull", uri=f"file://{tmp_path}/shared.zarr", out=tmp_path / "pulled.zarr")
    with open_store(tmp_path / "pulled.zarr") as store:
        assert counting(store) == "judge:m@1" and len(read_grades(store, "judge:m@1").table) == 24
