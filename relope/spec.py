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
    dataset: str = Field("aokvqa", description="name (`relope list datasets`), or your own file or folder")
    layers: Layers = Field((), description="block numbers or depth fractions, e.g. 23,24 or 0.5; default: l-1,l")
    split: Layers = Field((), description="splits to extract; default: all labelled ones")
    limit: int | None = Field(None, ge=1, description="at most so many samples of each split")
    out: Path | None = Field(None, description="the store; default runs/<dataset>.zarr")
    text_only: bool = Field(False, description="put captions in place of pictures")
    captions: Path | None = Field(None, description="captions file for --text-only; `relope caption` makes one")
    perturb: str | None = Field(None, description="noise, jpeg or blur, with a strength if wanted: noise:0.12")
    strict: bool = Field(False, description="stop at a sample that cannot be used instead of skipping it")
    tokens: Literal["all", "lean"] = Field("all", description="lean keeps all tokens of the shallower layers only")
    batch_size: int | None = Field(None, ge=1, description="samples in one prefill; default: the model's own")
    max_new_tokens: int | None = Field(
        None, ge=0, description="longest answer; 0: states only; default: the data set's"
    )
    samples: int = Field(0, ge=0, le=64, description="also sample so many traces in each of MoT's two styles")
    temperature: float = Field(0.7, gt=0, le=10, description="of the sampled traces")
    trace_tokens: int = Field(256, ge=1, description="longest sampled chain of thought")
    p_true: bool = Field(False, description="also ask the model whether its own answer is correct")
    seed: int = Field(0, ge=0, description="with a sample's id it decides what is drawn")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    device_map: Literal["auto"] | None = Field(None, description="spread the blocks over all devices")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="compute dtype")
    store_dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="stored dtype; auto = compute")
    codec: Literal["none", "zstd"] = Field("none", description="zstd: a third smaller on disk, slower to read")
    attn: Literal["sdpa", "eager", "flash_attention_2"] = Field("sdpa", description="attention implementation")
    quantize: Literal["4bit", "8bit"] | None = Field(
        None, description="load the weights quantized (bitsandbytes, CUDA)"
    )
    grader: str | None = Field(None, description="how answers are judged; default: the data set's own")
    reuse: StoreRef | None = Field(None, description="a teammate's store: take what it has, compute the rest")


class PlanSpec(ExtractSpec):
    """Say what an extraction will cost on disk and in time, before it runs; the flags are those of extract."""

    measure: int = Field(0, ge=0, description="also load the model and run so many samples, to tell the time of all")


class CaptionSpec(Spec):
    """Describe a data set's pictures in words, for extraction with --text-only."""

    dataset: str = Field("aokvqa", description="name (`relope list datasets`), or your own file or folder")
    model: str = Field(description="a local model as in extract; with --endpoint, the name of the model there")
    endpoint: str | None = Field(None, description="base URL of an OpenAI-compatible server, e.g. http://host:8000/v1")
    api_key_env: str | None = Field(None, description="environment variable that holds the server's key")
    split: Layers = Field((), description="splits to describe; default: all labelled ones")
    limit: int | None = Field(None, ge=1, description="at most so many samples of each split")
    out: Path | None = Field(None, description="the captions; default runs/<dataset>.captions.jsonl")
    prompt: str | None = Field(None, description="what the model is asked; default: a detailed description")
    max_new_tokens: int = Field(256, ge=1, description="longest caption")
    workers: int = Field(8, ge=1, le=256, description="requests at a time; with a local model, pictures in a batch")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="compute dtype")


class GradeSpec(Spec):
    """Judge the answers of a store or of a file, without a model."""

    store: StoreRef | None = Field(None, description="a store; its verdicts are kept in it")
    responses: Path | None = Field(None, description="a JSON Lines file of response, gold and maybe choices")
    grader: str | None = Field(None, description="`relope list graders`; default: the store's own, or auto")


