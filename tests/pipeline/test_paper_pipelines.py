"""The paper's own pipelines from end to end, on miniatures of its models and data sets."""

import json

import pytest
from miniature import serve

from relope import registry, steps
from relope.evaluate.numbers.persample import read_report
from relope.pipeline.file import packaged_file
from relope.pipeline.ledger import Ledger
from relope.pipeline.plan import plan
from relope.pipeline.runner import run_pipeline
from relope.probes.protocol import method_class
from relope.spec import build

N = 30
SHORTER = {
    "&backbones [qwen2.5-vl-7b, gemma3-12b, phi4-multimodal]": "&backbones [qwen2.5-vl-7b]",
    "&seeds [0, 1, 2]": "&seeds [0, 1]",
    'captions/${matrix.data}.jsonl"': 'captions/${matrix.data}.jsonl", max_new_tokens: 8',
    "samples: 5,": "samples: 2, trace_tokens: 4,",
}
"""What makes the runs short; the rest of the file is as it is."""


class Quiet:
    """A board that shows nothing."""

    def begin(self, number, label):
        return lambda done, total: None

    def end(self, number, label, text):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a pipeline into a folder that all share; return its last output's record."""
    root = tmp_path_factory.mktemp("paper")
    text = packaged_file().read_text()
    for old, new in SHORTER.items():
        assert old in text
        text = text.replace(old, new)
    path, out = root / "pipelines.yaml", root / "out"
    path.write_text(text)

    def go(name):
        planned = plan(path, name, out)
        run_pipeline(planned, Ledger.open(out), 1, Quiet())
        return json.loads((planned[-1].output / "study.json").read_text()), out

    with pytest.MonkeyPatch.context() as patch:
        serve(patch.setattr, root / "hub", N)
        yield go


def labelled(report):
    """Return what a report says of each method: samples, seeds, and whether it was scored out of fold."""
    folded = report.provenance["out_of_fold"]
    return {row.method: (row.n, list(row.seeds), row.method in folded) for row in report.methods}


def test_table1(run):
    study, out = run("table1")
    assert study["tables"][0]["columns"] == [
        "method",
        "condition",
        f"mmmu, n={N}",
        f"aokvqa, n={N}",
        f"scienceqa, n={N}",
    ]
    assert study["what"].endswith("did not see a question's group: mmmu.")
    records = study["tables"][0]["records"]
    assert len(records) == 5 * 3 * 3 and all(record["value"] is not None for record in records)
    for name, folded in (("mmmu", True), ("mmmu-text", True), ("aokvqa", False), ("scienceqa-text", False)):
        report = read_report(out / "table1/reports" / name)
        assert labelled(report) == {
            "question-kind": (N, [0], folded),
            "question-confidence": (N, [0], folded),
            "probe": (N, [0, 1], folded),
            "attention-probe": (N, [0, 1], folded),
            "relope": (N, [0, 1], folded),
        }
        assert (
            report.what.endswith(
                "Scored out of fold: attention-probe, probe, question-confidence, question-kind, relope."
            )
            is folded
        )


def test_table3(run):
    study, _ = run("table3")
    assert [table["name"] for table in study["tables"]] == ["table3_regenerated", "table3_frozen", "table3_published"]
    (shown, *_) = study["tables"]
    assert shown["columns"] == ["method", "clean", "noise", "jpeg", "blur", "ΔAUC"] and len(shown["records"]) == 3 * 5


def test_table4(run):
    study, out = run("table4")
    records = study["tables"][0]["records"]
    assert len(records) == 6 * 5 and all(record["n"] == N and record["value"] is not None for record in records)
    for name in ("mmmu", "chartqa"):
        report = read_report(out / "table4/reports" / name)
        assert set(report.provenance["transferred"]) == {row.method for row in report.methods}
        assert not report.provenance["out_of_fold"]  # the routers learned from the other data sets alone


def test_table2_and_figure2(run):
    study, out = run("table2")
    columns = [f"{name}, n={N}" for name in ("mmmu", "mathvision", "aokvqa", "scienceqa", "chartqa")]
    assert study["tables"][0]["columns"] == ["model", "method", *columns, "average"]
    records = study["tables"][0]["records"]
    assert len(records) == 15 * 5 and all(record["value"] is not None for record in records)
    printed = {record["method"] for record in records if record["published"] is not None}
    assert printed == {"mot", "cascade", "routellm-sw", "posthoc", "probe", "attention-probe", "relope"}
    for name in ("mmmu", "mathvision", "chartqa"):
        report = read_report(out / f"table2/reports/qwen2.5-vl-7b-{name}")
        trained = {method for method in registry.names("methods") if method_class(method).traits.trains}
        for method, (n, seeds, folded) in labelled(report).items():
            assert n == N and folded is (method in trained and name != "chartqa")
            assert len(seeds) == (2 if method in ("probe", "attention-probe", "relope") else 1)
    for data in ("mmmu", "mathvision", "aokvqa", "scienceqa", "chartqa"):
        steps.run(
            build(
                "extract",
                {
                    "model": "gemma3-12b",
                    "dataset": data,
                    "tokens": "lean",
                    "device": "cpu",
                    "out": str(out / f"stores/large-{data}.zarr"),
                },
            )
        )
    study, _ = run("figure2")
    assert [report["folder"].rpartition("-")[2] for report in study["reports"]] == [
        "mmmu",
        "mathvision",
        "aokvqa",
        "scienceqa",
        "chartqa",
    ]
    assert {record["model"] for record in study["tables"][0]["records"]} == {"qwen2.5-vl-7b"}
