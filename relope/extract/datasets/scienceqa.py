"""ScienceQA, its questions with an image (6,218 / 2,097 / 2,017)."""

from relope.extract.data import scienceqa

DATASET = scienceqa.dataset("scienceqa", "ScienceQA-IMG")
