"""ScienceQA, all questions with and without an image (12,726 / 4,241 / 4,241)."""

from relope.extract.data import scienceqa

DATASET = scienceqa.dataset("scienceqa-full", "ScienceQA-FULL")
