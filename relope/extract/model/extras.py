"""What is asked of a prompt besides its greedy answer; without torch, so that a refusal is cheap."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extras:
    """What is asked of a prompt besides its greedy answer.

    Attributes:
        samples: sampled traces in each of MoT's two styles.
        temperature: of the samples; no other change is made to the distribution.
        trace_tokens: longest chain-of-thought trace.
        p_true: ask whether the model's own answer is correct.
        seed: with the sample's id it decides what is drawn.
    """

    samples: int = 0
    temperature: float = 0.7
    trace_tokens: int = 256
    p_true: bool = False
    seed: int = 0

    @property
    def any(self) -> bool:
        """Whether the prompt's cache is needed after the answer."""
        return self.samples > 0 or self.p_true
