"""A bundle is served with the model, number type and preparation that it was fitted on, and with no other."""

import dataclasses
import json
import shutil
from dataclasses import replace

import pytest

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.model.card import locate, open_card
from relope.provenance import digest
from relope.serve.bundle import load_bundle
from relope.serve.engine import EngineSettings
from relope.serve.local.backbone import open_served
from relope.spec import build


@pytest.fixture(scope="module")
def folder(store_path, tmp_path_factory):
    """A bundle of a probe on the small store."""
    out = tmp_path_factory.mktemp("identity")
    router = steps.run(
        build("fit", {"method": "probe", "store": store_path, "set": {"head": "logistic"}, "out": out / "r"})
    )
    asked = {"router": str(router.path), "store": store_path, "split": "test", "budget": 0.5, "out": out / "bundle"}
    return steps.run(build("calibrate", asked)).path


@pytest.fixture
def copied(tmp_path):
    """A copy of the small model that a test may change."""
    return shutil.copytree(locate(open_card("tiny-vl"))[0], tmp_path / "copy")


def served(folder, model="", **settings):
    return open_served(load_bundle(folder), EngineSettings(model=str(model), device="cpu", **settings))


def test_its_own_model_is_served_also_from_another_folder(folder, copied):
    assert served(folder).compute_dtype == "float32"
    assert served(folder, copied).compute_dtype == "float32"
    with pytest.raises(NotFoundError, match=r"holds no config\.json"):
        served(folder, copied.parent)


def test_another_model_or_dtype_is_refused_and_both_sides_are_named(folder):
    with pytest.raises(InvalidInputError, match=r"is for tiny-vl, checkpoint \w{12}; tiny-vl-large has checkpoint"):
        served(folder, "tiny-vl-large")
    with pytest.raises(InvalidInputError, match=r"is for tiny-vl, dtype float32; tiny-vl has dtype bfloat16"):
        bundle = load_bundle(folder)
        bundle.check_backbone({**bundle.backbone, "compute_dtype": "bfloat16"}, "tiny-vl")


def test_a_router_of_prompts_in_their_own_words_says_so(folder):
    bundle = load_bundle(folder)
    assert not bundle.prompt_note
    worded = replace(bundle, backbone={**bundle.backbone, "prompt_template": "a" * 64})
    assert "learned from prompts in words of their own" in worded.prompt_note


@pytest.mark.parametrize("part", ["chat template", "image processor", "tokenizer"])
def test_another_preparation_of_prompts_is_named(folder, copied, part):
    if part == "chat template":
        path = copied / "chat_template.jinja"
        path.write_text(path.read_text().replace("user", "human") + " ")
    else:
        path = copied / ("tokenizer_config.json" if part == "tokenizer" else "processor_config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "changed": 1}))
    with pytest.raises(InvalidInputError, match=rf"is for tiny-vl, {part} \w{{12}}; .* has {part} \w{{12}}"):
        served(folder, copied)


def test_a_bundle_of_an_older_store_names_the_whole_preparation(folder, copied):
    bundle = load_bundle(folder)
    older = dataclasses.replace(bundle, backbone={k: v for k, v in bundle.backbone.items() if k != "processor"})
    (copied / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(InvalidInputError, match="tokenizer, chat template or image processor"):
        open_served(older, EngineSettings(model=str(copied), device="cpu"))


def test_a_template_that_took_the_place_of_the_models_own_travels_with_the_bundle(folder):
    bundle = load_bundle(folder)
    own = "{% for m in messages %}{{ m['content'] }}{% endfor %}>"
    ours = dataclasses.replace(bundle, chat_template=own, backbone={**bundle.backbone, "chat_template": digest(own)})
    assert open_served(ours, EngineSettings(device="cpu")).processor.chat_template == own
    with pytest.raises(InvalidInputError, match=r"tiny-vl, chat template \w{12}; tiny-vl has chat template \(none\)"):
        open_served(dataclasses.replace(ours, chat_template=""), EngineSettings(device="cpu"))


def test_a_store_is_held_against_it_with_its_prompts(folder, store):
    bundle, identity = load_bundle(folder), store.manifest.identity
    bundle.check_backbone(identity, "the store")
    with pytest.raises(InvalidInputError, match="prompt format"):
        bundle.check_backbone(identity.with_fields(prompts="0"), "another store")
