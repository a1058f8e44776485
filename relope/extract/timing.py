"""How long an extraction will take, from some of its own batches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from relope.extract.batches import Batches
from relope.extract.plan import by_length
from relope.types import Progress, Sample


@dataclass(frozen=True)
class Timing:
    """What a few batches took: the slower of preparing and answering them, since both go on at once.

    Attributes:
        samples: how many were run.
        tokens: their prompt tokens.
        seconds: for all of them.
    """

    samples: int
    tokens: int
    seconds: float

    def of(self, tokens: float) -> float:
        """Return the seconds that so many prompt tokens will take."""
        return self.seconds * tokens / self.tokens


def time_batches(batches: Batches, samples: Sequence[Sample], batch_size: int, n: int, progress: Progress) -> Timing:
    """Run whole batches as an extraction would, evenly spread from short prompts to long ones.

    Args:
        batches: answers a batch.
        samples: what shall be extracted.
        batch_size: samples in a batch.
        n: samples to run at least, as far as there are so many.
        progress: told the batches done and planned.
    """
    ordered = sorted(samples, key=by_length)
    cut = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    wanted = min(len(cut), -(-n // batch_size))
    chosen = [cut[len(cut) * (2 * number + 1) // (2 * wanted)] for number in range(wanted)]
    _run(batches, chosen[-1])  # the first batch of a process also pays for what later ones reuse
    took = []
    for done, batch in enumerate(chosen, 1):
        took.append(_run(batches, batch))
        progress(done, wanted)
    tokens, preparing, answering = (sum(column) for column in zip(*took, strict=True))
    return Timing(sum(map(len, chosen)), int(tokens), max(preparing, answering))


def _run(batches: Batches, batch: Sequence[Sample]) -> tuple[int, float, float]:
    """Return a batch's prompt tokens and the seconds of preparing and of answering it."""
    begun = time.perf_counter()
    inputs = batches.prepare(batch)
    ready = time.perf_counter()
    for _, answered in batches.answer(batch, inputs):
        answered.answer.numpy()  # waits for the device
    return int(inputs["attention_mask"].sum()), ready - begun, time.perf_counter() - ready
