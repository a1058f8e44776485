"""Cascade routing (FrugalGPT): a scorer of question and answer text, with the answer's log-probs."""

from typing import ClassVar

from pydantic import Field

from relope.probes.encoder import TFIDF, Encoder, open_encoder
from relope.probes.scorer import Scorer, ScorerSettings

VERSION = 1


class Settings(ScorerSettings):
    """Settings of ``cascade``; ``encoder`` takes a sentence-transformers name or local folder."""

    encoder: str = Field(TFIDF, min_length=1)
    max_words: int = Field(8192, ge=1)


class Method(Scorer):
    """g(question, answer) → P(correct), read after the small model has answered.

    The text is the question with its options and the model's answer, beside the features of
    ``cascade-logprob``.

    Source: Chen et al. 2023 (FrugalGPT, Strategy 3), as compared in ReLope §5. Choice: TF-IDF and
    logistic regression where FrugalGPT fine-tunes DistilBERT; ``encoder`` puts frozen embeddings
    in place of TF-IDF.
    """

    name: ClassVar[str] = "cascade"
    Params: ClassVar[type[ScorerSettings]] = Settings

    def encoder(self) -> Encoder:
        return open_encoder(self.params.encoder, self.params.max_words)
