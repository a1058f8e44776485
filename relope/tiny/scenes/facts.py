"""What a family's file says of the image that it has drawn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What is true of an image.

    Attributes:
        answers: question kind → answer; a kind that has no answer here is absent.
        attributes: attribute → class index, for the training recipe's auxiliary heads.
        caption: an exact description, in words of the vocabulary.
        trace: the words of a chain of thought that leads to every answer.
        source: identity of borrowed material (a handwritten scan), else ``""``.
    """

    answers: dict[str, str]
    attributes: dict[str, int]
    caption: tuple[str, ...]
    trace: tuple[str, ...]
    source: str = ""
