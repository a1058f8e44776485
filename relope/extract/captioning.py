"""The caption step: a data set's pictures → a captions file, resumable, one line a picture."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, OutputError, UnsupportedError
from relope.extract import caption_endpoint
from relope.extract.data.captions import PROMPT, CaptionLog, known_captions
from relope.extract.data.dataset import DataSet, check_splits, load_samples
from relope.extract.data.flaws import distinct_pictures, look_at
from relope.spec import CaptionSpec
from relope.types import Picture, Progress

Captioned = tuple[Picture, str, str]
"""Picture, its caption, and why it has none."""

REFUSALS = 3
"""So many pictures in a row from the first that the server refuses: then it is not about the pictures."""


def write_captions(dataset: DataSet, spec: CaptionSpec, path: Path, progress: Progress) -> dict[str, Any]:
    """Describe every picture that has no caption yet; return how many were and why some were not.

    Raises:
        InvalidInputError: the data set has no pictures, or the file is of another model.
        OutputError: the endpoint or the disk refused; finished captions are kept.
    """
    samples = load_samples(dataset, check_splits(dataset, spec.split), spec.limit)
    prompt = spec.prompt or PROMPT
    known = known_captions(path, spec.model, prompt)
    pictures = [one for one in distinct_pictures(samples) if one.digest not in known.by_image]
    if not pictures and not known.by_image:
        raise InvalidInputError(
            f"data set {dataset.name} has no pictures in these splits; there is nothing to describe"
        )
    skipped = {name: fault for name, fault in look_at(pictures).items() if isinstance(fault, str)}
    sound = [picture for picture in pictures if picture.digest not in skipped]
    if sound:
        skipped |= _describe_all(sound, spec, prompt, path, progress)
    return {"pictures": len(pictures), "known": len(known.by_image), "skipped": skipped}


def _describe_all(
    pictures: Sequence[Picture], spec: CaptionSpec, prompt: str, path: Path, progress: Progress
) -> dict[str, str]:
    """Append a caption for each picture; return digest → reason of those that got none."""
    describe = _endpoint(spec, prompt) if spec.endpoint else _local(spec, prompt)
    without: dict[str, str] = {}
    with closing(CaptionLog(path, spec.model, prompt)) as log:
        for done, (picture, text, fault) in enumerate(describe(pictures), 1):
            if text:
                log.add(picture.digest, text)
            else:
                without[picture.digest] = fault or "the model gave an empty caption; try a larger --max-new-tokens"
            if fault and done == len(without) >= min(REFUSALS, len(pictures)):
                raise OutputError(f"{fault}\nit refused every picture so far; nothing was captioned in this run")
            progress(done, len(pictures))
    return without


Describe = Callable[[Sequence[Picture]], Iterator[Captioned]]


def _endpoint(spec: CaptionSpec, prompt: str) -> Describe:
    endpoint = caption_endpoint.open_endpoint(spec.endpoint or "", spec.model, spec.api_key_env)

    def one(picture: Picture) -> Captioned:
        try:
            return picture, caption_endpoint.ask(endpoint, picture, prompt, spec.max_new_tokens), ""
        except caption_endpoint.Refused as error:
            return picture, "", str(error)

    def describe(pictures: Sequence[Picture]) -> Iterator[Captioned]:
        with ThreadPoolExecutor(spec.workers) as threads:
            try:
                yield from threads.map(one, pictures)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    return describe


def _local(spec: CaptionSpec, prompt: str) -> Describe:
    from relope.extract import caption_local
    from relope.extract.model.backbone import open_backbone

    backbone = open_backbone(spec.model, spec.device, spec.dtype)
    if not hasattr(backbone.processor, "image_processor"):
        raise UnsupportedError(f"model {spec.model} is text-only: it cannot describe pictures; give one that sees them")

    def describe(pictures: Sequence[Picture]) -> Iterator[Captioned]:
        for start in range(0, len(pictures), spec.workers):
            batch = pictures[start : start + spec.workers]
            said = caption_local.describe(backbone, batch, prompt, spec.max_new_tokens)
            yield from ((picture, text, "") for picture, text in zip(batch, said, strict=True))

    return describe
