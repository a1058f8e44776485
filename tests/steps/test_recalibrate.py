"""`relope calibrate --from-log`: what a log can promise, whether the old promise stands, and what it must not read."""

import json

import numpy as np
import pytest
from made_bundle import written_bundle

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.serve.bundle import load_bundle
from relope.serve.log import PartsLog
from relope.spec import build

N = 1500


def decision(number, score, threshold=0.5, shadow=True, **fields):
    decided = "large" if score < threshold else "small"
    route = "small" if shadow else decided
    return {
        "time": "2026-11-26T08:00:00+00:00", "kind": "decision", "request_id": f"req_{number:024x}", "route": route,
        "decided": decided, "reason": "score", "score": float(score), "p_correct": float(score), "threshold": threshold,
        "bundle": "f" * 12, "ended": "done", "session": f"{number:012x}", **fields,
    }  # fmt: skip


def outcome(line, correct):
    return {"kind": "feedback", "time": line["time"], "request_id": line["request_id"], "correct": bool(correct)}


def log_of(path, scores, judge=True, **fields):
    """Write a log whose small model is right as often as its score says."""
    rng = np.random.default_rng(0)
    lines = [decision(number, score, **fields) for number, score in enumerate(scores)]
    judged = [outcome(line, rng.random() < line["score"]) for line in lines if judge and line["route"] == "small"]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *judged]))
    return path


def calibrate(bundle, log, **fields):
    return steps.run(build("calibrate", {"bundle": str(bundle), "from_log": str(log), **fields}))


@pytest.fixture
def bundle(tmp_path):
    """A bundle that promises to escalate at most 50 % at 0.5."""
    return written_bundle(tmp_path / "b")


UNIFORM = np.random.default_rng(1).random(N)


def test_the_old_promise_is_checked(bundle, tmp_path):
    rng = np.random.default_rng(2)
    for scores, verdict in (
        (rng.beta(5, 2, N), "is kept: "), (rng.beta(2, 5, N), "is broken: "), (UNIFORM, "is not shown either way: "),
    ):  # fmt: skip
        log = log_of(tmp_path / "d.jsonl", scores, judge=False)
        done = calibrate(bundle, log, budget=0.3)
        assert verdict in done.text and "of 1,500 independent requests" in done.text
        made = load_bundle(done.path)
        assert done.path.name == "b.recalibrated" and 0.2 < (scores < made.threshold).mean() < 0.3
        assert made.promise.n == N and made.made.n_judged == 0 and made.calibration == load_bundle(bundle).calibration
        assert all(row.accuracy is None for row in made.table)
        assert "right on 0 of 0 that were judged" in (done.path / "README.md").read_text()


def test_an_error_is_promised_from_outcomes(bundle, tmp_path):
    done = calibrate(bundle, log_of(tmp_path / "d.jsonl", UNIFORM), max_error=0.2)
    made = load_bundle(done.path)
    assert 0.6 <= made.threshold < 0.75, "the error above t is (1 - t) / 2"
    assert "outcomes of 1,500 of 1,500 requests" in done.warnings[0].text
    row = next(row for row in made.table if row.threshold >= 0.6)
    assert row.accuracy == pytest.approx(0.8, abs=0.04) and row.accuracy_ci95[0] < 0.8 < row.accuracy_ci95[1]
    assert made.calibration(np.array([0.2, 0.8])) == pytest.approx([0.2, 0.8], abs=0.08)
    assert made.fingerprint != "f" * 64 and (done.path / "block_4" / "model.safetensors").is_file()
    again = calibrate(done.path, log_of(tmp_path / "e.jsonl", UNIFORM, bundle=made.fingerprint[:12]), max_error=0.25)
    assert "the old promise (error among kept at most 20 %" in again.text and " is kept: " in again.text


def test_of_what_was_escalated_nothing_is_known(bundle, tmp_path):
    log = log_of(tmp_path / "d.jsonl", UNIFORM, shadow=False)
    made = load_bundle(calibrate(bundle, log, max_error=0.4).path)
    assert made.threshold >= 0.5, "an error of 0.4 would do from 0.2 on, where nobody knows it"
    for row in made.table:
        assert (row.accuracy is None) == (row.threshold < 0.5)
    assert made.calibration == load_bundle(bundle).calibration
    assert abs(made.table[49].share - 0.5) < 0.01, "shares are of all requests"


