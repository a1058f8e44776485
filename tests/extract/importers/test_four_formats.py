"""The same answers in four formats of other tools are the same store, and the same hybrid numbers as the local one."""

import pytest
from foreign_files import MODEL, inspect_log, inspect_sample, lm_eval, outcomes, told, vlmevalkit
from stepping import step

from relope import registry
from relope.extract.importing.formats import format_of, importer
from relope.extract.importing.source import Source
from relope.store import open_store


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The large model's answers to the questions of the small model's store."""
    path = tmp_path_factory.mktemp("large") / "large.zarr"
    step("extract", model="tiny-vl-large", dataset="tiny", split="test", limit=80, tokens="lean", out=path)
    return path


@pytest.fixture(scope="module")
def files(large, tmp_path_factory):
    """Format → a file of the large model's answers."""
    folder, rows = tmp_path_factory.mktemp("files"), told(large)
    (folder / MODEL).mkdir()
    return {
        "outcomes": outcomes(folder / "outcomes.csv", rows),
        "vlmevalkit": vlmevalkit(folder / MODEL / f"{MODEL}_tiny_result.xlsx", rows),
        "lm-eval": lm_eval(folder / "lm", rows),
        "inspect": inspect_log(folder / "log.eval", [inspect_sample(row) for row in rows]),
    }


def test_a_format_is_told_from_the_file(files):
    for name, path in files.items():
        assert format_of(Source(path)) == name


@pytest.mark.parametrize("name", registry.names("importers"))
def test_every_importer_is_one(name):
    module = importer(name)
    assert isinstance(module.NEEDS, str) and callable(module.recognises) and callable(module.read)


def test_four_formats_give_the_numbers_of_the_local_store(large, files, store_path, tmp_path):
    step("predict", router="logprob", store=store_path, out=tmp_path / "s" / "logprob.parquet")

    def report(other, out):
        made = step(
            "evaluate", store=store_path, scores=tmp_path / "s", large_store=other, bootstrap=100, out=tmp_path / out
        )
        return made.report

    local = report(large, "local")
    contents, content_of_row = set(), set()
    for name, path in files.items():
        out = tmp_path / f"{name}.zarr"
        done = step("import", files=[str(path)], store=store_path, out=out)
        assert done.facts["formats"] == [name] and list(done.stores) == [MODEL] and "(80 by id)" in done.text
        theirs = report(out, name)
        assert theirs.hybrid == local.hybrid and theirs.curves == local.curves and theirs.large_name == MODEL
        assert any("imported@1" in warning.text for warning in theirs.warnings)
        step("grade", store=out)  # and judged anew, by the grader of both
        again = report(out, f"{name}-again")
        assert again.hybrid == local.hybrid and not any("imported@1" in warning.text for warning in again.warnings)
        asked = open_store(out).samples
        contents.add(tuple(asked["response"]))
        content_of_row.add(tuple(asked["asked"]))
    assert len(contents) == 1 and len(content_of_row) == 1
