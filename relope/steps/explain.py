"""The step ``explain``: which tokens of a sample a router looks at."""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.evaluate.pages.attention import Patches, Word, picture, render_attention
from relope.extract.data.images import decode
from relope.probes.examples import Examples
from relope.probes.gaze import mean_weights, read_gazes
from relope.probes.protocol import Explains, method_class
from relope.probes.router import Router, RouterRecord, load_router, read_record
from relope.provenance import write_bytes
from relope.spec import ExplainSpec
from relope.steps.outputs import explained_folder
from relope.steps.prompt_parts import Decode, patches_of, words_of
from relope.steps.reopen import recorded_samples
from relope.steps.step import Step
from relope.store import ActivationStore, no_states, open_store
from relope.types import Outcome, Watch
from relope.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

_LISTED, _LOOKED_AT = 3, 5000
"""Ids that are told where a sample is unknown, and among how many the nearest are looked for."""


@dataclass(frozen=True)
class Explanation:
    """What a router makes of one sample.

    Attributes:
        sample: its columns in the store.
        score: P(correct).
        words: of the prompt, with their weights.
        patches: one grid an image, with its weights.
    """

    sample: dict[str, Any]
    score: float
    words: Sequence[Word]
    patches: Sequence[Patches]

    @property
    def on_images(self) -> float:
        """Share of the weight that lies on image tokens."""
        return _on_images(self.patches)

    @property
    def note(self) -> str:
        """A sentence on where the weight lies."""
        return _where(self.words, self.patches)

    def facts(self) -> dict[str, Any]:
        """Return the same as JSON values, one entry a token in the order of the prompt."""
        entries: list[dict[str, Any]] = []
        for word in self.words:
            entries += [
                {"token": index, "kind": "text", "text": word.text, "weight": weight}
                for index, weight in zip(word.indices, word.weights, strict=True)
            ]
        for number, grid in enumerate(self.patches):
            for cell, (index, weight) in enumerate(zip(grid.indices, grid.weights.tolist(), strict=True)):
                row, column = divmod(cell, grid.columns)
                entries.append(
                    {"token": index, "kind": "image", "image": number, "row": row, "column": column, "weight": weight}
                )
        return {
            "sample": self.sample["id"],
            "score": self.score,
            "weight_on_images": self.on_images,
            "tokens": sorted(entries, key=lambda entry: int(entry["token"])),
        }


@dataclass(frozen=True)
class Looked:
    """Where a router looks in one sample: a sentence on it, and words and image grids with their weights."""

    note: str
    words: Sequence[Word]
    patches: Sequence[Patches]


def output(spec: ExplainSpec) -> Path:
    """Return the folder of the page."""
    return spec.out or explained_folder(spec.store, spec.sample)


def run(spec: ExplainSpec, watch: Watch) -> Outcome:
    """Write the page of one sample, and its weights as JSON.

    Raises:
        NotFoundError: no such sample.
        InvalidInputError: the router's method looks at no tokens, or it was fitted on another recipe.
    """
    out, store = output(spec), open_store(spec.store)
    explanation = explain(load_router(spec.router), store, spec.sample)
    images, why = _images(store, explanation.sample)
    if len(images) != len(explanation.patches):
        images = [None] * len(explanation.patches)
    title = f"{spec.sample}: P(correct) = {explanation.score:.3f}"
    notes = [note for note in (explanation.note, why) if note]
    pictures = [None if image is None else picture(image) for image in images]
    answer, patches, words = explanation.sample["response"], explanation.patches, explanation.words
    write_bytes(out / "attention.html", render_attention(title, answer, notes, pictures, patches, words).encode())
    facts = explanation.facts()
    write_bytes(out / "weights.json", (json.dumps(facts, indent=1) + "\n").encode())
    text = f"{spec.sample}: P(correct) {explanation.score:.3f}, {explanation.on_images:.1%} of the weight on the image"
    return Outcome(out / "attention.html", False, f"{text} → {out / 'attention.html'}", facts)


def _on_images(patches: Sequence[Patches]) -> float:
    return float(sum(grid.weights.sum() for grid in patches))


def _where(words: Sequence[Word], patches: Sequence[Patches]) -> str:
    n_image, n_text = sum(len(grid.weights) for grid in patches), sum(len(word.weights) for word in words)
    share = _on_images(patches)
    return f"{share:.1%} of the weight lies on {n_image} image tokens, {1 - share:.1%} on {n_text} text tokens."


def explain(router: Router, store: ActivationStore, name: str) -> Explanation:
    """Return what a router looks at in the sample of that id.

    Args:
        router: one whose method weighs tokens.
        store: that has the sample; its model's tokenizer is opened once.
        name: id of the sample.

    Raises:
        NotFoundError: no such sample.
        InvalidInputError: the router's method looks at no tokens, or it was fitted on another recipe.
    """
    probe = router.probe
    if not isinstance(probe, Explains):
        can = [method for method in registry.names("methods") if issubclass(method_class(method), Explains)]
        raise InvalidInputError(
            f"{router.record.method} weighs no tokens and cannot be explained; can be: {', '.join(can)}"
        )
    sample = _sample(router.name, router.record, store, name)
    rows = np.array([sample["row"]], dtype=np.int64)
    weights = probe.token_weights(Examples(store, rows, None, router.record.layer))[0]
    words, patches = _shown(store, rows, weights)
    return Explanation(sample, float(router.score(store, rows)[0]), words, patches)