def test_one_request_of_a_conversation_counts(bundle, tmp_path):
    log = log_of(tmp_path / "d.jsonl", UNIFORM, session="a" * 12)
    with pytest.raises(InvalidInputError, match="on 1 independent samples"):
        calibrate(bundle, log, budget=0.3)


@pytest.mark.parametrize(("goal", "beyond"), [({"budget": 0.3}, 0.3), ({"max_error": 0.3}, 0.3)])
def test_a_promise_of_one_of_each_conversation_says_what_all_of_them_come_to(bundle, tmp_path, goal, beyond):
    """A few long conversations are hard, and what they are kept of is wrong: one of each hides it."""
    rng = np.random.default_rng(3)
    lines, outcomes = [], []
    for number in range(3000):
        hard = number >= 1000
        score = rng.random() if "max_error" in goal else rng.uniform(0, 0.2) if hard else rng.random()
        session = "a" * 12 if hard else f"{number:012x}"
        lines.append(decision(number, score, session=session))
        outcomes.append(outcome(lines[-1], not hard and rng.random() < 0.9))
    log = tmp_path / "d.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *outcomes]))
    done = calibrate(bundle, log, **goal)
    made = load_bundle(done.path)
    promise, scores = made.promise, np.array([line["score"] for line in lines])
    below, wrong = scores < promise.threshold, ~np.array([each["correct"] for each in outcomes])
    by_hand = below.mean() if "budget" in goal else wrong[~below].mean()
    assert promise.on_all == pytest.approx(by_hand) and by_hand > beyond > promise.observed
    assert "with 95 % confidence where one query of each conversation counts (" in done.text
    assert f", {100 * by_hand:.1f} % where all of each count)" in done.text
    (warning,) = [each for each in done.warnings if each.severity == "unsure"]
    assert f"is {100 * by_hand:.1f} % where all samples of each conversation count, beyond the 30 %" in warning.text


def test_outcomes_of_a_file_and_parts(bundle, tmp_path):
    lines = [decision(number, score) for number, score in enumerate(UNIFORM[:400])]
    parts = PartsLog(tmp_path / "log")
    for line in [*lines, decision(9999, 0.3, bundle="e" * 12)]:
        parts.write(line)
    parts.close()
    about = tmp_path / "feedback.jsonl"
    told = [{"request_id": line["request_id"], "correct": True, "why": "two\u2028lines"} for line in lines]
    about.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told), encoding="utf-8")
    done = calibrate(bundle, tmp_path / "log", feedback=str(about), max_error=0.1)
    made = load_bundle(done.path)
    assert (made.made.n, made.made.n_judged, made.made.n_correct) == (400, 400, 400)
    assert "1 request in the log was decided by another bundle" in done.warnings[1].text


def test_what_is_no_log(bundle, tmp_path):
    path = tmp_path / "d.jsonl"
    with pytest.raises(NotFoundError, match="there is no "):
        calibrate(bundle, path, budget=0.3)
    for text in ("{", "[1]"):
        path.write_text(text + "\n")
        with pytest.raises(StoreError, match="line 1 of"):
            calibrate(bundle, path, budget=0.3)
    path.write_text(json.dumps({"kind": "decision", "bundle": "f" * 12, "score": 0.5, "request_id": "req_1"}) + "\n")
    with pytest.raises(StoreError, match="a decision without route"):
        calibrate(bundle, path, budget=0.3)
    log_of(path, UNIFORM[:50], judge=False, bundle="e" * 12)
    with pytest.raises(InvalidInputError, match=r"no request that bundle f+ scored \(50 by others\)"):
        calibrate(bundle, path, budget=0.3)
    log_of(path, UNIFORM, judge=False)
    with pytest.raises(InvalidInputError, match="no outcome of the small model's answers"):
        calibrate(bundle, path, max_error=0.2)
    bad = tmp_path / "f.jsonl"
    bad.write_text('{"request_id": "req_1", "correct": "yes"}\n')
    with pytest.raises(StoreError, match="without request_id"):
        calibrate(bundle, path, feedback=str(bad), max_error=0.2)
