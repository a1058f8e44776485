"""Plug-ins are found by file name, read without importing, and unknown ones are named."""

import json
import subprocess
import sys

import pytest

from relope import registry
from relope.errors import NotFoundError


def test_names_come_from_files_with_dashes():
    assert {"attention-probe", "question-kind", "relope"} <= set(registry.names("methods"))
    assert {"tiny-vl", "tiny-vl-large"} <= set(registry.names("backbones"))
    assert not [name for kind in registry.FOLDERS for name in registry.names(kind) if name.startswith("_")]


@pytest.mark.parametrize("kind", sorted(registry.FOLDERS))
def test_every_plugin_has_a_summary_and_loads(kind):
    for name in registry.names(kind):
        assert registry.summary(kind, name).endswith("."), name
        assert registry.load(kind, name).__doc__


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(NotFoundError, match=r"unknown method 'prob' .*did you mean 'probe'\?"):
        registry.load("methods", "prob")


def test_listing_imports_no_plugin():
    code = (
        "import sys; from relope import registry; [registry.names(k) for k in registry.FOLDERS]; "
        "print([m for m in sys.modules if m.startswith('relope.probes')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", sorted(registry.FOLDERS))
def test_a_version_is_the_same_before_and_after_a_plugin_is_imported(kind):
    script = (
        "import json, sys; from relope import registry; kind = sys.argv[1]\n"
        "told = {name: registry.version(kind, name) for name in registry.names(kind)}\n"
        "loaded = {name: str(getattr(registry.load(kind, name), 'VERSION', '')) for name in told}\n"
        "print(json.dumps([told, loaded]))"
    )
    done = subprocess.run([sys.executable, "-c", script, kind], capture_output=True, text=True, check=True)
    told, loaded = json.loads(done.stdout)
    assert told == loaded and told
