"""A store of answers without states: everything that needs none works, the rest says in one line what is missing."""

import json
import shutil

import pytest
from made_answers import retold
from made_stores import flip, names_at
from stepping import step

from relope.errors import InvalidInputError, NotFoundError, RelopeError, StoreError
from relope.extract.answer_store import answers_manifest, seal_answers
from relope.store import StoreManifest, StoreUnion, convert, info, open_store, verify
from relope.store.format.content import answer_content
from relope.store.info import info_rows
from relope.store.labels import IMPORTED, write_labels
from relope.store.share.gc import gc
from relope.store.share.listing import listing
from relope.store.share.pull import merge, pull
from relope.store.share.push import push
from relope.types import Answer, Usage


@pytest.fixture(scope="session")
def kept_answers(store_path, tmp_path_factory):
    """Eighty answers, graded."""
    path = retold(store_path, tmp_path_factory.mktemp("told") / "told.zarr")
    step("grade", store=path)
    return path


@pytest.fixture
def answers(kept_answers, tmp_path):
    """The same, to be spoiled."""
    return shutil.copytree(kept_answers, tmp_path / "told.zarr")


def test_it_is_read_whole_and_has_no_arrays(kept_answers, store):
    opened = open_store(kept_answers)
    assert verify(kept_answers, deep=True) == [] and opened.manifest.format_version == 3
    assert opened.layers == () and opened.manifest.answers_only and "answers only" in repr(opened)
    mine = store.samples.filter(store.samples["split"] == "test").sort("id")
    told = opened.samples.sort("id")
    for column in ("response", "asked", "input", "group", "logprobs", "entropies"):
        assert told[column].to_list() == mine[column].to_list(), column
    assert told["prompt_tokens"].sum() == sum(100 + number for number in range(80))
    folder = kept_answers / "parts" / opened.parts[0]
    assert {path.name for path in folder.iterdir()} == {
        "zarr.json",
        "samples.parquet",
        "thumbnails.parquet",
        "COMMIT.json",
    }
    rows = dict(info_rows(info(opened)))
    assert rows["states"] == "none: answers only, format 3" and rows["tokens"].startswith("prompt 11,160, completion ")


def test_it_travels(kept_answers, tmp_path, team):
    uri = f"{team}/told.zarr"
    push(kept_answers, uri)
    assert not any("/hidden/" in name or "/last/" in name for name in names_at(uri))
    pull(uri, tmp_path / "back.zarr")
    assert verify(tmp_path / "back.zarr", deep=True) == []
    again, first = open_store(tmp_path / "back.zarr"), open_store(kept_answers)
    assert again.content_id == first.content_id and again.samples.equals(first.samples)
    assert listing(uri)["layers"] == [] and listing(uri)["n_samples"] == 80
    remote = open_store(uri)
    assert remote.samples["response"].to_list() == first.samples["response"].to_list()
    pull(uri, tmp_path / "some.zarr", splits=("test",))
    assert open_store(tmp_path / "some.zarr").content_id == first.content_id


def test_it_is_merged_converted_joined_and_swept(kept_answers, store_path, tmp_path):
    half = retold(store_path, tmp_path / "half.zarr", limit=5)
    merge([half, kept_answers], tmp_path / "both.zarr")
    first = open_store(kept_answers)
    merged = open_store(tmp_path / "both.zarr")
    assert merged.content_id == first.content_id and verify(tmp_path / "both.zarr", deep=True) == []
    convert(kept_answers, tmp_path / "again.zarr", codec="zstd")
    assert open_store(tmp_path / "again.zarr").content_id == first.content_id
    assert gc(tmp_path / "again.zarr") == []
    assert len(StoreUnion([first, open_store(half)])) == 80
    for asked in ({"layers": (4,)}, {"tokens": "lean"}, {"bfloat16": True}):
        with pytest.raises(NotFoundError, match=r"told\.zarr holds answers only: it has no "):
            convert(kept_answers, tmp_path / "other.zarr", **asked)


def test_whatever_needs_states_says_so(kept_answers, store_path, tmp_path):
    opened = open_store(kept_answers)
    reads = [
        lambda: opened.last(4),
        lambda: opened.answer(),
        lambda: opened.read(4),
        lambda: list(opened.batches(4, size=2)),
        lambda: opened.to_torch(4, size=2),
        lambda: opened.tokens(),
        lambda: step("store verify", store=kept_answers, against_model=2),
        lambda: step("predict", router=tmp_path / "probe", store=kept_answers),
        lambda: step(
            "explain", router=tmp_path / "attention-probe", store=kept_answers, sample=opened.samples["id"][0]
        ),
    ]
    for method in ("probe", "attention-probe"):
        step("fit", method=method, store=store_path, out=tmp_path / method, set={"epochs": 1})
    for method in ("probe", "attention-probe", "relope", "mot", "posthoc", "fusion"):
        reads.append(lambda method=method: step("fit", method=method, store=kept_answers, split="test"))
    reads.append(lambda: step("fit", method="logprob", store=kept_answers, split="test", layer=4))
    reads.append(lambda: step("sweep", method="probe", store=kept_answers, split="test", grid={"lr": ["1e-3"]}))
    for read in reads:
        with pytest.raises(RelopeError) as caught:
            read()
        assert caught.value.lines.count("\n") <= 1
        assert "told.zarr holds answers only: it has no " in str(caught.value) or "needs sampled traces" in str(
            caught.value
        )
    assert not (kept_answers.parent / "told.zarr.routers").exists()


