"""What extract and plan share: the specification read once, the samples of the data set."""

import os
from collections.abc import Sequence
from types import ModuleType

from relope.errors import InvalidInputError
from relope.extract.data.dataset import check_splits, load_samples
from relope.extract.data.open import open_dataset
from relope.extract.data.templates import chat_template, open_prompt
from relope.extract.engine import Settings, engine_module
from relope.extract.extraction import Extraction, ModelChoice, answer_tokens, parse_layers, stop_texts
from relope.extract.grading.grader import open_rule
from relope.extract.model.card import open_card
from relope.extract.model.devices import check_device
from relope.extract.model.extras import Extras
from relope.extract.shards import read_shard
from relope.extract.view import open_view
from relope.fields import given, refuse_given
from relope.spec import ExtractSpec
from relope.types import Sample, Watch


def extraction_of(spec: ExtractSpec) -> Extraction:
    """Return what a specification asks for; a misspelt name is told before anything is fetched.

    Raises:
        RelopeError: a name, layer, split or setting that is not there, or settings that do not go together.
    """
    engine = engine_module(spec.engine)
    _check_where(spec, engine.TAKES)
    if spec.endpoint is None:
        _check_engine(spec, engine)
        _check_model(spec)
    if spec.grader:
        open_rule(spec.grader)
    view = open_view(spec.text_only, spec.captions, spec.perturb, open_prompt(spec.prompt) if spec.prompt else None)
    frame = chat_template(spec.chat_template) if spec.chat_template else ""
    dataset = open_dataset(spec.dataset, spec.name, spec.answer_is, allow_outside=spec.allow_outside)
    extras = Extras(spec.samples, spec.temperature, spec.trace_tokens, spec.p_true, spec.seed)
    spread, n_tokens = spec.device_map == "auto", answer_tokens(dataset, spec.max_new_tokens, extras)
    extraction = Extraction(
        model=ModelChoice(spec.model, spec.device, spec.dtype, spec.attn, spread, spec.quantize, frame),
        dataset=dataset,
        splits=check_splits(dataset, spec.split),
        limit=spec.limit,
        view=view,
        asked_layers=spec.layers,
        tokens=spec.tokens,
        max_new_tokens=n_tokens,
        stops=stop_texts(spec.stop, n_tokens),
        extras=extras,
        asked_dtype=spec.store_dtype,
        asked_batch_size=spec.batch_size,
        grader=spec.grader,
        strict=spec.strict,
        thumbnails=spec.thumbnails,
        shard=read_shard(spec.shard, os.environ) if spec.shard else None,
    )
    if spec.endpoint is None:
        engine.check(extraction, settings_of(spec))
    return extraction


def settings_of(spec: ExtractSpec) -> Settings:
    """Return the settings that are the engine's own."""
    return {name: getattr(spec, name) for name in engine_module(spec.engine).TAKES}


def _check_engine(spec: ExtractSpec, engine: ModuleType) -> None:
    """Refuse a setting of another engine's, and those that this one cannot honour.

    Raises:
        InvalidInputError: one of them is given.
    """
    for name in [*OF_ENGINES, *engine.REFUSES]:
        if name not in engine.TAKES:
            why = engine.REFUSES.get(name, "it has no such setting")
            refuse_given(spec, [name], f"is not for the engine {spec.engine}: {why}")


OF_ENGINES = ("devices", "address", "gpus_per_worker", "vllm_python", "vllm_url", "vllm_argument", "vllm_states")
"""Settings that are some engine's own; each says in ``TAKES`` which."""


def _check_model(spec: ExtractSpec) -> None:
    check_device(spec.device)
    card = open_card(spec.model)
    if card.n_blocks:
        parse_layers(spec.layers, card.n_blocks, card.layer)


HERE = (
    "chat_template", "layers", "tokens", "store_dtype", "codec", "samples", "p_true", "device", "device_map", "dtype",
    "batch_size", "attn", "quantize", "reuse", "measure", "engine", "shard",
)  # fmt: skip
"""Settings of a model that runs here: they mean nothing elsewhere."""

ELSEWHERE = ("api_key_env", "workers", "timeout", "max_pixels", "max_usd", "max_requests", "costs", "batch")
"""Settings of a model that runs elsewhere."""


def _check_where(spec: ExtractSpec, taken: Sequence[str]) -> None:
    """Refuse settings of a model that runs here for one that runs elsewhere, and the other way round.

    Args:
        spec: of the extraction.
        taken: settings that the engine takes.

    Raises:
        InvalidInputError: one of them is given, or answers are not wanted of a server that gives nothing else.
    """
    elsewhere = [name for name in ELSEWHERE if name not in taken]
    if spec.endpoint:
        why = f"is for a model that runs here, and {spec.model} runs at an endpoint"
        refuse_given(spec, [*HERE, *OF_ENGINES], why)
    elif of_endpoint := given(spec, elsewhere):
        raise InvalidInputError(
            f"{', '.join(of_endpoint)} is for a model that runs elsewhere, and no endpoint is given",
            hint="add --endpoint URL",
        )
    if spec.endpoint and spec.max_new_tokens == 0:
        raise InvalidInputError(
            "an endpoint gives answers and no states; 0 new tokens leave nothing of them",
            hint="drop --max-new-tokens 0",
        )


def samples_of(extraction: Extraction, watch: Watch) -> list[Sample]:
    """Return the samples that an extraction is asked for, as the data set has them."""
    with watch("read data") as progress:
        progress(0, 1)
        samples = load_samples(extraction.dataset, extraction.splits, extraction.limit)
        progress(1, 1)
    return samples
