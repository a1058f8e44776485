"""What a training step and an early exit cost on a GPU. For gpu.py."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from figures import at_least, at_most, ratios, shown
from gpu_extract import extracted
from gpu_fits import replay_error, step
from gpu_run import Figures, Run, layers_of, of_length

from relope.extract.model.backbone import Backbone
from relope.extract.model.streams import Streams
from relope.extract.recipe import save_block
from relope.store import ActivationStore

MODES = ("cached", "truncated", "full")


def steps(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Train relope for a step in each mode, and replay block l."""
    samples = of_length(backbone, run.sizes.batch, run.sizes.length)
    batched = replace(backbone, card=replace(backbone.card, batch_size=run.sizes.batch))
    out, _ = extracted(run, batched, samples, n_tokens=0)
    save_block(backbone, out, layers_of(backbone))
    streams = Streams(backbone, {sample.id: sample for sample in samples})
    with ActivationStore.open(out) as store:
        for name, error in replay_error(store, streams, backbone.default_layer, run.device).items():
            yield {f"{backbone.name}: block l replayed ({name}) off the streamed forward": at_most(error, 1e-2)}
        modes = {mode: step(store, streams, backbone.default_layer, run.device, mode) for mode in MODES}
        held = step(store, streams, backbone.default_layer, run.device, "cached", held=True)
        many = 10 if not run.small else 1
        took = run.compare(
            {
                **modes,
                "cached": lambda: [modes["cached"]() for _ in range(many)],
                "held": lambda: [held() for _ in range(many)],
            }
        )
    cached, kept = ([each / many for each in took[name]] for name in ("cached", "held"))
    yield {
        f"{backbone.name}: relope step, full over cached": at_least(ratios(took["full"], cached), 100),
        f"{backbone.name}: relope step, truncated over cached": at_least(ratios(took["truncated"], cached), 50),
        f"{backbone.name}: relope step, full over cached, its batch on the device": shown(ratios(took["full"], kept)),
        f"{backbone.name}: ms a step, cached": shown([each * 1e3 for each in cached]),
        f"{backbone.name}: ms a step, cached, its batch on the device": shown([each * 1e3 for each in kept]),
        f"{backbone.name}: ms a step, truncated": shown([each * 1e3 for each in took["truncated"]]),
        f"{backbone.name}: ms a step, full": shown([each * 1e3 for each in took["full"]]),
    }


def early_exit(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Escalate prompts at block l."""
    from served import asked, drawn_router

    from relope.serve.local.prompts import collated, prompt_of
    from relope.serve.local.reading import read_prompts
    from relope.serve.local.scoring import Scorer

    layer, blocks = backbone.default_layer, len(backbone.blocks)
    asked_for = [asked(sample.question) for sample in of_length(backbone, 8, run.sizes.length)]
    ready = [prompt_of(backbone, query) for query in asked_for]
    inputs = {name: tensor.to(run.device) for name, tensor in collated(ready, 0).items()}
    scorer = Scorer(drawn_router("relope", backbone, layer), layer, backbone)

    @torch.inference_mode()
    def escalated() -> None:
        def decide(at: Any) -> list[int]:
            scorer.at_prompt(ready, at)
            return []

        read_prompts(backbone, inputs, layer, decide)

    @torch.inference_mode()
    def prefill() -> None:
        backbone.model.generate(**backbone.to_device(inputs), max_new_tokens=1, do_sample=False)

    took = run.compare({"escalated": escalated, "prefill": prefill})
    goal = round(layer / blocks + 0.05, 3)
    yield {
        f"{backbone.name}: escalated at block {layer} of {blocks}, over a prefill": at_most(
            ratios(took["escalated"], took["prefill"]), goal
        ),
        f"{backbone.name}: ms of a prefill, 8 x {run.sizes.length}": shown([each * 1e3 for each in took["prefill"]]),
    }