def test_evaluate_takes_it_as_the_large_model(answers, store_path, tmp_path):
    large = tmp_path / "large.zarr"
    step("extract", model="tiny-vl-large", dataset="tiny", split="test", limit=80, tokens="lean", out=large)
    told = retold(large, tmp_path / "told-large.zarr", model="gpt-4.1")
    step("grade", store=told)
    step("predict", router="logprob", store=store_path, out=tmp_path / "scores" / "logprob.parquet")
    hybrids = []
    for number, other in enumerate((large, told)):
        report = step(
            "evaluate",
            store=store_path,
            scores=tmp_path / "scores",
            large_store=other,
            bootstrap=100,
            out=tmp_path / f"r{number}",
        ).report
        hybrids.append((report.hybrid, report.curves, report.large_name))
    assert hybrids[0][:2] == hybrids[1][:2] and hybrids[1][2] == "gpt-4.1"
    for router in ("logprob", "perplexity", "entropy"):
        step("predict", router=router, store=told, out=tmp_path / "told" / f"{router}.parquet")
    report = step("evaluate", store=told, scores=tmp_path / "told", bootstrap=100, out=tmp_path / "r2").report
    assert report.n == 80 and report.small_name == "gpt-4.1"


def test_log_probs_that_nobody_told_are_named(store_path, tmp_path):
    told = retold(store_path, tmp_path / "silent.zarr", confident=False)
    with pytest.raises(
        NotFoundError, match=r"logprob needs the logprobs of each answer, which 80 of 80 samples .* lack"
    ):
        step("predict", router="logprob", store=told)


def test_verdicts_of_another_tool_are_grades(answers):
    opened = open_store(answers)
    read = step("grade", store=answers).grades
    verdicts = {name: number % 2 == 0 for number, name in enumerate(opened.samples["id"])}
    path, table, changed = write_labels(opened, verdicts, read, IMPORTED)
    assert changed and path.name == "imported@1.parquet" and table["correct"].sum() == 40
    assert not write_labels(opened, verdicts, read, IMPORTED)[2]
    assert verify(answers, deep=True) == []


def test_damage_is_found(answers):
    part = answers / "parts" / open_store(answers).parts[0]
    flip(part / "samples.parquet", 999)
    assert any(problem.file == "samples.parquet" for problem in verify(answers, deep=True))
    with pytest.raises(StoreError, match="sha256"):
        _ = open_store(answers).samples


def test_a_row_that_was_changed_under_new_digests_is_found(answers, tmp_path):
    from made_stores import reseal

    from relope.store import read_samples
    from relope.store.format.catalog import parts_content_id

    (name,) = open_store(answers).parts
    part = answers / "parts" / name
    frame = read_samples(answers, name)
    frame[3, "response"] = "something else"
    frame.write_parquet(part / "samples.parquet")
    reseal(part)
    assert parts_content_id(answers, [name])
    found = verify(answers, deep=True)
    assert len(found) == 1 and "does not hash to its content digest" in found[0].what


def test_content_does_not_hang_on_how_a_table_types_its_columns():
    row = {"id": "a", "latency_s": 1, "logprobs": [-1, -0.5], "cost_usd": None, "choices": []}
    typed = {"latency_s": 1.0, "id": "a", "logprobs": [-1.0, -0.5], "choices": [], "answered_by": None}
    assert answer_content(row) == answer_content(typed) != answer_content({**row, "latency_s": 2})


def test_what_fits_no_store_of_answers_is_refused(tmp_path, questions):
    manifest = answers_manifest({"model": "m"}, {"model": "m"}, "auto")
    with pytest.raises(InvalidInputError, match="store of answers only has format 3"):
        StoreManifest(manifest.identity, (), 0, "", (), format_version=2)
    from relope.store import create_or_open

    writer = create_or_open(tmp_path / "x.zarr", manifest)
    parts = seal_answers(
        writer, [(sample, Answer(str(n), usage=Usage(latency_s=n))) for n, sample in enumerate(questions)]
    )
    assert (
        len(parts) == 1
        and json.loads((tmp_path / "x.zarr" / "parts" / parts[0] / "COMMIT.json").read_text())["n_tokens"] == 0
    )
    with pytest.raises(InvalidInputError, match="takes none"), writer.part(["z"]) as part:
        part.append([{"id": "z"}], [None])


@pytest.mark.parametrize("asked", [("fit", {}), ("sweep", {"grid": {"epochs": (1,)}})])
def test_that_there_are_no_states_is_said_before_anything_of_splits(kept_answers, tmp_path, asked):
    name, more = asked
    with pytest.raises(
        NotFoundError, match=r"told\.zarr holds answers only: it has no hidden states, which probe reads"
    ):
        step(name, method="probe", store=kept_answers, split=("train",), out=tmp_path / "x", **more)
    with pytest.raises(NotFoundError, match="unknown split"):
        step(name, method="question-kind", store=kept_answers, split=("train",), out=tmp_path / "x")
