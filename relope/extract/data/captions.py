"""Captions that stand in for images: a JSON Lines file, one line an image or a sample.

A line holds ``caption`` and either ``image`` (the image's digest; what ``relope caption`` writes)
or ``id`` (the sample's; easier to write by hand). The file is also the cache of an unfinished run:
lines are appended as they are made, and a line that was cut off is dropped.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.bounded import WHOLE_BYTES, read_bounded
from relope.extract.data.halves import half_in
from relope.provenance import cannot_write, digest
from relope.types import Sample

PROMPT = "Describe this image in detail, including any text, numbers and labels in it."


@dataclass
class Captions:
    """What a captions file holds: captions by image digest and by sample id, and who made them."""

    by_image: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, str] = field(default_factory=dict)
    makers: set[tuple[str, str]] = field(default_factory=set)

    @property
    def identity(self) -> str:
        """sha256 (hex) of every caption: part of the recipe that they are used in."""
        return digest([sorted(self.by_image.items()), sorted(self.by_id.items())])

    def of(self, sample: Sample) -> str:
        """Return the caption of a sample: its own line, those of its images, or what it carries."""
        if sample.id in self.by_id:
            return self.by_id[sample.id]
        texts = [self.by_image.get(image.digest, "") for image in sample.images]
        if not texts or not all(texts):
            return sample.caption
        return texts[0] if len(texts) == 1 else "\n".join(f"Image {n}: {text}" for n, text in enumerate(texts, 1))


def read_captions(path: Path) -> Captions:
    """Read a captions file.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: a line is no caption; it is named.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no captions file at {path}", hint=f"`relope caption --out {path}` makes one")
    captions = Captions()
    for number, entry in _lines(path):
        text, image, name = entry.get("caption"), entry.get("image"), entry.get("id")
        key = image or name
        if not isinstance(text, str) or not isinstance(key, str):
            raise InvalidInputError(f"line {number} of {path} must have a caption and an image or id, all of them text")
        if half := half_in(text):
            raise InvalidInputError(f"the caption in line {number} of {path} holds {half}, half of a character")
        if image:
            captions.by_image[key] = text
            captions.makers.add((str(entry.get("model", "")), str(entry.get("prompt", ""))))
        else:
            captions.by_id[key] = text
    return captions


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = read_bounded(path, WHOLE_BYTES).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return  # a run was killed while it wrote this line
            raise InvalidInputError(f"line {number} of {path} is no JSON: {error}") from error
        if not isinstance(entry, dict):
            raise InvalidInputError(f"line {number} of {path} must be an object, not {type(entry).__name__}")
        yield number, entry


def captioned(samples: Iterable[Sample], captions: Captions) -> list[Sample]:
    """Return samples with the captions of a file."""
    return [replace(sample, caption=captions.of(sample)) for sample in samples]


def known_captions(path: Path, model: str, prompt: str) -> Captions:
    """Return what an unfinished run has made so far; nothing when there is no file.

    Raises:
        InvalidInputError: another model or another prompt made the captions in it.
    """
    if not path.exists():
        return Captions()
    captions = read_captions(path)
    for maker in captions.makers - {(model, prompt)}:
        what = f"model {maker[0]!r}" if maker[0] != model else f"the prompt {maker[1]!r}"
        raise InvalidInputError(f"{path} holds captions made with {what}", hint="give another --out")
    return captions


class CaptionLog:
    """A captions file open for appending; every line is on the disk before the next is made."""

    def __init__(self, path: Path, model: str, prompt: str) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be written.
        """
        self.path, self.model, self.prompt = path, model, prompt
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole_lines(path.read_bytes()) if path.exists() else b""
            self._file = path.open("r+b" if path.exists() else "xb")
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        except OSError as error:
            raise cannot_write(path, error) from error

    def add(self, image: str, caption: str) -> None:
        """Append one caption.

        Raises:
            OutputError: the disk is full.
        """
        line = {"image": image, "caption": caption, "model": self.model, "prompt": self.prompt}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_lines(content: bytes) -> bytes:
    """Return a file's content without a last line that was cut off; a whole one gets its end."""
    head, newline, tail = content.rpartition(b"\n")
    return content if not tail else head + newline
