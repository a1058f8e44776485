"""What keys a recipe: the same digest as ever, the fields by name, and nothing that can be changed."""

import copy
import hashlib
import json

import pytest
from made_stores import make_manifest

from relope.errors import StoreError
from relope.store import Identity

FIELDS = {
    "model_files": "ab",
    "compute_dtype": "bfloat16",
    "attention": "sdpa",
    "dataset": {"repository": "a/b"},
    "text_only": False,
    "generation": {"greedy": True, "max_new_tokens": 16},
    "perturbation": {"kind": "blur", "strength": 2.0},
    "layers": (3, 4),
    "something_later": [1, {"x": None}],
}


def test_the_digest_is_that_of_the_canonical_json():
    text = json.dumps(json.loads(json.dumps(FIELDS)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert Identity(FIELDS).recipe_id == hashlib.sha256(text.encode()).hexdigest()
    assert make_manifest(identity=FIELDS).recipe_id == Identity(FIELDS).recipe_id
    assert make_manifest(identity=Identity(FIELDS)).recipe_id == Identity(FIELDS).recipe_id
    assert Identity(dict(reversed(FIELDS.items()))).recipe_id == Identity(FIELDS).recipe_id


def test_it_reads_like_a_mapping_of_json_values():
    identity = Identity(FIELDS)
    assert identity["layers"] == [3, 4] and identity.get("quantize") is None and len(identity) == 9
    assert dict(identity) == json.loads(json.dumps(FIELDS)) == identity
    assert copy.copy(identity) == copy.deepcopy(identity) == identity
    with pytest.raises(TypeError):
        identity["layers"] = [1]
    FIELDS["something_later"].append(2)
    assert identity["something_later"] == [1, {"x": None}], "what it was made of may change afterwards"
    FIELDS["something_later"].pop()


def test_fields_by_name():
    identity = Identity(FIELDS)
    assert (identity.model_files, identity.compute_dtype, identity.attention) == ("ab", "bfloat16", "sdpa")
    assert identity.layers == (3, 4) and identity.dataset == {"repository": "a/b"} and not identity.text_only
    assert identity.generation["max_new_tokens"] == 16 and identity.has_answers and identity.quantize == ""
    assert identity.perturbation == {"kind": "blur", "strength": 2.0}
    states = identity.with_fields(generation={"max_new_tokens": 0}, quantize="int4", text_only=True)
    assert not states.has_answers and states.quantize == "int4" and states.text_only and identity.has_answers
    bare = Identity({"fixture": 1})
    assert (bare.perturbation, bare.generation, bare.dataset, bare.quantize) == ({}, {}, {}, "")
    for name in ("model_files", "compute_dtype", "attention", "layers"):
        with pytest.raises(StoreError, match=f"the store's identity has no {name}"):
            getattr(bare, name)


def test_where_two_differ():
    identity = Identity(FIELDS)
    other = identity.with_fields(layers=[3, 5], captions="cd")
    assert identity.differing(other) == other.differing(identity) == ["captions", "layers"]
    assert identity.differing(dict(identity)) == []
