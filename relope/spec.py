"""One frozen specification a step: the single source of every knob.

Command-line flags, the keys of ``pipelines.yaml`` and the arguments of ``relope.steps`` are all
made from these classes. A field's description is its ``--help``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from relope.errors import InvalidInputError, unknown
from relope.places import store_ref
from relope.provenance import digest

Layers = tuple[str, ...]
StoreRef = Annotated[str, BeforeValidator(store_ref)]
"""A store that is read: its folder, or a URI. (As a Path, a URI would lose a slash.)"""


class Spec(BaseModel):
    """Base of all specifications."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of every field."""
        return digest(self.model_dump(mode="json"))


class ExtractSpec(Spec):
    """Run a model once over a data set and keep its answers and hidden states."""

    model: str = Field(description="name, hub id or checkpoint folder; `relope list models`")
    dataset: str = Field("tiny", description="name of a data set; `relope list datasets`")
    layers: Layers = Field((), description="block numbers or depth fractions, e.g. 23,24 or 0.5; default: l-1,l")
    split: Layers = Field((), description="splits to extract; default: all labelled ones")
    limit: int | None = Field(None, ge=1, description="at most so many samples of each split")
    out: Path | None = Field(None, description="the store; default runs/<dataset>.zarr")
    text_only: bool = Field(False, description="put captions in place of pictures")
    tokens: Literal["all", "lean"] = Field("all", description="lean keeps all tokens of the shallower layers only")
    batch_size: int | None = Field(None, ge=1, description="samples in one prefill; default: the model's own")
    max_new_tokens: int | None = Field(None, ge=1, description="longest answer; default: the data set's own")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="compute dtype")
    store_dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="stored dtype; auto = compute")
    codec: Literal["none", "zstd"] = Field("none", description="zstd: a third smaller on disk, slower to read")
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field("sdpa", description="attention implementation")
    grader: str | None = Field(None, description="how answers are judged; default: the data set's own")
    reuse: StoreRef | None = Field(None, description="a teammate's store: take what it has, compute the rest")


class GradeSpec(Spec):
    """Judge the answers of a store, without a model."""

    store: StoreRef = Field(description="a store: its folder, or a URI")
    grader: str | None = Field(None, description="`relope list graders`; default: the store's own")


class FitSpec(Spec):
    """Fit a routing method from a store."""

    method: str = Field(description="`relope list methods`")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    out: Path | None = Field(None, description="the router; default <store>.routers/<method>")
    layer: int | None = Field(None, ge=1, description="the block l that is read; default: the store's deepest")
    split: Layers = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the verdicts; default: the newest")
    seed: int = Field(0, ge=0, description="decides initial weights, batches and the inner split")
    mode: Literal["cached", "truncated", "full"] | None = Field(None, description="relope: replay, or stream")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    set: dict[str, Any] = Field(default_factory=dict, description="a setting of the method, key=value; repeatable")


class PredictSpec(Spec):
    """Score the samples of a store with a router."""

    router: str = Field(description="a router folder, or the name of a method that trains nothing")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    out: Path | None = Field(None, description="the scores; default <store>.scores/<method>.parquet")
    split: Layers = Field(("test",), description="splits to score")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")


class EvaluateSpec(Spec):
    """Compare the scores of several methods and write a report."""

    store: StoreRef = Field(description="the small model's store; scores lie in <store>.scores")
    large_store: StoreRef | None = Field(None, description="the large model's store, for the hybrid system")
    methods: Layers = Field((), description="methods to compare; default: all that have scores")
    split: Layers = Field(("test",), description="splits to evaluate on")
    grades: str | None = Field(None, description="grader@version of the verdicts; default: the newest")
    out: Path | None = Field(None, description="folder of the report; default <store>.report")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples and of ties")


SPECS: dict[str, type[Spec]] = {
    "extract": ExtractSpec,
    "grade": GradeSpec,
    "fit": FitSpec,
    "predict": PredictSpec,
    "evaluate": EvaluateSpec,
}
"""Step → its specification; a step's function in ``relope.steps`` has the same name."""


def build(step: str, values: dict[str, Any], where: str = "") -> Spec:
    """Return the checked specification of a step.

    Args:
        step: a key of ``SPECS``.
        values: field → value; lists of names may be given as one comma-separated string.
        where: put before the message, e.g. ``pipelines.yaml: demo: fit``.

    Raises:
        InvalidInputError: a value that is not allowed.
        NotFoundError: an unknown key, with the nearest known one.
    """
    model = SPECS[step]
    prefix = f"{where}: " if where else ""
    for key in values:
        if key not in model.model_fields:
            raise unknown(f"key of {prefix}{step}", key, model.model_fields)
    split = {key: _listed(value) if _is_list(model, key) else value for key, value in values.items()}
    try:
        return model(**split)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"{prefix}{key}={values.get(key)!r}: {said[:1].lower()}{said[1:]}") from error


def _is_list(model: type[Spec], key: str) -> bool:
    return model.model_fields[key].annotation == Layers


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(str(part) for part in value) if isinstance(value, (list, tuple)) else value
