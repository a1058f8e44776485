"""The step ``explain``: which tokens of a sample a router looks at."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from relope import registry
from relope.errors import InvalidInputError, RelopeError, unknown
from relope.evaluate.pages.attention import Patches, Word, render_attention
from relope.probes.examples import Examples
from relope.probes.protocol import Explains, method_class
from relope.probes.router import load_router
from relope.provenance import write_bytes
from relope.spec import ExplainSpec
from relope.steps.outputs import explained_folder
from relope.steps.reopen import recorded_samples
from relope.steps.step import Step
from relope.store import ActivationStore, open_store
from relope.types import Outcome, Watch

if TYPE_CHECKING:
    from PIL.Image import Image


def output(spec: ExplainSpec) -> Path:
    """Return the folder of the page."""
    return spec.out or explained_folder(spec.store, spec.sample)


def run(spec: ExplainSpec, watch: Watch) -> Outcome:
    """Write picture and page of one sample.

    Raises:
        NotFoundError: no such sample.
        InvalidInputError: the router's method looks at no tokens, or it was fitted on another recipe.
    """
    store = open_store(spec.store)
    router = load_router(spec.router)
    record, probe = router.record, router.probe
    if not isinstance(probe, Explains):
        can = [name for name in registry.names("methods") if issubclass(method_class(name), Explains)]
        raise InvalidInputError(f"{record.method} weighs no tokens and cannot be explained; can be: {', '.join(can)}")
    if record.recipe_id != store.recipe_id:
        raise InvalidInputError(
            f"{spec.router} was fitted on another recipe than {spec.store}", hint="fit it on this store"
        )
    found = store.samples.with_row_index("place").filter(store.samples["id"] == spec.sample)
    if not len(found):
        raise unknown("sample", spec.sample, store.samples["id"].head(20).to_list(), "these are the first 20 ids")
    examples = Examples(store, np.array([found["place"][0]], dtype=np.int64), None, record.layer)
    weights = probe.token_weights(examples)[0]
    score = float(router.score(store, examples.rows)[0])
    columns = store.manifest.token_columns
    tokens = dict(zip(columns, store.tokens(examples.rows)[0].T, strict=True))
    words = _words(store, tokens, weights)
    patches = _patches(tokens, weights)
    return _write(spec, store, found.to_dicts()[0], score, words, patches, weights)


def _write(
    spec: ExplainSpec, store: ActivationStore, sample: dict[str, Any], score: float,
    words: list[Word], patches: list[Patches], weights: npt.NDArray[np.float32],
) -> Outcome:  # fmt: skip
    out = output(spec)
    pictures, why = _pictures(store, sample["split"], spec.sample)
    if len(pictures) != len(patches):
        pictures = [None] * len(patches)
    on_images = float(sum(part.weights.sum() for part in patches))
    title = f"{spec.sample}: P(correct) = {score:.3f}"
    facts = {
        "sample": spec.sample,
        "score": score,
        "weight_on_images": on_images,
        "tokens": _facts(words, patches, len(weights)),
    }
    n_patches = sum(len(part.weights) for part in patches)
    notes = [
        f"{on_images:.1%} of the weight lies on {n_patches} image tokens, {1 - on_images:.1%} on "
        f"{len(weights) - n_patches} text tokens."
    ]
    notes += [why] if why else []
    shown = [None if picture is None else _data_uri(picture) for picture in pictures]
    page = render_attention(title, sample["response"], notes, shown, patches, words)
    write_bytes(out / "attention.html", page.encode())
    write_bytes(out / "weights.json", (json.dumps(facts, indent=1) + "\n").encode())
    text = f"{spec.sample}: P(correct) {score:.3f}, {on_images:.1%} of the weight on the image"
    return Outcome(out / "attention.html", False, f"{text} → {out / 'attention.html'}", facts)


def _facts(words: Sequence[Word], patches: Sequence[Patches], n_tokens: int) -> list[dict[str, Any]]:
    """Return one entry a token, in the order of the prompt."""
    found: list[dict[str, Any]] = [{}] * n_tokens
    for word in words:
        for place, weight in zip(word.indices, word.weights, strict=True):
            found[place] = {"token": place, "kind": "text", "text": word.text, "weight": weight}
    for number, part in enumerate(patches):
        for index, place in enumerate(part.indices):
            row, column = divmod(index, part.columns)
            found[place] = {"token": place, "kind": "image", "image": number, "row": row, "column": column,
                            "weight": float(part.weights[index])}  # fmt: skip
    return found


def _words(store: ActivationStore, tokens: dict[str, npt.NDArray[np.int32]], weights: Any) -> list[Word]:
    """Return the text's words with the weights of their tokens; a word begins at white space."""
    tokenizer = _tokenizer(store)
    found: list[Word] = []
    for run in _runs(tokens["kind"] == 0):
        ids = tokens["id"][run].tolist()
        before, pending = "", []
        for number, place in enumerate(run.tolist()):
            pending.append(place)
            whole = tokenizer.decode(ids[: number + 1], clean_up_tokenization_spaces=False) if tokenizer else ""
            piece = whole[len(before) :] if tokenizer else f"⟨{ids[number]}⟩"
            if tokenizer and whole.endswith("\ufffd") and number + 1 < len(ids):
                continue  # a character that the next token completes
            before = whole
            values = [float(weights[at]) for at in pending]
            glued = found and found[-1].indices[-1] == pending[0] - 1 and number and _glues(found[-1].text, piece)
            if glued:
                found[-1] = Word(found[-1].text + piece, found[-1].indices + pending, found[-1].weights + values)
            else:
                found.append(Word(piece, list(pending), values))
            pending = []
    return found


