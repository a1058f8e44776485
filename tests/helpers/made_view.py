"""A pair of stores with scores for the page of `relope view`, some of whose texts try to run as a script."""

import json

import numpy as np
from PIL import Image

from relope import steps
from relope.evaluate.scores import ScoresMeta, write_scores
from relope.provenance import write_bytes
from relope.spec import ImportSpec, ViewSpec
from relope.steps.view import page_of
from relope.steps.view_inputs import viewed
from relope.store import open_store

EVIL = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
N = 130
"""Samples: more than two blocks of the list."""


def made_pair(folder, n=N):
    """Two stores of answers, the first with the scores of two routers; every number of them is known.

    Sample k is split test below 100, else dev; the small model is right unless k is divisible by 3, the large
    one unless by 7. Router ``up`` gives k / n, ``down`` the reverse.
    """
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), "teal").save(folder / "a.png")
    for model, wrong in (("small", 3), ("large", 7)):
        rows = [
            {
                "id": EVIL if k == 5 else f"s{k:03d}",
                "question": f"{EVIL} which?" if k == 5 else f"what is {k}?",
                "choices": ["a red one", EVIL if k == 5 else "a blue one"],
                "split": "test" if k < 100 else "dev",
                "image": str(folder / "a.png"),
                "response": f"B {EVIL}" if k == 5 else "B",
                "correct": k % wrong != 0,
            }
            for k in range(n)
        ]
        file = folder / f"{model}.jsonl"
        write_bytes(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
        steps.run(ImportSpec(files=(str(file),), model=model, out=folder / f"{model}.zarr"))
    store = open_store(folder / "small.zarr")
    ids = store.samples["id"].to_list()
    place = np.array([5 if name == EVIL else int(name[1:]) for name in ids]) / n
    for name, values in (("up", place), ("down", 1 - place)):
        meta = ScoresMeta(name, None, None, store.recipe_id, store.content_id, None, 0, needs_training=False)
        write_scores(folder / "small.zarr.scores" / f"{name}.parquet", ids, values, meta)
    return folder


def view_of(folder, **fields):
    """The page of the pair."""
    usual = {"source": str(folder / "small.zarr"), "large_store": str(folder / "large.zarr"), "port": 0}
    spec = ViewSpec(**usual | fields)
    return page_of(spec, viewed(spec))
