"""Print and check what the embedded checkpoints must be able to do: ``python recipes/check_tiny_vl.py``.

Exits with 1 when a goal is missed. The strengths of the shift were set with ``--split train``,
on these accuracies alone, before any probe was fitted.
"""

import argparse
import collections
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable

import torch
from PIL import Image

from relope.extract.data import prompts
from relope.extract.graders import auto
from relope.extract.model.backbone import Backbone, open_backbone
from relope.extract.model.generate import answer_batch, generations
from relope.tiny.benchmark import samples
from relope.tiny.scenes.draw import FAMILIES
from relope.tiny.scenes.vocabulary import QUESTIONS
from relope.types import LazyImage, Sample

Accuracy = dict[str, float]


def blanked(sample: Sample) -> Sample:
    """Put an even grey in place of the image."""
    grey = Image.new("RGB", (64, 64), (230, 230, 230))
    return dataclasses.replace(sample, images=(LazyImage("blank", lambda: grey),))


def accuracy(backbone: Backbone, asked: list[Sample], text_only: bool = False) -> Accuracy:
    """Return the greedy accuracy in all, by family, and on multiple choice."""
    right: dict[str, list[bool]] = collections.defaultdict(list)
    for batch in batches(asked):
        answered = answer_batch(backbone, backbone.inputs(batch, text_only), (3, 4), 8, "float32")
        said = generations(answered, lambda ids: backbone.processor.tokenizer.decode(list(ids)))
        for sample, generation in zip(batch, said, strict=True):
            verdict = auto.grade(generation.text, sample.answers, sample.choices).correct
            for key in ("all", sample.meta["family"], *(["multiple choice"] if sample.choices else [])):
                right[key].append(verdict)
    return {key: sum(values) / len(values) for key, values in sorted(right.items())}


def batches(asked: list[Sample], size: int = 64) -> Iterable[list[Sample]]:
    """Cut samples into batches."""
    return (asked[start : start + size] for start in range(0, len(asked), size))


def chance(asked: list[Sample]) -> float:
    """Return the accuracy of guessing among the answers that a question can have."""
    return sum(1 / (len(s.choices) or len(QUESTIONS[s.meta["kind"]][1])) for s in asked) / len(asked)


def followed(
    backbone: Backbone, asked: list[Sample], suffix: Callable[[Sample], str], wanted: Callable[[Sample], str]
) -> float:
    """Return how often the model ends its answer as wanted when words follow the generation prompt."""
    right = 0
    tokenizer = backbone.processor.tokenizer
    for sample in asked:
        asked_for = [None, prompts.build(sample.question, sample.choices)]
        text = backbone.chat.render([("user", asked_for)]) + " " + suffix(sample)
        inputs = backbone.processor(text=[text], images=[[sample.images[0].open()]], return_tensors="pt")
        with torch.inference_mode():
            ids = backbone.model.generate(**inputs, max_new_tokens=16, do_sample=False)
        said = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split()
        right += bool(said) and said[-1] == wanted(sample)
    return right / len(asked)


def verdict_suffix(sample: Sample, answer: str) -> str:
    """Return the p(True) follow-up after an answer, as a chat template would render it."""
    return f"{answer} <|im_end|><|im_start|> user {prompts.TRUE_OR_FALSE} <|im_end|><|im_start|> assistant"


def other_answer(sample: Sample) -> str:
    """Return a wrong answer of the right kind."""
    options = "ABCD"[: len(sample.choices)] or QUESTIONS[sample.meta["kind"]][1]
    return next(option for option in options if option != sample.answers[0])


def measure(split: str, limit: int) -> dict[str, Accuracy]:
    """Return every accuracy that the goals speak of."""
    small, large = open_backbone("tiny-vl"), open_backbone("tiny-vl-large")
    clean = samples("tiny", FAMILIES, split, limit, shifted=False)
    bench = samples("tiny", FAMILIES, split, limit)
    few = clean[:200]
    styles = {
        "direct": followed(small, few, lambda s: prompts.DIRECT, lambda s: s.answers[0]),
        "chain of thought": followed(small, few, lambda s: prompts.CHAIN_OF_THOUGHT, lambda s: s.answers[0]),
        "true": followed(small, few, lambda s: verdict_suffix(s, s.answers[0]), lambda s: "True"),
        "false": followed(small, few, lambda s: verdict_suffix(s, other_answer(s)), lambda s: "False"),
    }
    return {
        "clean": accuracy(small, clean),
        "blanked": {**accuracy(small, [blanked(s) for s in clean]), "chance": chance(clean)},
        "benchmark": accuracy(small, bench),
        "benchmark, large": accuracy(large, bench),
        "text-only": accuracy(small, bench, text_only=True),
        "prompt styles": styles,
    }


def goals(accuracy: dict[str, Accuracy]) -> dict[str, tuple[float, str, bool]]:
    """Return goal → (value, what is asked, whether it is met)."""
    low = min(accuracy["benchmark"][family] for family in FAMILIES)
    high = max(accuracy["benchmark"][family] for family in FAMILIES)
    text = [accuracy["text-only"][family] for family in FAMILIES]
    gain = accuracy["benchmark, large"]["all"] - accuracy["benchmark"]["all"]
    over = accuracy["blanked"]["all"] - accuracy["blanked"]["chance"]
    return {
        "clean accuracy": (accuracy["clean"]["all"], ">= 0.95", accuracy["clean"]["all"] >= 0.95),
        "blanked above chance": (over, "<= 0.08", over <= 0.08),
        "benchmark, lowest family": (low, ">= 0.50", low >= 0.50),
        "benchmark, highest family": (high, "<= 0.80", high <= 0.80),
        "large above small": (gain, ">= 0.12", gain >= 0.12),
        "text-only, lowest family": (min(text), ">= 0.50", min(text) >= 0.50),
        "text-only, highest family": (max(text), "<= 0.90", max(text) <= 0.90),
    }


def main() -> int:
    """Print the accuracies and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--limit", type=int, default=1500, help="questions of each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    accuracy = measure(options.split, options.limit)
    checked = goals(accuracy)
    if options.json:
        verdicts = {name: {"value": value, "goal": goal, "met": met} for name, (value, goal, met) in checked.items()}
        sys.stdout.write(json.dumps({"accuracy": accuracy, "goals": verdicts}, indent=2) + "\n")
    else:
        for name, values in accuracy.items():
            sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()) + "\n")
        for name, (value, goal, met) in checked.items():
            sys.stdout.write(f"{'met   ' if met else 'MISSED'} {name}: {value:.3f} (goal {goal})\n")
    return 0 if all(met for _, _, met in checked.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
