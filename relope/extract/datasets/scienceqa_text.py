"""ScienceQA, its questions without an image: the text-only side of the paper's Table 1."""

from relope.extract.data import scienceqa

DATASET = scienceqa.dataset("scienceqa-text", "ScienceQA-FULL", text_only_rows=True)
