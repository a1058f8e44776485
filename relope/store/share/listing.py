"""What is at a URI: the parts of a store, or the stores of a folder."""

from typing import Any

from relope.errors import StoreError
from relope.places import Place, as_place
from relope.store.format.layout import is_part_id
from relope.store.share.remote import open_remote
from relope.store.share.snapshot import Mirror, in_threads, mirrored, nothing_there, stores_below


def listing(uri: str) -> dict[str, Any]:
    """Return JSON values that describe what is at a URI.

    Returns:
        ``uri`` and either the facts of a store with its ``parts``, or ``stores``, a list of such facts;
        of a store that cannot be read, ``error``. A sample that is in two parts is counted twice.

    Raises:
        NotFoundError: nothing is there.
    """
    place = as_place(uri)
    remote = open_remote(place)
    with mirrored(remote) as mirror:
        if mirror.open():
            return {**_facts(mirror), "parts": _parts(mirror)}
    below = stores_below(remote)
    if not below:
        raise nothing_there(remote)
    return {"uri": place.uri, "stores": in_threads(_store_facts, below)}


def _store_facts(place: Place) -> dict[str, Any]:
    try:
        with mirrored(open_remote(place)) as mirror:
            return _facts(mirror)
    except StoreError as error:  # one damaged store does not hide the others
        return {"uri": place.uri, "error": str(error)}


def _facts(mirror: Mirror) -> dict[str, Any]:
    manifest = mirror.manifest
    mirror.refresh()
    mirror.fetch_commits(mirror.catalog.parts)
    commits = [mirror.commit(part) for part in mirror.catalog.parts]
    return {
        "uri": mirror.uri,
        "model": str(manifest.recorded.get("model", "")),
        "dataset": str(manifest.recorded.get("dataset", "")),
        "layers": list(manifest.layers),
        "recipe_id": manifest.recipe_id,
        "content_id": mirror.catalog.content_id,
        "catalog": mirror.catalog.number,
        "n_parts": len(mirror.catalog.parts),
        "n_samples": sum(commit.n_samples for commit in commits),
        "n_bytes": sum(commit.n_bytes for commit in commits),
        "unfinished": [part for part in mirror.unsealed() if is_part_id(part)],
    }


def _parts(mirror: Mirror) -> list[dict[str, Any]]:
    commits = [mirror.commit(part) for part in mirror.catalog.parts]
    return [
        {"part": found.part, "n_samples": found.n_samples, "n_tokens": found.n_tokens, "n_bytes": found.n_bytes}
        for found in commits
    ]
