"""How the questions of a data set are shown to the model: in which words, with which images or captions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.data import perturb
from relope.extract.data.captions import Captions, captioned, read_captions
from relope.extract.data.templates import PromptTemplate
from relope.types import Sample


@dataclass(frozen=True)
class View:
    """What is put in the place of a sample's images and around its question.

    Attributes:
        text_only: captions stand in for images.
        captions: by which those of the data set are replaced; None = its own.
        captions_file: where they came from.
        perturbation: what is done to every image; None = nothing.
        spelling: the perturbation as it was written.
        prompt: the words around a question; None = the usual ones.
    """

    text_only: bool = False
    captions: Captions | None = None
    captions_file: Path | None = None
    perturbation: perturb.Perturbation | None = None
    spelling: str = ""
    prompt: PromptTemplate | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What captions, perturbations and own words add to a recipe; nothing without them, so that its id stays."""
        captions = {"captions": self.captions.identity} if self.captions else {}
        words = {"prompt_template": self.prompt.digest} if self.prompt else {}
        return captions | words | ({"perturbation": self.perturbation.identity} if self.perturbation else {})

    @property
    def recorded(self) -> dict[str, str]:
        """What a store keeps so that its samples can be shown again as the model saw them."""
        captions = {"captions": str(self.captions_file.resolve())} if self.captions_file else {}
        words = {"prompt_template": self.prompt.text} if self.prompt else {}
        return captions | words | ({"perturb": self.spelling} if self.spelling else {})

    def worded(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return samples with the captions that are read, and in their words; a caption that is not read goes.

        Raises:
            InvalidInputError: the words leave out the options that samples have.
        """
        shown = captioned(samples, self.captions) if self.captions else list(samples)
        shown = shown if self.text_only else [replace(sample, caption="") for sample in shown]
        if self.prompt is None:
            return shown
        self.prompt.check_options(shown)
        return [self.prompt.worded(sample) for sample in shown]

    def perturbed(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return samples whose images are made worse when they are opened."""
        kind = self.perturbation
        return list(samples) if kind is None else [perturb.perturbed(sample, kind) for sample in samples]


def open_view(
    text_only: bool, captions: Path | None, perturbation: str | None, prompt: PromptTemplate | None = None
) -> View:
    """Return how samples are shown.

    Args:
        text_only: captions stand in for images.
        captions: a captions file.
        perturbation: a kind, with or without a strength.
        prompt: the words around a question.

    Raises:
        InvalidInputError: one of them would have no effect.
        NotFoundError: there is no such captions file, or no such perturbation.
    """
    if captions and not text_only:
        raise InvalidInputError(
            f"captions {captions} are read only where they stand in for images",
            hint="add --text-only, or drop --captions",
        )
    if perturbation and text_only:
        raise InvalidInputError(
            f"perturbation {perturbation} changes images, which are left out where captions stand in for them",
            hint="drop --perturb or --text-only",
        )
    read = read_captions(captions) if captions else None
    kind = perturb.parse(perturbation) if perturbation else None
    return View(text_only, read, captions, kind, perturbation or "", prompt)


def recorded_view(recorded: Mapping[str, Any], text_only: bool) -> View:
    """Return how the samples of a store were shown, by what it has recorded.

    Raises:
        NotFoundError: the captions file is gone.
    """
    captions, words = recorded.get("captions"), recorded.get("prompt_template")
    prompt = PromptTemplate(str(words)) if words else None
    return open_view(text_only, Path(captions) if captions else None, recorded.get("perturb"), prompt)
