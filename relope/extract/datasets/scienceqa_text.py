"""ScienceQA, its questions without a picture: the text-only side of the paper's Table 1."""

from relope.extract.datasets import _scienceqa

DATASET = _scienceqa.dataset("scienceqa-text", "ScienceQA-FULL", text_only_rows=True)
