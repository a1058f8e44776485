"""What is at a URI: the parts of a store, or the stores of a folder."""

from typing import Any

from relope.places import Place, as_place
from relope.store.layout import is_part_id
from relope.store.mirror import Mirror, in_threads, mirrored, nothing_there, stores_below
from relope.store.push import n_samples
from relope.store.remote import open_remote


def listing(uri: str) -> dict[str, Any]:
    """Return JSON values that describe what is at a URI.

    Returns:
        ``uri`` and either the facts of a store with its ``parts``, or ``stores``, a list of such facts.

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
    with mirrored(open_remote(place)) as mirror:
        return _facts(mirror)


def _facts(mirror: Mirror) -> dict[str, Any]:
    manifest = mirror.manifest
    mirror.refresh()
    mirror.fetch_samples(mirror.catalog.parts)
    return {
        "uri": mirror.uri,
        "model": str(manifest.recorded.get("model", "")),
        "dataset": str(manifest.recorded.get("dataset", "")),
        "layers": list(manifest.layers),
        "recipe_id": manifest.recipe_id,
        "content_id": mirror.catalog.content_id,
        "catalog": mirror.catalog.number,
        "n_parts": len(mirror.catalog.parts),
        "n_samples": n_samples(mirror),
        "n_bytes": sum(mirror.commit(part).n_bytes for part in mirror.catalog.parts),
        "unfinished": [part for part in mirror.unsealed() if is_part_id(part)],
    }


def _parts(mirror: Mirror) -> list[dict[str, Any]]:
    commits = [mirror.commit(part) for part in mirror.catalog.parts]
    return [
        {"part": found.part, "n_samples": found.n_samples, "n_tokens": found.n_tokens, "n_bytes": found.n_bytes}
        for found in commits
    ]
