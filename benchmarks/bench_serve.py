"""The engine in this process: ``python benchmarks/bench_serve.py [--json] [--quick]``, eight minutes on one thread.

What deciding at block l costs and saves, on a model of 12 blocks and 36 million drawn parameters (Qwen2.5-VL's class, a
prompt of some 200 tokens with an image, ReLope's router at block 6, answers of 64 tokens), and on the embedded one (6
blocks, block 4), whose prefill of some milliseconds is no more than what Python takes: of that, figures without a goal.
The peers are plain `generate()` on the same prompt, and the same engine asked one query at a time. Costs and first
tokens are CPU seconds, which other work on the machine does not move; the crowd is timed by the clock. What the server
adds over HTTP is bench_serve_http.py's.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from figures import ROUNDS, Figure, at_least, at_most, main, ratios, rounds
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from checkpoints import make
from served import answer, asked, drawn_router, engine_on

from relope.extract.model.backbone import Backbone, open_backbone
from relope.serve.engine import Query
from relope.serve.local.prompts import Prompt, prompt_of
from relope.serve.local.reading import AtBlock, read_prompts
from relope.serve.local.scoring import Scorer

CLIENTS = 16
WORDS = "Which of the objects in the picture is the largest one, and what colour does it have? "


@dataclass(frozen=True)
class Sizes:
    """Calls of each contender in a round, and tokens of an answer."""

    calls: int = 6
    answer: int = 64


def picture(number: int) -> Image.Image:
    """Return an image of one colour."""
    return Image.new("RGB", (64, 64), (number * 37 % 256, number * 91 % 256, 90))


def query(number: int, repeats: int, n: int) -> Query:
    """Return a question that is answered by the small model with n tokens at most."""
    return asked(f"{number}: {WORDS * repeats}", picture(number), route="small", max_new_tokens=n)


class Reading:
    """One prompt through a model: whole, decided at block l, and up to block l alone."""

    def __init__(self, backbone: Backbone, layer: int, prompt: Prompt) -> None:
        self.backbone, self.layer, self.prompt = backbone, layer, prompt
        self.scorer = Scorer(drawn_router("relope", backbone, layer), layer, backbone)
        self.scoring: list[float] = []

    @torch.inference_mode()
    def prefill(self) -> None:
        """Read the prompt as `generate()` does."""
        model = self.backbone.model
        model.generate(**self.backbone.to_device(self.prompt.inputs), max_new_tokens=1, do_sample=False)

    def kept(self) -> None:
        """Read it, and score it at block l."""
        self._read([0])

    def escalated(self) -> None:
        """Read it up to block l, and score it there."""
        self._read([])

    @torch.inference_mode()
    def _read(self, rows: list[int]) -> None:
        def decide(at: AtBlock) -> list[int]:
            begun = time.process_time()
            self.scorer.at_prompt([self.prompt], at)
            self.scoring.append(time.process_time() - begun)
            return rows

        read_prompts(self.backbone, self.prompt.inputs, self.layer, decide)


def many(run: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a function that runs another several times."""

    def repeated() -> None:
        for _ in range(times):
            run()

    return repeated


def reading(name: str, backbone: Backbone, layer: int, repeats: int, sizes: Sizes) -> dict[str, Figure]:
    """Measure what a decision costs."""
    this = Reading(backbone, layer, prompt_of(backbone, query(0, repeats, sizes.answer)))
    this.prefill(), this.kept(), this.escalated()
    this.scoring.clear()
    turns = {"prefill": many(this.prefill, sizes.calls), "kept": many(this.kept, sizes.calls)}
    seconds = rounds({**turns, "escalated": many(this.escalated, sizes.calls)}, ROUNDS, time.process_time)
    n, per_round = sizes.calls, 2 * sizes.calls
    scoring = [sum(this.scoring[k * per_round : k * per_round + n]) for k in range(ROUNDS)]
    share = layer / len(backbone.blocks)
    return {
        f"{name}: scoring of a kept query / its prefill": at_most(ratios(scoring, seconds["prefill"]), 0.03),
        f"{name}: an escalated query / a prefill (l/L = {share:.2f})": at_most(
            ratios(seconds["escalated"], seconds["prefill"]), share + 0.05
        ),
    }


def serving(name: str, backbone: Backbone, layer: int, repeats: int, sizes: Sizes) -> dict[str, Figure]:
    """Measure first tokens, and what a crowd gains."""
    engine = engine_on(backbone, drawn_router("relope", backbone, layer), layer)
    engine.open()
    numbers = iter(range(1, 1_000_000))

    def one_at_a_time() -> None:
        for _ in range(CLIENTS):
            answer(engine.submit(query(next(numbers), repeats, sizes.answer)))

    def together() -> None:
        tickets = [engine.submit(query(next(numbers), repeats, sizes.answer)) for _ in range(CLIENTS)]
        for ticket in tickets:
            answer(ticket)

    def first_token() -> None:
        answer(engine.submit(query(next(numbers), repeats, 1)))

    @torch.inference_mode()
    def plain_first_token() -> None:
        prompt = prompt_of(backbone, query(next(numbers), repeats, 1))
        backbone.model.generate(**backbone.to_device(prompt.inputs), max_new_tokens=1, do_sample=False)

    try:
        first_token(), plain_first_token(), together()
        crowd = rounds({"alone": one_at_a_time, "together": together}, ROUNDS)
        firsts = rounds(
            {"engine": many(first_token, sizes.calls), "plain": many(plain_first_token, sizes.calls)},
            ROUNDS,
            time.process_time,
        )
    finally:
        engine.close()
    return {
        f"{name}: answers a second of {CLIENTS} clients / of one": at_least(
            ratios(crowd["alone"], crowd["together"]), 3.0
        ),
        f"{name}: first token of a kept query / of generate()": at_most(ratios(firsts["engine"], firsts["plain"]), 1.1),
    }


def measure(quick: bool) -> dict[str, Figure]:
    """Measure both models."""
    torch.set_num_threads(1)
    sizes = Sizes(1, 4) if quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        wide = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 2}
        drawn = open_backbone(str(make("qwen2.5-vl", Path(folder) / "drawn", blocks=12, **wide)), "cpu", "float32")
        assert sum(parameter.numel() for parameter in drawn.model.parameters()) > 20_000_000
        embedded = open_backbone("tiny-vl", "cpu", "float32")
        endless = replace(drawn, traits=replace(drawn.traits, end_ids=()))  # drawn weights end an answer anywhere
        figures = reading("12 blocks", endless, 6, 4, sizes) | serving("12 blocks", endless, 6, 4, sizes)
        small = reading("embedded", embedded, 4, 1, sizes) | serving("embedded", embedded, 4, 1, sizes)
    return figures | {name: replace(figure, goal=None, met=None) for name, figure in small.items()}


if __name__ == "__main__":
    main(measure, __doc__)
