"""A stack of several stored layers: each method at a layer of its own, as it would be there by itself."""

import dataclasses

import numpy as np
import pytest

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.probes.at_layer import make_member
from relope.probes.examples import Examples
from relope.probes.folds import FromFeatures, group_folds
from relope.probes.protocol import Explains, make
from relope.probes.router import load_router
from relope.probes.side_by_side import all_out_of_fold
from relope.spec import FitSpec
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers
from relope.types import no_progress

SETTINGS = {"methods": "kernel-probe,statistics-probe,probe,relope,question-kind", "folds": 2, "epochs": 1, "z": 8}


@pytest.fixture
def deep(deep_store_path):
    with ActivationStore.open(deep_store_path) as opened:
        yield opened


@pytest.fixture
def training(deep):
    rows, correct = labelled(deep, ("train",), None)
    return Examples(deep, rows, correct, 4, grades=parsed_answers(deep, rows, None))


def test_what_reads_states_is_stacked_once_a_layer_and_block_l_runs_at_the_router_s():
    stack = make("fusion-prefill", {**SETTINGS, "layers": "2,4"})
    states = [f"{name}@{layer}" for name in ("kernel-probe", "statistics-probe", "probe") for layer in (2, 4)]
    assert list(stack.members_) == [*states, "relope", "question-kind"]
    assert stack.layers(4) == (1, 2, 3, 4) and make("fusion-prefill", SETTINGS).layers(4) == (3, 4)


@pytest.mark.parametrize(("name", "given"), [("kernel-probe", {}), ("probe", {"epochs": 1, "members": 2})])
def test_a_member_is_the_method_as_it_is_at_that_layer(training, name, given):
    at_2 = dataclasses.replace(training, layer=2)
    member, plain = make_member(f"{name}@2", given).fit(training, seed=0), make(name, given).fit(at_2, seed=0)
    assert np.array_equal(member.predict_proba(training), plain.predict_proba(at_2))
    assert not np.array_equal(member.predict_proba(training), plain.predict_proba(training))
    assert isinstance(member, FromFeatures) == isinstance(plain, FromFeatures) == (name == "kernel-probe")
    if isinstance(member, FromFeatures):
        assert np.array_equal(member.features(training), plain.features(at_2))


def test_it_explains_its_own_layer(training):
    at_2 = dataclasses.replace(training, layer=2)
    member = make_member("attention-probe@2", {"epochs": 1}).fit(training, seed=0)
    assert isinstance(member, Explains)
    plain = make("attention-probe", {"epochs": 1}).fit(at_2, seed=0)
    assert all(map(np.array_equal, member.token_weights(training), plain.token_weights(at_2)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_router_of_several_layers_is_read_again_as_it_was(deep_store_path, training, tmp_path, jobs):
    settings = {**SETTINGS, "layers": [2, 4], "methods": "kernel-probe,probe,question-kind", "members": 2}
    settings.pop("z")
    spec = FitSpec(method="fusion-prefill", store=deep_store_path, set=settings, jobs=jobs, out=tmp_path / "r")
    steps.run(spec)
    fitted = make("fusion-prefill", settings).fit(training, seed=0)
    loaded = load_router(tmp_path / "r").probe
    assert np.array_equal(loaded.predict_proba(training), fitted.predict_proba(training))
    assert list(loaded.members_) == list(fitted.members_)


def test_members_of_one_shape_do_not_go_on_from_one_another(training, tmp_path):
    members = {name: make_member(name, {"epochs": 3}) for name in ("probe@2", "probe@4", "posthoc")}
    folds = group_folds(training.groups, 2, 0, "fusion")
    kept, plain = (
        all_out_of_fold(members, dataclasses.replace(training, state=state), folds, 0, no_progress)[1]
        for state in (tmp_path / "state.safetensors", None)
    )
    assert len(list(tmp_path.iterdir())) == len(members)
    for name in members:
        assert np.array_equal(kept[name].predict_proba(training), plain[name].predict_proba(training)), name


def test_a_layer_behind_the_router_s_is_refused(training):
    with pytest.raises(InvalidInputError, match="fusion decides at layer 3, layers=4 lies behind it"):
        make("fusion", {"layers": "2,4", "methods": "probe"}).fit(dataclasses.replace(training, layer=3), seed=0)


def test_a_layer_that_the_store_lacks_is_named(store_path, tmp_path):
    with pytest.raises(NotFoundError, match=r"layer 1 is not in .*tiny.zarr \(has 3, 4\)"):
        steps.run(FitSpec(method="fusion-prefill", store=store_path, set={"layers": "2,4"}, out=tmp_path / "r"))


@pytest.mark.parametrize(("given", "said"), [("0,2", "must be at least 1"), ("a", "must be a whole number")])
def test_what_is_no_layer_is_refused(given, said):
    with pytest.raises(InvalidInputError, match=f"setting layers='{given}': {said}"):
        make("fusion", {"layers": given})
