"""D: a mistake that needs no weights is told before torch or transformers load."""

import json
import subprocess
import sys

import pytest
from bench_spine import REFUSALS

from relope import registry
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.model.devices import check_device
from relope.probes.declared import declared_settings
from relope.probes.protocol import check_settings, method_class

IN_ONE_PROCESS = """
import json, sys
from typer.testing import CliRunner
from relope.cli import app
told = {}
for kind, command in json.loads(sys.argv[1]).items():
    said = CliRunner().invoke(app, command.split())
    heavy = [name for name in ("torch", "transformers", "sklearn", "datasets", "scipy") if name in sys.modules]
    told[kind] = [said.exit_code, said.stderr, heavy]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(store_path, tmp_path_factory):
    """Kind of mistake → its exit code, what was said, and the heavy libraries that it loaded."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "file").write_text("mine")
    commands = {kind: command.format(store=store_path, folder=folder) for kind, command in REFUSALS.items()}
    run = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", REFUSALS)
def test_d_a_refusal_loads_nothing_heavy(kind, told):
    """Its seconds are shown by benchmarks/bench_spine.py."""
    code, said, heavy = told[kind]
    assert code == 2 and said.startswith("error: ") and heavy == []


@pytest.mark.parametrize("method", registry.names("methods"))
def test_d_settings_that_a_file_declares_are_those_of_its_class(method):
    fields = method_class(method).Params.model_fields
    assert declared_settings(method) in (None, {name: info.default for name, info in fields.items()})


def test_d_most_files_declare_their_settings():
    assert {"probe", "relope", "attention-probe", "posthoc", "fusion"} <= {
        method for method in registry.names("methods") if declared_settings(method)
    }


def test_d_a_misspelt_setting_is_told_with_the_nearest():
    check_settings("probe", {"epochs": 3})
    check_settings("no-such-method", {"epochs": 3})
    for method in ("probe", "cascade"):
        with pytest.raises(InvalidInputError, match=r"no setting 'epoch'.*settings and defaults"):
            from relope.probes.protocol import make

            make(method, {"epoch": 3})
    with pytest.raises(InvalidInputError, match="did you mean 'epochs'"):
        check_settings("probe", {"epoch": 3})


def test_d_devices_by_name():
    for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:12"):
        check_device(name)
    for name in ("gpu", "cuda:", "CPU", "mps", "cuda:x", "", "meta"):
        with pytest.raises(InvalidInputError, match="there is: auto, cpu, cuda or cuda:0"):
            check_device(name)


def test_d_a_missing_router_folder_is_told_as_that(tmp_path):
    from relope.probes.router import load_router

    for name, says in ((tmp_path / "none", "is not there"), (tmp_path, "no router.json"), ("./probe", "is not there")):
        with pytest.raises(NotFoundError, match=says):
            load_router(name)
    with pytest.raises(NotFoundError, match="probe must be fitted first"):
        load_router("probe")
    assert load_router("logprob").record.method == "logprob"
