"""``import relope``: light, lazy, typed; every step a function with the fields of its specification."""

import inspect
import json
import keyword
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import relope
from relope.errors import InvalidInputError, NotFoundError
from relope.spec import SPECS

ROOT = Path(__file__).parents[1]


def test_importing_is_light():
    """Under 0.1 s is shown by benchmarks/bench_spine.py; here: that nothing heavy is loaded."""
    code = (
        "import sys, json, relope; assert relope.__version__; dir(relope); "
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in "
        "('pydantic', 'torch', 'numpy', 'polars', 'typer', 'rich', 'zarr', 'yaml')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_face_has_every_step_and_nothing_that_is_not_there():
    named = {f"{step}_" if keyword.iskeyword(step) else step.replace("-", "_") for step in SPECS if " " not in step}
    assert set(relope.STEPS) == named
    for name in relope.__all__:
        assert getattr(relope, name) is not None
    assert set(relope.__all__) <= set(dir(relope))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        relope.fitt  # noqa: B018


@pytest.mark.parametrize("step", relope.STEPS)
def test_a_step_s_arguments_are_its_fields(step):
    function, step = getattr(relope, step), step.removesuffix("_").replace("_", "-")
    assert set(inspect.signature(function).parameters) == set(SPECS[step].model_fields)
    documentation = function.__doc__ if inspect.isfunction(function) else relope._step(step).__doc__
    assert all(f"    {field}: " in documentation for field in SPECS[step].model_fields)
    ours = {name for spec in SPECS.values() for name in spec.model_fields}
    flags = [flag for flag in re.findall(r"--([a-z-]+)", documentation) if flag.replace("-", "_") in ours]
    assert not flags, "flags are the command line's, but for other programs'"


def test_a_package_that_is_a_step_too_can_be_called_and_entered():
    import relope.evaluate.numbers.metrics
    import relope.extract.data.prompts as prompts

    assert callable(relope.extract) and callable(relope.evaluate) and prompts.VERSION
    assert relope.evaluate.numbers.metrics.__name__ == "relope.evaluate.numbers.metrics"
    with pytest.raises(TypeError, match="without a name"):
        relope.evaluate("a store")


def test_mistakes_are_told_without_flags(tmp_path):
    with pytest.raises(NotFoundError, match="unknown key of fit 'epoch'"):
        relope.fit("probe", store=tmp_path, epoch=3)
    with pytest.raises(InvalidInputError) as caught:
        relope.extract(model="tiny-vl", dataset="tiny", limit=0)
    assert "limit=0" in str(caught.value) and "--" not in str(caught.value)


def test_the_stub_says_what_the_specifications_say():
    made = runpy.run_path(str(ROOT / "recipes" / "face_stub.py"))
    assert made["STUB"].read_text(encoding="utf-8") == made["stub"](), "python recipes/face_stub.py writes it"


def test_the_stub_is_what_a_type_checker_sees(tmp_path):
    script = tmp_path / "uses.py"
    script.write_text(
        "import relope\n"
        "made = relope.extract(model='tiny-vl', dataset='tiny', split=['train'], out='x.zarr')\n"
        "reveal_type(relope.evaluate(store=made.path).curves)\n"
        "relope.fit('probe', store=made.path, seed='three')\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--follow-imports", "silent", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Mapping[str" in done.stdout and "float | None" in done.stdout
    assert 'Argument "seed" to "fit" has incompatible type "str"' in done.stdout and "Found 1 error" in done.stdout
