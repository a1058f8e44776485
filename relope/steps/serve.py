"""The step ``serve``: a bundle's router in front of traffic, until it is told to end."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from relope.errors import InvalidInputError, NotFoundError
from relope.fields import refuse_given
from relope.spec import ServeSpec
from relope.steps.step import Step
from relope.types import Outcome, Watch, silent
from relope.words import counted

if TYPE_CHECKING:
    from relope.evaluate.numbers.costs import ModelCost
    from relope.extract.endpoint.address import Completions
    from relope.serve.bundle import Bundle
    from relope.serve.large import LargeModel
    from relope.serve.service import Options

_PACKAGES = ("starlette", "uvicorn", "httpx", "prometheus_client")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def output(spec: ServeSpec) -> Path:
    """Return the log, or the bundle where none is kept: nothing else is written."""
    return spec.log or spec.bundle


def check(spec: ServeSpec) -> None:
    """Refuse what cannot be served, before a model is loaded."""
    _checked(spec)


def require_packages(what: str) -> None:
    """Refuse what cannot run here.

    Raises:
        NotFoundError: the extra ``serve`` is not installed.
    """
    if lacking := [name for name in _PACKAGES if find_spec(name) is None]:
        raise NotFoundError(f"{what} needs the package {lacking[0]}", hint="pip install 'relope[serve]'")


def _checked(spec: ServeSpec) -> "Bundle":
    """Return the bundle.

    Raises:
        NotFoundError: the extra ``serve`` is not installed, there is no bundle, key or price list.
        InvalidInputError: an address, host, device or key that is none; a cap on dollars without prices.
        StoreError: the bundle was changed.
    """
    require_packages("serving")
    from relope.extract.model.devices import check_device
    from relope.serve.access import KEY_VARIABLE, check_address, read_key
    from relope.serve.bundle import load_bundle

    check_device(spec.device)
    check_address(spec.host, read_key(spec.api_key_file, KEY_VARIABLE))
    large_of(spec)
    if strange := [host for host in spec.allow_image_host if not _HOST.fullmatch(host.lower())]:
        raise InvalidInputError(f"{strange[0]!r} is no host's name", hint="e.g. --allow-image-host images.example.org")
    _check_engine(spec)
    if spec.log_prompts and spec.log is None:
        raise InvalidInputError("prompts are to be logged, and no log is kept", hint="add --log FILE")
    return load_bundle(spec.bundle)


def _check_engine(spec: ServeSpec) -> None:
    """Refuse a server for an engine that asks none; for one that does none or two, and what the server decides.

    Raises:
        InvalidInputError: as said.
        NotFoundError: the Python that is to start it has no vLLM.
    """
    given = [server for server in (spec.vllm_url, spec.vllm_python) if server is not None]
    if spec.engine != "vllm":
        if given or spec.vllm_argument or spec.vllm_states is not None:
            raise InvalidInputError(f"the engine {spec.engine} asks no vLLM server", hint="add --engine vllm")
        return
    refuse_given(spec, ("batch_tokens", "cache_tokens"), "is not for the engine vllm: its server has its own")
    if len(given) != 1:
        raise InvalidInputError(
            "the engine vllm asks one server: one that is there, or one that it starts",
            hint="give --vllm-url URL, or --vllm-python PYTHON of the environment that vLLM is installed in",
        )
    if spec.vllm_url is not None:
        example = "--vllm-url http://127.0.0.1:8001"
        if _completions(spec.vllm_url, "", example).query or "#" in spec.vllm_url:
            raise InvalidInputError(f"{spec.vllm_url!r} is more than the address of a server", hint=f"e.g. {example}")
    from relope.vllm.command import check_arguments

    check_arguments(spec.vllm_argument, spec.vllm_url)
    if spec.vllm_python is not None:
        from relope.vllm.process import check_python

        check_python(spec.vllm_python)


def run(spec: ServeSpec, watch: Watch) -> Outcome:
    """Serve until SIGTERM or SIGINT."""
    bundle = _checked(spec)
    from relope.serve.access import ADMIN_VARIABLE, KEY_VARIABLE, Access, read_key
    from relope.serve.engine import EngineSettings, open_engine
    from relope.serve.listening import logger_on_stderr
    from relope.serve.server import Server
    from relope.serve.service import Service

    logger = logger_on_stderr("relope.serve", "%(asctime)s %(message)s", quiet=watch is silent)
    settings = EngineSettings(
        model=spec.model or "",
        device=spec.device,
        batch_tokens=spec.batch_tokens,
        max_rows=spec.max_rows,
        cache_tokens=spec.cache_tokens,
        url=spec.vllm_url or "",
        python=spec.vllm_python or "",
        arguments=spec.vllm_argument,
        states=str(spec.vllm_states or ""),
    )
    engine = open_engine(spec.engine, spec.bundle, settings)
    if spec.threshold is not None:
        engine.threshold = spec.threshold
        logger.warning(
            "threshold %.6g was given: what the bundle promises holds at %.6g", spec.threshold, bundle.threshold
        )
    if bundle.prompt_note:
        logger.warning("%s", bundle.prompt_note)
    access = Access(read_key(spec.api_key_file, KEY_VARIABLE), read_key(spec.admin_key_file, ADMIN_VARIABLE))
    service = Service(bundle, engine, large_of(spec), _options(spec, bundle))

    def listens(url: str) -> None:
        logger.info("relope serves %s and %s at %s", bundle.model, spec.large_model, url)

    Server(service, access, spec.host, spec.port, listens).serve_until_told()
    small, large = service.n_answered["small"], service.n_answered["large"]
    text = f"{counted(small + large, 'request')} answered, {small:,} by {engine.name}, {large:,} by {spec.large_model}"
    return Outcome(output(spec), False, text, {"answered": dict(service.n_answered)})


def large_of(spec: ServeSpec) -> "LargeModel":
    """Return the large model as the operator describes it."""
    from relope.extract.endpoint.address import key_of
    from relope.serve.large import LargeModel

    price = _price(spec, spec.large_model)
    known = price and None not in (price.dollars_per_million_prompt_tokens, price.dollars_per_million_answer_tokens)
    if spec.max_usd_per_hour is not None and not known:
        raise InvalidInputError(
            f"a cap on dollars needs the prices of both kinds of tokens of {spec.large_model}", hint="add --costs FILE"
        )
    completions = _completions(spec.large_base_url, spec.large_model, "--large-base-url https://api.openai.com/v1")
    return LargeModel(
        base_url=completions.base,
        query=completions.query,
        takes_bearer=completions.takes_bearer,
        name=spec.large_model,
        key=key_of(spec.large_api_key_env) if spec.large_api_key_env else "",
        price=price,
        timeout_s=spec.large_timeout,
        retries=spec.large_retries,
        concurrent=spec.large_concurrent,
        max_usd_per_hour=spec.max_usd_per_hour,
    )


def _price(spec: ServeSpec, model: str) -> "ModelCost | None":
    from relope.evaluate.numbers.costs import read_prices

    return read_prices(spec.costs).models.get(model) if spec.costs is not None else None


def _completions(url: str, model: str, flag: str) -> "Completions":
    """Return where a model is asked; an address that is none is told with the flag that gave it."""
    from relope.extract.endpoint.address import completions_at

    try:
        return completions_at(url, model)
    except InvalidInputError as error:
        raise InvalidInputError(str(error), hint=f"e.g. {flag}") from error


def _options(spec: ServeSpec, bundle: "Bundle") -> "Options":
    """Return how the server behaves."""
    from relope.serve.limits import Limits
    from relope.serve.policy import Settings
    from relope.serve.service import Options

    return Options(
        policy=Settings(shadow=spec.shadow, local_fallback=spec.local_fallback, overrides=spec.allow_overrides),
        limits=Limits(
            body_bytes=spec.max_body_mb << 20,
            messages=spec.max_messages,
            parts=spec.max_parts,
            images=spec.max_images,
            pixels=spec.max_pixels,
            answer_tokens=spec.max_tokens,
        ),
        session_ttl_s=spec.session_ttl,
        image_hosts=tuple(host.lower() for host in spec.allow_image_host),
        log=spec.log,
        log_prompts=spec.log_prompts,
        forward_auth=spec.forward_auth,
        small_price=_price(spec, bundle.model),
        drain_s=spec.drain,
    )


STEP = Step(run, output, version=1, check=check)