def _glues(before: str, piece: str) -> bool:
    """Return whether a token goes on with the word before it."""
    return bool(piece) and piece[0].isalnum() and before[-1:].isalnum()


def _runs(chosen: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Return the places of consecutive true values, one array a run."""
    places = np.flatnonzero(chosen)
    return [run for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(run)]


def _patches(tokens: dict[str, npt.NDArray[np.int32]], weights: npt.NDArray[np.float32]) -> list[Patches]:
    """Return each image's tokens as a grid: from rotary positions where they have rows and columns, else square."""
    found = []
    for run in _runs(tokens["kind"] == 1):
        side = round(len(run) ** 0.5)
        columns, known = (side, True) if side * side == len(run) else (max(1, side), False)
        if "position_3" in tokens:
            wide, high = (int(np.ptp(tokens[name][run])) + 1 for name in ("position_3", "position_2"))
            if wide * high == len(run):
                columns, known = wide, True
        found.append(Patches(run.tolist(), weights[run], columns, known))
    return found


def _tokenizer(store: ActivationStore) -> Any:
    """Open the recorded model's tokenizer, or return None where the model is not at hand."""
    from transformers import AutoTokenizer

    from relope.extract.model.card import locate, open_card, recorded_model

    try:
        folder, _ = locate(open_card(recorded_model(store.manifest.recorded)), weights=False)
        return AutoTokenizer.from_pretrained(folder)
    except (RelopeError, OSError, ValueError, KeyError):
        return None


def _pictures(store: ActivationStore, split: str, name: str) -> tuple[list["Image | None"], str]:
    """Return the sample's pictures as the model saw them, or none and the reason."""
    if store.manifest.identity.get("text_only"):
        return [], ""
    try:
        for sample in recorded_samples(store, [split]):
            if sample.id == name:
                return [picture.open().convert("RGB") for picture in sample.images], ""
    except (RelopeError, OSError, ValueError) as error:
        return [], f"The picture itself is not shown: {str(error).splitlines()[0]}"
    return [], "The picture itself is not shown: the data set no longer has this sample."


def _data_uri(picture: "Image") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


STEP = Step(run, output, version=1)
