"""pipelines.yaml → steps: references, matrices, and mistakes that are named."""

from pathlib import Path

import pytest

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.pipeline.file import packaged_file, pipelines_file, read_pipelines
from relope.pipeline.plan import plan
from relope.spec import SPECS, build


def written(tmp_path, text):
    path = tmp_path / "pipelines.yaml"
    path.write_text(text)
    return path


GOOD = """
mine:
  about: two fits
  stages:
    data:
      run: extract
      with: {model: tiny-vl, dataset: tiny, layers: [3, 4], out: "${out}/a.zarr"}
    fit:
      run: fit
      matrix: {method: [probe, relope], seed: [0, 1]}
      with: {method: "${matrix.method}", seed: "${matrix.seed}", store: "${data.out}"}
"""


def test_matrix_and_references(tmp_path):
    steps = plan(written(tmp_path, GOOD), "mine", Path("somewhere"))
    assert [step.spec.step for step in steps] == ["extract"] + ["fit"] * 4
    assert [(s.spec.method, s.spec.seed) for s in steps[1:]] == [
        ("probe", 0),
        ("probe", 1),
        ("relope", 0),
        ("relope", 1),
    ]
    assert steps[0].spec.layers == ("3", "4")
    assert all(step.spec.store == "somewhere/a.zarr" for step in steps[1:])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("run: fit", "run: fitt", r"mine: fit.*'fitt'.*did you mean 'fit'"),
        ("matrix:", "matrx:", r"mine: fit.*'matrx'.*did you mean 'matrix'"),
        ('seed: "${', 'sed: "${', r"key of .*mine: fit: fit 'sed'.*did you mean 'seed'"),
        ("${data.out}", "${dat.out}", r"reference in .*mine: fit 'dat\.out'"),
        ("${data.out}", "${data.ot}", r"reference in .*'data\.ot'.*did you mean 'data\.out'"),
        ("seed: [0, 1]", "seed: 3", r"matrix key seed must be a list"),
        ("seed: [0, 1]", "seed: [0, x]", r"mine: fit: seed='x'"),
        ("seed: [0, 1]", "seed: []", r"mine: fit: matrix key seed must be a list with something in it"),
        ("method: [probe", "method: [prob", r"unknown method in .*mine: fit 'prob'.*did you mean 'probe'"),
        ("dataset: tiny", "dataset: tinny", r"unknown dataset in .*mine: data 'tinny'.*did you mean 'tiny'"),
        ("model: tiny-vl", "model: tiny-v", r"unknown model in .*mine: data 'tiny-v'.*did you mean 'tiny-vl'"),
        ('store: "${data.out}"', 'store: "${data.out"', r"mine: fit: '\$\{data.out' has a \$\{ without its \}"),
        ("run: fit", "run: [fit]", r"mine: fit must have a `run`"),
        ("with: {model", "with: [1] # {model", r"mine: data: with must map names to values, not \[1\]"),
        ("    fit:", "    data:", r"is no valid YAML: 'data' comes twice\n.*line 8"),
    ],
)
def test_mistakes_name_file_stage_and_key(tmp_path, old, new, says):
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises((NotFoundError, InvalidInputError), match=says) as error:
        plan(path, "mine", Path("x"))
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_keys_are_text_and_names_may_be_paths_and_hub_ids(tmp_path):
    text = GOOD.replace("mine:", "3:").replace("    data:", "    1:").replace("{data.out}", "{1.out}")
    assert len(plan(written(tmp_path, text), "3", Path("x"))) == 5
    for model, dataset in (("./my/model", "mine.jsonl"), ("owner/name", str(tmp_path))):
        given = f"model: {model}, dataset: {dataset}"
        assert plan(written(tmp_path, GOOD.replace("model: tiny-vl, dataset: tiny", given)), "mine", Path("x"))
    with pytest.raises(InvalidInputError, match="mine: stages must map names to values, not 3"):
        read_pipelines(written(tmp_path, "mine: {stages: 3}"))


def test_unknown_pipeline_and_broken_yaml(tmp_path):
    with pytest.raises(NotFoundError, match="did you mean 'mine'"):
        plan(written(tmp_path, GOOD), "mien", Path("x"))
    with pytest.raises(InvalidInputError, match="no valid YAML"):
        read_pipelines(written(tmp_path, "a: [1"))
    with pytest.raises(InvalidInputError, match="must map"):
        read_pipelines(written(tmp_path, "- a"))


