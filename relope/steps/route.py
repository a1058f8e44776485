"""The step ``route``: one question through a bundle, answered by the small model or the large one."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError, OutputError
from relope.spec import RouteSpec
from relope.steps.step import Step
from relope.types import LazyImage, Outcome, Watch

if TYPE_CHECKING:
    from PIL.Image import Image

    from relope.serve.bundle import Bundle
    from relope.serve.routing import Routed
    from relope.types import Answer

log = logging.getLogger(__name__)


def output(spec: RouteSpec) -> Path:
    """Return the bundle: nothing is written."""
    return spec.bundle


def check(spec: RouteSpec) -> None:
    """Refuse half a large model, no device or image, and what is no bundle, before a model is loaded."""
    _opened(spec)


def _opened(spec: RouteSpec) -> "tuple[list[Image], Bundle]":
    """Return the images and the bundle.

    Raises:
        InvalidInputError: half a large model, an unknown device, or an image that cannot be decoded.
        NotFoundError: no such image, or no bundle.
        StoreError: the bundle was changed.
    """
    from relope.extract.model.devices import check_device
    from relope.serve.bundle import load_bundle
    from relope.serve.routing import open_image

    check_device(spec.device)
    if spec.large_base_url is not None and spec.large_model is None:
        raise InvalidInputError("the large model needs its name there", hint="add --large-model NAME")
    if spec.large_base_url is None and (spec.large_model is not None or spec.large_api_key_env is not None):
        raise InvalidInputError("the large model needs its server", hint="add --large-base-url URL")
    try:
        images = [open_image(Path(path)) for path in spec.image]
    except (InvalidInputError, NotFoundError) as error:
        raise type(error)(str(error), hint="give --image the file of an image, once for each") from error
    return images, load_bundle(spec.bundle)


def run(spec: RouteSpec, watch: Watch) -> Outcome:
    """Decide on the question, and answer it."""
    from relope.serve.engine import EngineSettings, Message, Query, open_engine
    from relope.serve.routing import Session

    images, bundle = _opened(spec)
    if bundle.prompt_note:
        log.warning("%s", bundle.prompt_note)
    system = (Message("system", (spec.system,)),) if spec.system else ()
    query = Query(
        messages=(*system, Message("user", (*images, spec.question))),
        max_new_tokens=spec.max_new_tokens,
        threshold=spec.threshold,
    )
    engine = open_engine(spec.engine, spec.bundle, EngineSettings(model=spec.model or "", device=spec.device))
    with watch("load the small model"):
        session = Session(engine)
    try:
        routed = session.route(query)
    finally:
        session.close()
    large = _ask_large(spec, images) if routed.decision.route == "large" and spec.large_base_url else None
    facts = _facts(spec, bundle, routed, large)
    return Outcome(spec.bundle, False, _told(bundle, routed, facts), facts, payload=facts)


def _facts(spec: RouteSpec, bundle: "Bundle", routed: "Routed", large: "Answer | None") -> dict[str, Any]:
    decision = routed.decision
    small = decision.route == "small"
    return {
        "route": decision.route,
        "p_correct": decision.p_correct,
        "score": decision.score,
        "threshold": decision.threshold,
        "reason": decision.reason,
        **({"detail": decision.detail} if decision.detail else {}),
        "model": bundle.model if small else spec.large_model,
        "answer": routed.text if small else large.text if large else None,
        "finish_reason": routed.finish if small else large.finish_reason if large else None,
        "n_prompt_tokens": decision.n_prompt_tokens,
        "n_answer_tokens": routed.n_answer_tokens if small else large.usage.completion_tokens if large else None,
        "seconds": {"prompt": decision.timing.prompt, "scoring": decision.timing.scoring},
    }


def _told(bundle: "Bundle", routed: "Routed", facts: Mapping[str, Any]) -> str:
    """Return the decision in a line, and the answer."""
    decision = routed.decision
    side = "escalated" if decision.route == "large" else f"kept by {bundle.model}"
    if decision.score is None:
        why = decision.detail
    else:
        than = "<" if decision.score < decision.threshold else "≥"
        chance = "" if decision.p_correct is None else f"P(correct) {decision.p_correct:.2f}, "
        why = f"{chance}score {decision.score:.4g} {than} threshold {decision.threshold:.4g}"
    told = f"{why}: {side}"
    if facts["answer"] is not None:
        return f"{told}\n{facts['answer'].strip()}"
    return f"{told}; no large model was given to answer it"


def _ask_large(spec: RouteSpec, images: "list[Image]") -> "Answer":
    """Return the large model's answer.

    Raises:
        OutputError: its server cannot be reached, refuses, or says something that is no answer.
        NotFoundError: the environment has no such key.
    """
    from relope.extract.endpoint.address import open_endpoint
    from relope.extract.endpoint.client import Question, ask
    from relope.extract.endpoint.messages import image_part, text_part

    assert spec.large_base_url is not None
    assert spec.large_model is not None
    shown = [image_part(LazyImage("", image.copy)) for image in images]
    content: Any = [*shown, text_part(spec.question)] if shown else spec.question
    system = [{"role": "system", "content": spec.system}] if spec.system else []
    endpoint = open_endpoint(spec.large_base_url, spec.large_model, spec.large_api_key_env)
    try:
        return ask(endpoint, Question([*system, {"role": "user", "content": content}], spec.max_new_tokens))
    except OutputError as error:
        raise OutputError(f"the query was escalated, and {error}", hint="ask again, or lower --threshold") from error
    finally:
        endpoint.close()


STEP = Step(run, output, version=1, check=check)
