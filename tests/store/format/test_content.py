"""content_id: one value for one content, however it is cut, ordered or encoded."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
from made_stores import PARTS, Made, make_capture, make_manifest

from relope.store import ActivationStore, content_id


def test_digest_by_hand(build: Callable[..., Made]) -> None:
    made = build(manifest=make_manifest(tokens="lean", token_layers=(2,)), parts=[["c"]])
    capture = made.captures["c"]
    stream = b"hidden/2 bfloat16 1x6\n" + capture.hidden[2].tobytes()
    stream += b"last/3 bfloat16 1x6\n" + capture.hidden[3].tobytes()
    stream += b"answer bfloat16 1x6\n" + capture.answer.tobytes() + b"tokens int32 1x2\n" + capture.tokens.tobytes()
    content = hashlib.sha256(stream).hexdigest()
    root = hashlib.sha256(json.dumps([["c", content]], separators=(",", ":")).encode()).hexdigest()
    store = ActivationStore.open(made.path)
    assert store.samples["content"].to_list() == [content]
    assert store.content_id == root == content_id([("c", content)])


def test_order_and_cut_do_not_matter(build: Callable[..., Made]) -> None:
    stores = [build("1.zarr"), build("2.zarr", parts=PARTS[::-1]), build("3.zarr", parts=["gfedcba"])]
    roots = {ActivationStore.open(made.path).content_id for made in stores}
    assert len(roots) == 1
    assert roots != {ActivationStore.open(build("4.zarr", parts=["abc"]).path).content_id}


def test_one_changed_number_matters(build: Callable[..., Made]) -> None:
    one = build("1.zarr", parts=["c"])
    writer = build("2.zarr", parts=["a"]).writer
    changed = make_capture("c", one.manifest)
    changed.tokens[0, 0] += 1
    with writer.part(["c"]) as part:
        part.append([{"id": "c"}], [changed])
    writer.publish()
    first, second = ActivationStore.open(one.path).samples, ActivationStore.open(writer.path).samples
    assert first.filter(id="c")["content"].item() != second.filter(id="c")["content"].item()


def test_unpublished_parts_have_the_same_content_id(made: Made) -> None:
    published = ActivationStore.open(made.path).content_id
    for path in (made.path / "catalog").iterdir():
        path.unlink()
    store = ActivationStore.open(made.path)
    assert store.content_id == published
    assert list(store.parts) == sorted(made.parts)
    assert np.isfinite(store.last(2)).all()