def test_ones_own_file_takes_the_place_of_the_packaged_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pipelines_file() == packaged_file()
    written(tmp_path, GOOD)
    assert pipelines_file() == Path("pipelines.yaml")


@pytest.mark.parametrize("name", sorted(read_pipelines(packaged_file())))
def test_every_packaged_pipeline_plans(name):
    steps = plan(packaged_file(), name, Path("runs") / name)
    assert steps[-1].spec.step in ("evaluate", "study")


def test_the_demo_fits_every_trained_method_and_scores_all_that_a_plain_store_serves():
    from relope import registry
    from relope.probes.protocol import method_class

    steps = plan(packaged_file(), "demo", Path("x"))
    trained = {name for name in registry.names("methods") if method_class(name).traits.trains}
    assert {s.spec.method for s in steps if s.spec.step == "fit"} == trained
    served = {name for name in registry.names("methods") if not method_class(name).traits.needs}
    assert {Path(s.spec.router).name for s in steps if s.spec.step == "predict"} == served


def test_every_step_waits_for_what_it_reads(tmp_path):
    text = """
mine:
  stages:
    data: {run: extract, with: {model: tiny-vl, dataset: tiny, out: a.zarr}}
    more: {run: extract, with: {model: tiny-vl, dataset: tiny, out: b.zarr, reuse: "${data.out}"}}
    judged: {run: grade, with: {store: "${data.out}"}}
    fit: {run: fit, with: {method: attention-probe, store: "${data.out}"}}
    lora: {run: fit, with: {method: relope, store: "${data.out}"}}
    folds: {run: fit, with: {method: probe, store: "${data.out}", folds: 5}}
    heat: {run: explain, with: {router: "${fit.out}", store: "${data.out}", sample: x}}
    peft: {run: export, with: {folder: "${lora.out}", out: peft}}
    one: {run: evaluate, with: {store: "${data.out}", out: one}}
    two: {run: evaluate, with: {store: "${data.out}", out: two, bootstrap: 100}}
    both: {run: compare, with: {first: "${one.out}", second: "${two.out}"}}
"""
    steps = {step.stage: step for step in plan(written(tmp_path, text), "mine", tmp_path)}
    places = list(steps)
    needs = {name: {places[place] for place in step.needs} - {"data", "judged"} for name, step in steps.items()}
    assert needs["more"] == set() and steps["more"].needs == {0} and needs["peft"] == {"lora"}
    assert needs["heat"] == {"fit"} and needs["one"] == needs["two"] == {"folds"} and needs["both"] == {"one", "two"}
    assert not any(step.lacks for step in steps.values())
    assert steps["heat"].output == Path("a.zarr.explained/x")


def test_specifications_have_help_for_every_field():
    for spec in SPECS.values():
        assert all(info.description for info in spec.model_fields.values())


def test_lists_may_be_written_with_commas():
    spec = build("extract", {"model": "m", "dataset": "tiny", "layers": "23, 24", "split": "train,test"})
    assert spec.layers == ("23", "24") and spec.split == ("train", "test")


EXTENDING = """
base:
  out: here
  stages:
    a: {run: extract, with: {model: tiny-vl, dataset: tiny, out: "${out}/a.zarr"}}
    b: {run: fit, with: {method: probe, store: "${a.out}"}}
quick:
  about: fewer
  extends: base
  with: {a: {limit: 3}}
"""


def test_a_pipeline_extends_another_with_some_fields_set(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(EXTENDING)
    steps = plan(path, "quick", tmp_path)
    assert [step.spec.step for step in steps] == ["extract", "fit"] and steps[0].spec.limit == 3
    assert plan(path, "base", tmp_path)[0].spec.limit is None and read_pipelines(path)["quick"]["out"] == "here"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("extends: base", "extends: bas"), "did you mean 'base'"),
        (("extends: base", "extends: quick"), "extends itself"),
        (("  extends: base\n", ""), "sets fields of the stages"),
        (("{a: {limit: 3}}", "{c: {limit: 3}}"), "unknown stage of base"),
        (("{a: {limit: 3}}", "{a: 3}"), "must map names to values"),
        (("  about: fewer\n", "  about: fewer\n  stages: {a: {run: fit}}\n"), "has both `extends` and `stages`"),
    ],
)
def test_a_wrong_extension_is_told(tmp_path, change, says):
    path = tmp_path / "p.yaml"
    path.write_text(EXTENDING.replace(*change))
    with pytest.raises(RelopeError, match=says):
        plan(path, "quick", tmp_path)
