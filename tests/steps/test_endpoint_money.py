"""Dollars at an endpoint: what was paid is neither lost nor asked for again, and counts against every later cap."""

import json

import pytest
from asked_samples import answers_of
from openai_stub import HANGS, Reply, Stub
from stepping import question, step, write_rows

from relope.errors import OutputError
from relope.extract.allowance import Allowance, Bill, estimate
from relope.extract.answer_journal import AnswerJournal, journal_path
from relope.extract.asking import Asking
from relope.extract.endpoint import client
from relope.steps import asking
from relope.store import open_store
from relope.types import Answer, Sample, Usage

pytestmark = pytest.mark.usefixtures("no_waits")
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}
EACH = 0.2
"""Dollars of an answer of this usage."""


@pytest.fixture
def data(tmp_path):
    """Twelve questions with a picture each, six of them tests."""
    return write_rows(tmp_path / "data", [question(number) for number in range(12)])


@pytest.fixture
def extract(data, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "models:\n  gpt-4.1: {dollars_per_million_prompt_tokens: 1000, dollars_per_million_answer_tokens: 10000}\n"
    )
    fields = {"model": "gpt-4.1", "dataset": data, "out": tmp_path / "gpt.zarr", "costs": prices, "max_new_tokens": 1}
    return lambda stub, **more: step("extract", endpoint=stub.url, **fields | more)


def table_of(data, usage=USAGE):
    return answers_of(data, lambda sample: Reply(sample.answers[0], usage=usage))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("then", [{"split": "test"}, {"split": "train", "limit": 2}])
def test_answers_that_a_later_run_does_not_ask_for_are_kept(data, extract, tmp_path, monkeypatch, batch, then):
    """A run ends before it has sealed anything; one of another split, or of fewer samples, then comes to its end."""
    with Stub(table_of(data)) as stub:
        with monkeypatch.context() as patch:
            patch.setattr(asking, "_seal", _interrupts)
            with pytest.raises(KeyboardInterrupt):
                extract(stub, split="train", batch=batch)
        n = sum(stub.counts.values())
        assert n == 6
        made = extract(stub, **then)
        assert made.facts["dollars"] == pytest.approx(EACH * sum(stub.counts.values()))
        assert journal_path(tmp_path / "gpt.zarr").exists()
        made = extract(stub)
        assert set(stub.counts.values()) == {1} and len(stub.counts) == 12, "nobody is asked twice"
        assert made.facts["dollars"] == pytest.approx(EACH * 12)
    assert len(open_store(tmp_path / "gpt.zarr")) == 12 and not journal_path(tmp_path / "gpt.zarr").exists()


def _interrupts(job, pairs):
    if pairs:
        raise KeyboardInterrupt


def test_what_a_killed_run_has_sealed_and_not_listed_is_spent(data, extract, monkeypatch):
    with Stub(table_of(data)) as stub:
        extract(stub, split="test")
        with monkeypatch.context() as patch:
            patch.setattr("relope.store.StoreWriter.publish", _dies)
            with pytest.raises(KeyboardInterrupt):
                extract(stub, split="train", limit=5)
        with pytest.raises(OutputError, match=r"answers have cost \$2\.2000"):
            extract(stub, max_usd=2.3)


def _dies(writer, order=None):
    if len(writer.committed()) == 11:
        raise KeyboardInterrupt


