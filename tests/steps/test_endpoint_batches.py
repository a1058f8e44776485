"""The batch interface: uploaded, waited for, fetched; a run that is killed goes on waiting and asks nobody twice."""

import json

import pytest
from openai_stub import FILTERED, Fault, Reply, Stub, key_of
from stepping import question, step, write_rows

from relope.errors import InvalidInputError, OutputError
from relope.extract import batch_asking
from relope.extract.answer_journal import AnswerJournal, journal_path
from relope.extract.data.open import open_dataset
from relope.extract.endpoint.messages import messages_of
from relope.extract.view import View
from relope.store import open_store, verify

pytestmark = pytest.mark.usefixtures("no_waits")


class Killed(BaseException):
    """Stands for SIGKILL: nothing that handles errors sees it."""


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "data", [question(number) for number in range(8)])


def table_of(data):
    dataset = open_dataset(str(data))
    samples = View().worded(sample for name in ("train", "test") for sample in dataset.load(name, None))
    return {key_of(messages_of(sample, False, None)): sample.answers[0] for sample in samples}


def extract(data, stub, **more):
    fields = {"model": "gpt-4.1", "endpoint": stub.url, "dataset": data, "out": data.parent / "gpt.zarr", "batch": True}
    return step("extract", **fields | more)


def kept(data):
    path = data.parent / "gpt.zarr"
    assert verify(path, deep=True) == []
    return open_store(path).samples


def test_a_batch_is_uploaded_waited_for_and_fetched(data):
    with Stub(table_of(data)) as stub:
        made = extract(data, stub)
        assert made.facts["computed"] == 8 and made.facts["accuracy"] == 1.0 and not stub.requests
        (batch,) = stub.batches.values()
        assert (batch["endpoint"], batch["completion_window"], batch["polls"]) == ("/v1/chat/completions", "24h", 3)
        line = json.loads(stub.files[batch["input_file_id"]].splitlines()[0])
        assert line["method"] == "POST" and line["body"]["temperature"] == 0 and line["body"]["model"] == "gpt-4.1"
        assert extract(data, stub).reused and len(stub.batches) == 1 and set(stub.counts.values()) == {1}
    samples = kept(data)
    assert len(samples) == 8 and samples["latency_s"].null_count() == 8 and samples["prompt_tokens"].null_count() == 0
    assert not journal_path(data.parent / "gpt.zarr").exists()
    assert [path.name for path in data.parent.iterdir() if "jsonl" in path.name] == ["mine.jsonl"]


WHERE = ("wait", "submit", "begin", "take")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("then", [True, False])
def test_killed_it_goes_on_waiting(data, monkeypatch, where, then):
    """Killed while it waits, before and after the batch begins, and half-way through what was fetched."""
    with Stub(table_of(data), batch_polls=3) as stub, monkeypatch.context() as patch:
        if where == "wait":
            patch.setattr(batch_asking, "sleep", _kills())
        elif where == "submit":
            patch.setattr(AnswerJournal, "begun", _kills())
        elif where == "begin":
            patch.setattr(batch_asking, "begin", _kills())
        else:
            add = AnswerJournal.add
            patch.setattr(AnswerJournal, "add", lambda self, name, *rest: _third(self, add, name, *rest))
        with pytest.raises(Killed):
            extract(data, stub)
        patch.undo()
        patch.setattr(batch_asking, "sleep", lambda seconds: None)
        assert len(stub.files) >= 1
        extract(data, stub, batch=then)
        assert len(stub.batches) == 1 and set(stub.counts.values()) == {1} and len(stub.counts) == 8
        assert not stub.requests, "nor is anybody asked beside the batch"
    assert len(kept(data)) == 8


def _kills():
    def killed(*args):
        raise Killed

    return killed


def _third(journal, add, name, *rest):
    if len(journal.answers) == 3:
        raise Killed
    add(journal, name, *rest)


def test_what_a_batch_refuses_loses_and_withholds(data):
    table = table_of(data)
    keys = list(table)
    table[keys[0]] = Reply("I", finish_reason="content_filter")
    faults = {keys[1]: FILTERED, keys[2]: Fault(400, {"error": "too large"}), keys[3]: Fault(500, {"error": "oops"})}
    with Stub(table, fault=lambda number, body: faults.get(key_of(body["messages"]))) as stub:
        with pytest.raises(OutputError, match=r"1 questions of the batch have no answer .*answered 500.*oops"):
            extract(data, stub)
        assert len(kept(data)) == 4
        skipped = json.loads((data.parent / "gpt.zarr" / "skipped.json").read_text())["samples"]
        assert len(skipped) == 3
        faults.clear()
        made = extract(data, stub)
        assert made.facts["computed"] == 2 and made.facts["refused"] == 2, (
            "the filtered ones stay, the others are asked"
        )
    assert len(kept(data)) == 6


def test_a_cap_counts_questions_of_a_batch(data, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "models:\n  gpt-4.1: {dollars_per_million_prompt_tokens: 1000, dollars_per_million_answer_tokens: 10}\n"
    )
    with Stub(table_of(data)) as stub:
        with pytest.raises(OutputError, match="3 requests were sent, as many as are allowed"):
            extract(data, stub, max_requests=3)
        assert len(kept(data)) == 3 == sum(stub.counts.values())
        with pytest.raises(OutputError, match=r"those that are asked may cost \$.*\$5 are allowed"):
            extract(data, stub, max_usd=5, costs=prices, max_new_tokens=64)
        assert 3 < sum(stub.counts.values()) < 8


def test_a_failed_batch_and_a_server_without_batches(data, monkeypatch):
    with Stub(table_of(data)) as stub:
        monkeypatch.setattr(
            Stub,
            "_polled",
            lambda self, name: {
                **self.batches[name],
                "status": "failed",
                "errors": {"object": "list", "data": [{"message": "the file is too large"}]},
            },
        )
        with pytest.raises(OutputError, match=r"failed the batch batch-0: the file is too large"):
            extract(data, stub)
        assert not (data.parent / "gpt.zarr").exists()
    with Stub(table_of(data)) as stub:
        monkeypatch.setattr(Stub, "_other", lambda self, *args: (404, {"error": "no batches here"}))
        with pytest.raises(OutputError, match=r"answered 404 .*no batches here"):
            extract(data, stub)
        with pytest.raises(InvalidInputError, match="batches have no deployment"):
            extract(data, stub, endpoint="https://x.openai.azure.com/openai/deployments/d")
