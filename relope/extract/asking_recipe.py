"""What decides the answers of a model that runs elsewhere, as the manifest of their store."""

from typing import Any

from relope.extract.answer_store import answers_manifest
from relope.extract.data import prompts
from relope.extract.extraction import Extraction
from relope.extract.grading.own_grader import is_own
from relope.provenance import versions
from relope.store import StoreManifest


def asking_manifest(extraction: Extraction, url: str, max_pixels: int | None) -> StoreManifest:
    """Return the manifest of the store that an endpoint's answers make.

    The model's name keys it, and not the address: it is the same model wherever it is asked, and a server has
    another port tomorrow. What the server calls the model that has answered stands in each row.

    Args:
        extraction: what is asked.
        url: where, without user and password.
        max_pixels: larger images are made smaller.
    """
    dataset, view = extraction.dataset, extraction.view
    generation: dict[str, Any] = {"greedy": True, "max_new_tokens": extraction.max_new_tokens}
    if extraction.stops:
        generation["stop"] = list(extraction.stops)
    shown = {} if max_pixels is None else {"max_pixels": max_pixels}
    identity = {
        **view.identity,
        **shown,
        "model": extraction.model.name,
        "runs": "elsewhere",
        "dataset": dataset.identity,
        "prompts": prompts.VERSION,
        "text_only": view.text_only,
        "generation": generation,
    }
    recorded = {
        "model": extraction.model.name,
        "endpoint": url,
        **dataset.told,
        **view.recorded,
        "versions": versions(),
    }
    own = extraction.grader is None or is_own(extraction.grader)
    return answers_manifest(identity, recorded, dataset.grader if own else str(extraction.grader))