def test_a_request_without_an_answer_counts_as_what_it_may_have_cost(data, extract, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    with Stub(table_of(data), fault=lambda number, body: HANGS) as stub:
        with pytest.raises(OutputError, match=r"has not answered .*asked 2 times"):
            extract(stub, workers=1, timeout=0.3, max_usd=5)
        assert len(stub.requests) == 2
        with pytest.raises(OutputError, match=r"\$0.0000, requests without an answer perhaps \$4\.\d+; the next may"):
            extract(stub, workers=1, timeout=0.3, max_usd=5)
        assert len(stub.requests) == 2, "a rerun does not spend it again"
    with Stub(table_of(data)) as stub:
        made = extract(stub, max_usd=100)
        assert made.facts["unanswered"] == 2 and 4 < made.facts["dollars_in_doubt"] < 5
        assert made.facts["dollars"] == pytest.approx(12 * EACH) and "for 2 requests without an answer" in made.text
        extract(stub)
    assert journal_path(tmp_path / "gpt.zarr").exists(), "it counts for good"


def test_a_question_is_not_sent_again_where_the_first_time_may_have_spent_the_rest(data, extract):
    with Stub(table_of(data), fault=lambda number, body: HANGS) as stub:
        with pytest.raises(OutputError, match="requests without an answer perhaps"):
            extract(stub, workers=1, timeout=0.3, max_usd=3)
        assert len(stub.requests) == 1


def test_bills_of_a_store_that_never_came_to_be_stand_in_no_way(data, extract, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    with Stub(table_of(data), fault=lambda number, body: HANGS if number == 1 else None) as stub:
        with pytest.raises(OutputError, match="has not answered"):
            extract(stub, workers=1, timeout=0.3)
        assert extract(stub, max_new_tokens=2).facts["unanswered"] == 0


@pytest.mark.parametrize("batch", [False, True])
def test_an_answer_that_is_withheld_is_paid_for(data, extract, tmp_path, batch):
    table = table_of(data)
    table[next(iter(table))] = Reply("I", finish_reason="content_filter", usage=USAGE)
    with Stub(table) as stub:
        made = extract(stub, batch=batch)
        assert made.facts["refused"] == 1 and made.facts["dollars"] == pytest.approx(12 * EACH)
        made = extract(stub, batch=batch)
        assert made.facts["dollars"] == pytest.approx(13 * EACH), "asked again, and paid again"


def test_what_a_server_counts_corrects_what_a_question_may_cost(data, extract, tmp_path):
    """An image of 8,000 tokens is taken for 2,000 once, and never again: not by this run, nor by the next."""
    with Stub(table_of(data, {"prompt_tokens": 8000, "completion_tokens": 0})) as stub:
        for _ in range(2):
            with pytest.raises(OutputError, match=r"answers have cost \$16\.0000; the next may cost \$8\."):
                extract(stub, workers=1, max_usd=20)
            assert len(stub.requests) == 2


def test_more_than_the_cap_is_told(data, extract, caplog):
    with Stub(table_of(data, {"prompt_tokens": 8000, "completion_tokens": 0})) as stub:
        extract(stub, split="train", limit=2, batch=True, max_usd=10)
    assert "answers have cost $16.0000, and $10 were allowed" in caplog.text


def test_every_turn_of_a_question_is_estimated():
    long = Sample("a", "mine", "test", "Why?", ("b",), system="s" * 1000, earlier=(("user", "u" * 3000),))
    short = Sample("a", "mine", "test", "Why?", ("b",))
    asks = Asking(None, False, None, 7, (), 1, Allowance())
    assert asks.estimate(long).prompt_tokens - asks.estimate(short).prompt_tokens >= 2000
    assert estimate("four", 7, 2) == Usage(4002, 7)


def test_questions_that_a_cancelled_batch_has_not_answered_are_lost(data, extract, tmp_path, monkeypatch):
    real = Stub._polled

    def cancelled(self, name):
        batch = real(self, name)
        if batch["status"] == "completed":
            batch["status"] = "cancelled"
            file = batch["output_file_id"]
            self.files[file] = b"".join(self.files[file].splitlines(keepends=True)[:5])
        return batch

    with Stub(table_of(data)) as stub:
        monkeypatch.setattr(Stub, "_polled", cancelled)
        with pytest.raises(OutputError, match=r"7 questions of the batch have no answer .*its batch is cancelled"):
            extract(stub, batch=True)
        assert len(open_store(tmp_path / "gpt.zarr")) == 5
        monkeypatch.setattr(Stub, "_polled", lambda self, name: {**self.batches[name], "status": "expired"})
        with pytest.raises(OutputError, match=r"failed the batch batch-1: it is expired, without answers"):
            extract(stub, batch=True)
        monkeypatch.setattr(Stub, "_polled", real)
        assert extract(stub, batch=True).facts["computed"] == 7


def test_an_answer_to_what_a_sample_was_before_is_paid_for_still(tmp_path):
    path = tmp_path / "x.jsonl"
    journal = AnswerJournal(path, "r")
    journal.add("a", "1", Answer("old", usage=Usage(1, 2)))
    journal.close()
    journal = AnswerJournal(path, "r")
    journal.add("a", "2", Answer("new", usage=Usage(3, 4)))
    journal.close()
    journal = AnswerJournal(path, "r")
    assert journal.answers["a"][0] == "2" and journal.bills == [Bill(Usage(1, 2), certain=True)]
    journal.close(sealed={"a"})
    assert [json.loads(line).keys() for line in path.read_text().splitlines()] == [{"recipe"}, {"bill", "certain"}]


def test_a_file_that_another_run_has_replaced_is_not_added_to(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    AnswerJournal(path, "r").close()
    path.write_text('{"recipe": "r"}\n')
    real, opened = path.__class__.open, []

    def replaced(self, *arguments, **options):
        file = real(self, *arguments, **options)
        if opened.append(1) or len(opened) > 1:
            return file
        path.unlink()
        path.write_text('{"recipe": "r"}\n')
        return file

    monkeypatch.setattr(path.__class__, "open", replaced)
    with pytest.raises(OutputError, match="another run is adding to"):
        AnswerJournal(path, "r")
