"""Cascade on confidence alone: logistic regression on the answer's log-probs and entropies."""

from typing import ClassVar

from relope.probes.scorer import Scorer

VERSION = 1


class Method(Scorer):
    """P(correct) = σ(w · confidence features): what a cascade learns without reading any text.

    The features are sum, mean, minimum and last of the token log-probs, the log-odds of the whole
    answer, mean and maximum entropy, and the answer's length; the end token is excluded.

    Source: the confidence signal of a cascade (ReLope §5). Choice: features and regression.
    """

    name: ClassVar[str] = "cascade-logprob"
