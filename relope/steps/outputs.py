"""Where steps put what they make when nobody says otherwise: beside the store that it was made from."""

import re
from pathlib import Path

from relope.locations import is_uri, parse_uri
from relope.provenance import digest
from relope.store.share.snapshot import remote_ids

RUNS = Path("runs")


def store_path(dataset: str) -> Path:
    """Return the default folder of the store of a data set."""
    return RUNS / f"{dataset}.zarr"


def captions_path(dataset: str) -> Path:
    """Return the default file of a data set's captions."""
    return RUNS / f"{dataset}.captions.jsonl"


def outputs_beside(ref: Path | str) -> str:
    """Return what the default outputs of a store are named after: its path.

    Those of a URI lie in ``runs``, named after the store there, its recipe and its content: another store of the
    same name, here or elsewhere, has outputs of its own.

    Raises:
        NotFoundError: there is no store at the URI, or it cannot be reached.
    """
    if not is_uri(ref):
        return str(ref)
    recipe_id, content_id = remote_ids(str(ref))
    return str(RUNS / f"{parse_uri(str(ref)).name}-{recipe_id[:8]}-{content_id[:8]}")


def judged_path(ref: Path | str, judge: str) -> Path:
    """Return the file of a judge's verdicts on the answers of a store or a file.

    That of a URI is named after the store there and its recipe: it holds what is asked of a grown store too.

    Args:
        ref: the store or file.
        judge: what the file of the judge's grades is called.

    Raises:
        NotFoundError: there is no store at the URI, or it cannot be reached.
    """
    folder = str(ref)
    if is_uri(ref):
        recipe_id, _ = remote_ids(str(ref))
        folder = str(RUNS / f"{parse_uri(str(ref)).name}-{recipe_id[:8]}")
    return Path(f"{folder}.judged") / f"{judge}.jsonl"


def router_name(method: str, seed: int) -> str:
    """Return what a method's router is called; other seeds than 0 stand beside it."""
    return f"{method}@seed{seed}" if seed else method


def split_name(name: str) -> tuple[str, int | None]:
    """Return a router's or scores' name without its seed, and that seed."""
    seeded = re.fullmatch(r"(.+?)@seed(\d+)", name)
    return (seeded[1], int(seeded[2])) if seeded else (name, None)


def router_folder(store: Path | str, name: str) -> Path:
    """Return the default folder of a router."""
    return Path(f"{outputs_beside(store)}.routers") / name


def bundle_folder(store: Path | str, name: str) -> Path:
    """Return the default folder of a router's bundle."""
    return Path(f"{outputs_beside(store)}.bundles") / name


def scores_path(store: Path | str, name: str) -> Path:
    """Return the default file of a router's scores."""
    return Path(f"{outputs_beside(store)}.scores") / f"{name}.parquet"


def folds_path(store: Path | str, method: str, folds: int, seed: int) -> Path:
    """Return the default file of a method's out-of-fold scores."""
    return scores_path(store, router_name(f"{method}@folds{folds}", seed))


def explained_folder(store: Path | str, sample: str) -> Path:
    """Return the default folder of what explains a sample; an id that is no file name is made one."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in sample).lstrip(".")
    name = safe if safe == sample else f"{safe[:80]}-{digest(sample)[:8]}"
    return Path(f"{outputs_beside(store)}.explained") / name


def sweep_path(store: Path | str, method: str) -> Path:
    """Return the default file of a sweep."""
    return Path(f"{outputs_beside(store)}.sweeps") / f"{method}.parquet"


def report_folder(store: Path | str) -> Path:
    """Return the default folder of a report."""
    return Path(f"{outputs_beside(store)}.report")
