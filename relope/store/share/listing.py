"""What is at a URI: the parts of a store, or the stores of a folder."""

from typing import Any

from relope.errors import StoreError
from relope.locations import Location, as_location
from relope.store.format.layout import is_part_id
from relope.store.share.schemes import open_remote
from relope.store.share.snapshot import RemoteSnapshot, no_store, snapshot_of, stores_below
from relope.store.share.threads import in_threads


def listing(uri: str) -> dict[str, Any]:
    """Return JSON values that describe what is at a URI.

    Returns:
        ``uri`` and either the facts of a store with its ``parts``, or ``stores``, a list of such facts;
        of a store that cannot be read, ``error``. A sample that is in two parts is counted twice.

    Raises:
        NotFoundError: nothing is there.
    """
    location = as_location(uri)
    remote = open_remote(location)
    with snapshot_of(remote) as snapshot:
        if snapshot.open():
            return {**_facts(snapshot), "parts": _parts(snapshot)}
    below = stores_below(remote)
    if not below:
        raise no_store(remote)
    return {"uri": location.uri, "stores": in_threads(_store_facts, below)}


def _store_facts(location: Location) -> dict[str, Any]:
    try:
        with snapshot_of(open_remote(location)) as snapshot:
            return _facts(snapshot)
    except StoreError as error:  # one damaged store does not hide the others
        return {"uri": location.uri, "error": str(error)}


def _facts(snapshot: RemoteSnapshot) -> dict[str, Any]:
    manifest = snapshot.manifest
    snapshot.refresh()
    snapshot.fetch_commits(snapshot.catalog.parts)
    commits = [snapshot.commit(part) for part in snapshot.catalog.parts]
    return {
        "uri": snapshot.uri,
        "model": str(manifest.recorded.get("model", "")),
        "dataset": str(manifest.recorded.get("dataset", "")),
        "layers": list(manifest.layers),
        "recipe_id": manifest.recipe_id,
        "content_id": snapshot.catalog.content_id,
        "catalog": snapshot.catalog.number,
        "n_parts": len(snapshot.catalog.parts),
        "n_samples": sum(commit.n_samples for commit in commits),
        "n_bytes": sum(commit.n_bytes for commit in commits),
        "unfinished": [part for part in snapshot.unsealed() if is_part_id(part)],
    }


def _parts(snapshot: RemoteSnapshot) -> list[dict[str, Any]]:
    commits = [snapshot.commit(part) for part in snapshot.catalog.parts]
    return [
        {"part": commit.part, "n_samples": commit.n_samples, "n_tokens": commit.n_tokens, "n_bytes": commit.n_bytes}
        for commit in commits
    ]