def looker(folder: Path) -> Callable[[ActivationStore, str], Looked]:
    """Return what tells where a router looks in the sample of an id: no score, and of an attention probe without torch.

    Raises:
        NotFoundError: there is no router.
        StoreError: it is damaged.
    """
    record = read_record(folder)
    if record is None or not (gazes := read_gazes(folder, record)):
        router = load_router(folder)
        return lambda store, name: _as_looked(explain(router, store, name))
    label, fitted = str(folder), record

    def look(store: ActivationStore, name: str) -> Looked:
        sample = _sample(label, fitted, store, name)
        weights = mean_weights(gazes, store, sample["row"], fitted.layer)
        words, patches = _shown(store, np.array([sample["row"]], dtype=np.int64), weights)
        return Looked(_where(words, patches), words, patches)

    return look


def _as_looked(told: Explanation) -> Looked:
    return Looked(told.note, told.words, told.patches)


def _sample(router: str, record: RouterRecord, store: ActivationStore, name: str) -> dict[str, Any]:
    """Return a sample's columns, of a store that the router can look at."""
    if store.manifest.answers_only:
        raise no_states(store.label, "prompt tokens")
    if record.recipe_id != store.recipe_id:
        raise InvalidInputError(
            f"{router} was fitted on another recipe than {store.label}", hint="fit it on this store"
        )
    sample = store.samples.filter(id=name).head(1)
    if not len(sample):
        raise _unknown_sample(store, name)
    return sample.to_dicts()[0]


def _shown(
    store: ActivationStore, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
) -> tuple[list[Word], list[Patches]]:
    """Return one sample's weights ``[T]`` as words and image grids."""
    tokens = dict(zip(store.manifest.token_columns, store.tokens(rows)[0].T, strict=True))
    return words_of(tokens, weights, _decode_of(store)), patches_of(tokens, weights)


def _unknown_sample(store: ActivationStore, name: str) -> NotFoundError:
    ids = store.samples["id"]
    near = difflib.get_close_matches(name, ids.head(_LOOKED_AT).to_list(), _LISTED, 0.6)
    told = f"the nearest: {', '.join(near)}" if near else f"e.g. {', '.join(ids.head(_LISTED))}"
    return NotFoundError(
        f"{store.label} has no sample {name!r} among its {counted(len(ids), 'sample')} ({told})",
        hint="the scores that `relope predict` writes name all of them, in the column id",
    )


_DECODES: "WeakKeyDictionary[ActivationStore, Decode | None]" = WeakKeyDictionary()


def _decode_of(store: ActivationStore) -> Decode | None:
    if store not in _DECODES:
        _DECODES[store] = _decode(store)
    return _DECODES[store]


def _decode(store: ActivationStore) -> Decode | None:
    """Return what turns the recorded model's token ids into text, or None where the model is not at hand."""
    from relope.extract.model.card import open_card, recorded_model
    from relope.extract.model.checkpoint import find_checkpoint

    try:
        files = find_checkpoint(open_card(recorded_model(store.manifest.recorded)), weights=False)
        with files.processor_folder() as folder:
            return _alone(folder) or _with_transformers(folder)
    except (RelopeError, OSError, ValueError, KeyError):
        return None


def _alone(folder: Path) -> Decode | None:
    """Return what a whole ``tokenizer.json`` decodes by itself: transformers, and torch with it, take 300 MB.

    None where ids are told of in the configuration alone, which only transformers adds.
    """
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = folder / "tokenizer_config.json"
    added = json.loads(config.read_bytes()).get("added_tokens_decoder", {}) if config.is_file() else {}
    if any(tokenizer.id_to_token(int(number)) is None for number in added):
        return None
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False))


def _with_transformers(folder: Path) -> Decode:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _images(store: ActivationStore, sample: dict[str, Any]) -> tuple[list["Image | None"], str]:
    """Return the sample's images as the model saw them, the store's thumbnails of them, or none; and the reason."""
    if store.manifest.identity.text_only:
        return [], ""
    try:
        for recorded in recorded_samples(store, [sample["split"]], changed=True):
            if recorded.id == sample["id"] and [image.digest for image in recorded.images] == sample["image_digests"]:
                return [image.open().convert("RGB") for image in recorded.images], ""
        why = "the data set no longer has this sample with these images."
    except (RelopeError, OSError, ValueError) as error:
        why = str(error).splitlines()[0]
    thumbnails = [store.thumbnail(sample["row"], number) for number in range(len(sample["image_digests"]))]
    if any(content is None for content in thumbnails):
        return [], f"The image itself is not shown: {why}"
    shown = [decode(content) for content in thumbnails if content is not None]
    return list(shown), f"The image is a thumbnail that the store keeps: {why}"


STEP = Step(run, output, version=1)
