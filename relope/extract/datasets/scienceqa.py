"""ScienceQA, its questions with a picture (6,218 / 2,097 / 2,017)."""

from relope.extract.datasets import _scienceqa

DATASET = _scienceqa.dataset("scienceqa", "ScienceQA-IMG")
