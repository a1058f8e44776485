"""The caption step: a data set's images → a captions file, resumable, one line an image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relope.errors import InvalidInputError, OutputError, RelopeError, UnsupportedError
from relope.extract.allowance import Allowance
from relope.extract.data.captions import CaptionLog, known_captions
from relope.extract.data.dataset import DataSet, load_samples
from relope.extract.data.flaws import distinct_images, look_at
from relope.extract.endpoint.address import open_endpoint
from relope.extract.endpoint.client import REFUSALS, Question, Refused
from relope.extract.endpoint.messages import image_part, text_part
from relope.extract.workers import Put, Unkept, WorkerPool, answers_at
from relope.types import Answer, LazyImage, Progress, Usage

Captioned = tuple[LazyImage, str, str]
"""Image, its caption, and why it has none."""


@dataclass(frozen=True)
class Captioning:
    """What is described, by whom and how.

    Attributes:
        dataset: whose images.
        splits: of it.
        limit: at most so many samples of each; None = all.
        model: a local model as `open_backbone` takes it; with an endpoint, its name there.
        endpoint: base URL of an OpenAI-compatible server; None = the model runs here.
        key_env: environment variable that holds the server's key.
        prompt: what the model is asked.
        max_new_tokens: longest caption.
        workers: requests at a time; with a local model, images in a batch.
        device: where a local model runs.
        dtype: that it computes in.
    """

    dataset: DataSet
    splits: tuple[str, ...]
    limit: int | None
    model: str
    endpoint: str | None
    key_env: str | None
    prompt: str
    max_new_tokens: int
    workers: int
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class CaptionRun:
    """What a run did.

    Attributes:
        n_known: images that had a caption before.
        n_new: images that got one.
        skipped: digest → why an image got none.
    """

    n_known: int
    n_new: int
    skipped: dict[str, str]


def write_captions(captioning: Captioning, path: Path, progress: Progress) -> CaptionRun:
    """Describe every image that has no caption yet.

    Raises:
        InvalidInputError: the data set has no images, or the file is of another model.
        OutputError: the endpoint or the disk refused; finished captions are kept.
    """
    samples = load_samples(captioning.dataset, captioning.splits, captioning.limit)
    known = known_captions(path, captioning.model, captioning.prompt).by_image
    images = [image for image in distinct_images(samples) if image.digest not in known]
    if not images and not known:
        raise InvalidInputError(
            f"data set {captioning.dataset.name} has no images in these splits; there is nothing to describe"
        )
    skipped = {digest: fault for digest, fault in look_at(images).items() if isinstance(fault, str)}
    sound = [image for image in images if image.digest not in skipped]
    if sound:
        skipped |= _describe_all(captioning, sound, path, progress)
    return CaptionRun(len(known), len(images) - len(skipped), skipped)


def _describe_all(
    captioning: Captioning, images: Sequence[LazyImage], path: Path, progress: Progress
) -> dict[str, str]:
    """Append a caption for each image; return digest → reason of those that got none."""
    describe = _by_endpoint(captioning, captioning.endpoint) if captioning.endpoint else _by_model(captioning)
    without: dict[str, str] = {}
    with closing(CaptionLog(path, captioning.model, captioning.prompt)) as log:
        for done, (image, text, fault) in enumerate(describe(images), 1):
            if text:
                log.add(image.digest, text)
            else:
                without[image.digest] = fault or "the model gave an empty caption"
            if fault and done == len(without) >= min(REFUSALS, len(images)):
                raise OutputError(f"{fault}; it refused every image so far, and nothing was captioned in this run")
            progress(done, len(images))
    return without


Describe = Callable[[Sequence[LazyImage]], Iterator[Captioned]]


def _by_endpoint(captioning: Captioning, url: str) -> Describe:
    endpoint = open_endpoint(url, captioning.model, captioning.key_env)
    pool = WorkerPool(endpoint, Unkept(), Allowance(), captioning.workers)

    def put(image: LazyImage) -> Put:
        return Put(image.digest, image.digest, _question(captioning, image), Usage())

    def describe(images: Sequence[LazyImage]) -> Iterator[Captioned]:
        failure: RelopeError | None = None
        with closing(endpoint), closing(answers_at(pool, images, put)) as answers:
            for image, outcome in answers:
                if isinstance(outcome, Answer):
                    yield image, outcome.text, ""
                elif isinstance(outcome, Refused):
                    yield image, "", str(outcome)
                else:  # what is in flight still comes in
                    failure = failure or outcome
        if failure is not None:
            raise failure

    return describe


def _question(captioning: Captioning, image: LazyImage) -> Question:
    content = [image_part(image), text_part(captioning.prompt)]
    return Question([{"role": "user", "content": content}], captioning.max_new_tokens)


def _by_model(captioning: Captioning) -> Describe:
    from relope.extract import caption_local
    from relope.extract.model.backbone import open_backbone

    backbone = open_backbone(captioning.model, captioning.device, captioning.dtype)
    if not backbone.traits.sees_images:
        raise UnsupportedError(f"model {backbone.name} is text-only: it cannot describe images")

    def describe(images: Sequence[LazyImage]) -> Iterator[Captioned]:
        for start in range(0, len(images), captioning.workers):
            batch = images[start : start + captioning.workers]
            texts = caption_local.describe(backbone, batch, captioning.prompt, captioning.max_new_tokens)
            yield from ((image, text, "") for image, text in zip(batch, texts, strict=True))

    return describe