class FitSpec(Spec):
    """Fit a routing method from a store."""

    method: str = Field(description="`relope list methods`")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    also: Layers = Field((), description="further stores of the same model and layers to learn from")
    leave_out: Layers = Field((), description="data sets whose samples are not learned from")
    cap: int | None = Field(None, ge=4, description="at most so many samples of each data set, whole groups")
    folds: int | None = Field(None, ge=2, le=50, description="score the samples out of fold instead, for small sets")
    out: Path | None = Field(
        None, description="the router; default <store>.routers/<method>[@seed<seed>]; with --folds, the scores"
    )
    layer: int | None = Field(None, ge=1, description="the block l that is read; default: the store's deepest")
    split: Layers = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the verdicts; default: the newest")
    large_store: StoreRef | None = Field(None, description="routellm-sw: the large model's store, for who wins")
    seed: int = Field(0, ge=0, description="decides initial weights, batches and the inner split")
    mode: Literal["cached", "truncated", "full"] | None = Field(None, description="relope: replay, or stream")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    set: dict[str, Any] = Field(default_factory=dict, description="a setting of the method, key=value; repeatable")


class SweepSpec(Spec):
    """Fit a method with every combination of some settings and compare them on inner validation."""

    method: str = Field(description="`relope list methods`")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict, description="values of a setting (or of layer), key=value,value; repeatable"
    )
    seeds: int = Field(3, ge=1, description="fits of each combination")
    out: Path | None = Field(None, description="table of all runs; default <store>.sweeps/<method>.parquet")
    layer: int | None = Field(None, ge=1, description="the block l that is read; default: the store's deepest")
    split: Layers = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the verdicts; default: the newest")
    seed: int = Field(0, ge=0, description="the first of the seeds")
    mode: Literal["cached", "truncated", "full"] | None = Field(None, description="relope: replay, or stream")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    set: dict[str, Any] = Field(default_factory=dict, description="a setting of all runs, key=value; repeatable")


class ExplainSpec(Spec):
    """Show which tokens of a sample a router looks at."""

    router: Path = Field(description="a router folder, of attention-probe")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    sample: str = Field(description="id of a sample in it")
    out: Path | None = Field(None, description="folder of the picture; default <store>.explained/<sample>")


class ExportSpec(Spec):
    """Write a relope router as a standard PEFT adapter folder, its head beside it."""

    folder: Path = Field(description="a router folder, of relope")
    out: Path = Field(description="the adapter folder")


class PredictSpec(Spec):
    """Score the samples of a store with a router."""

    router: str = Field(description="a router folder, or the name of a method that trains nothing")
    store: StoreRef = Field(description="a store: its folder, or a URI")
    out: Path | None = Field(None, description="the scores; default <store>.scores/<router's folder>.parquet")
    split: Layers = Field(("test",), description="splits to score")
    transfer: bool = Field(False, description="allow a router fitted on other data or pictures of the same model")
    grades: str | None = Field(None, description="grader@version that read the answers; default: the newest")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")


class EvaluateSpec(Spec):
    """Compare the scores of several methods and write a report."""

    store: StoreRef = Field(description="the small model's store")
    scores: Path | None = Field(None, description="folder of the scores; default <store>.scores")
    large_store: StoreRef | None = Field(None, description="the large model's store, for the hybrid system")
    methods: Layers = Field((), description="methods to compare; default: all that have scores")
    split: Layers = Field(("test",), description="splits to evaluate on")
    grades: str | None = Field(None, description="grader@version of the verdicts; default: the newest")
    labels_store: StoreRef | None = Field(
        None, description="take verdicts from this store: labels frozen on other pictures"
    )
    costs: Path | None = Field(None, description="a price list; `--costs example` says where one to fill in lies")
    out: Path | None = Field(None, description="folder of the report; default <store>.report")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples and of ties")


class StudySpec(Spec):
    """Put several reports together into a table or figure of the paper."""

    study: Literal["table1", "table2", "table3", "table4", "figure2", "figure3", "data-efficiency"] = Field(
        description="what to make"
    )
    reports: Layers = Field((), description="folders of reports, or folders that hold some")
    sweeps: Layers = Field((), description="figure3: Parquet files of `relope sweep`")
    methods: Layers = Field((), description="methods to show; default: all")
    out: Path | None = Field(None, description="folder of the study; default runs/<study>")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples")


class CompareSpec(Spec):
    """Show what changed between two reports, paired where their samples are the same."""

    first: Path = Field(description="folder of a report")
    second: Path = Field(description="folder of another report")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples")


SPECS: dict[str, type[Spec]] = {
    "extract": ExtractSpec,
    "plan": PlanSpec,
    "caption": CaptionSpec,
    "grade": GradeSpec,
    "fit": FitSpec,
    "sweep": SweepSpec,
    "explain": ExplainSpec,
    "export": ExportSpec,
    "predict": PredictSpec,
    "evaluate": EvaluateSpec,
    "study": StudySpec,
    "compare": CompareSpec,
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
