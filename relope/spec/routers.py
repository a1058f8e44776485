"""What is made of a store: routers, their scores, and what they look at."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from relope.fields import (
    LOG_PROJECT,
    LOG_TO,
    KeyValues,
    Metavar,
    Names,
    Positional,
    Reads,
    Share,
    Spec,
    StoreRef,
    Words,
)


class FitSpec(Spec, step="fit"):
    """Fit a routing method from a store."""

    method: Annotated[str, Names("methods"), Positional()] = Field(description="`relope list methods`")
    store: Annotated[StoreRef, Reads()] = Field(description="a store: its folder, or a URI")
    also: Annotated[Words, Metavar("STORE,…"), Reads()] = Field(
        (), description="further stores of the same model and layers to learn from"
    )
    leave_out: Annotated[Words, Metavar("DATASET,…")] = Field(
        (), description="data sets whose samples are not learned from"
    )
    cap: int | None = Field(None, ge=4, description="at most so many samples of each data set, whole groups")
    folds: int | None = Field(None, ge=2, le=50, description="score the samples out of fold instead, for small sets")
    out: Path | None = Field(
        None, description="the router; default <method>[@seed<seed>] in <store>.routers; with --folds, the scores"
    )
    layer: int | None = Field(None, ge=1, description="block whose states are read; default: the store's deepest")
    split: Words = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    large_store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="routellm-sw: the large model's store, for who wins"
    )
    seed: int = Field(0, ge=0, description="decides initial weights, batches and the inner split")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    jobs: int = Field(1, ge=1, description="fusion, fusion-prefill: processes that the stacked methods are fitted in")
    set: Annotated[dict[str, Any], KeyValues("head=logistic")] = Field(
        default_factory=dict, description="a setting of the method, key=value; repeatable"
    )
    log_to: Literal["trackio", "wandb", "mlflow"] | None = Field(None, description=LOG_TO)
    log_project: str = Field("relope", min_length=1, description=LOG_PROJECT)


class SweepSpec(Spec, step="sweep"):
    """Fit a method with every combination of some settings and compare them on inner validation."""

    method: Annotated[str, Names("methods"), Positional()] = Field(description="`relope list methods`")
    store: Annotated[StoreRef, Reads()] = Field(description="a store: its folder, or a URI")
    grid: Annotated[dict[str, tuple[Any, ...]], KeyValues("lora_rank=2,4,8", listed=True)] = Field(
        default_factory=dict, description="values of a setting (or of layer), key=value,value; repeatable"
    )
    seeds: int = Field(3, ge=1, description="fits of each combination")
    out: Path | None = Field(None, description="table of all runs; default <store>.sweeps/<method>.parquet")
    layer: int | None = Field(None, ge=1, description="block whose states are read; default: the store's deepest")
    split: Words = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    seed: int = Field(0, ge=0, description="the first of the seeds")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    engine: Literal["local", "ray"] = Field(
        "local", description="where the fits run: here, one after another, or on the workers of a Ray cluster"
    )
    address: Annotated[str | None, Metavar("HOST:PORT")] = Field(
        None, description="of a Ray cluster, or auto; default: one is started on this machine"
    )
    workers: int | None = Field(None, ge=1, le=256, description="of --engine ray: fits at a time, default all that fit")
    gpus_per_worker: float | None = Field(
        None, ge=0, le=64, description="cards of each Ray worker; default: 1 where the cluster has any"
    )
    set: Annotated[dict[str, Any], KeyValues("head=logistic")] = Field(
        default_factory=dict, description="a setting of all runs, key=value; repeatable"
    )
    log_to: Literal["trackio", "wandb", "mlflow"] | None = Field(None, description=LOG_TO)
    log_project: str = Field("relope", min_length=1, description=LOG_PROJECT)


class ExplainSpec(Spec, step="explain"):
    """Show which tokens of a sample a router looks at."""

    router: Annotated[Path, Reads()] = Field(description="a router folder, of attention-probe")
    store: Annotated[StoreRef, Reads()] = Field(description="a store: its folder, or a URI")
    sample: Annotated[str, Metavar("ID")] = Field(description="id of a sample in it")
    out: Path | None = Field(None, description="folder of the page; default <store>.explained/<sample>")


class ExportSpec(Spec, step="export"):
    """Write a relope router as a standard PEFT adapter folder, its head beside it."""

    folder: Annotated[Path, Reads(), Positional()] = Field(description="a router folder, of relope")
    out: Path = Field(description="the adapter folder")


class PredictSpec(Spec, step="predict"):
    """Score the samples of a store with a router."""

    router: Annotated[str, Names("methods", or_path=True)] = Field(
        description="a router folder, or the name of a method that trains nothing"
    )
    store: Annotated[StoreRef, Reads()] = Field(description="a store: its folder, or a URI")
    out: Path | None = Field(
        None,
        description="the scores, .parquet, .csv or .jsonl; default <store>.scores/<router's folder>.parquet",
    )
    split: Words = Field(("test",), description="splits to score")
    budget: Annotated[Share | None, Metavar("SHARE")] = Field(
        None, gt=0, lt=1, description="also decide: escalate 0.2 or 20%; the threshold is set on validation"
    )
    threshold: float | None = Field(None, ge=0, le=1, description="also decide: escalate scores below this")
    transfer: bool = Field(False, description="allow a router fitted on other data or images of the same model")
    grades: str | None = Field(
        None, description="grader@version that read the answers; default: what `relope grade` set last"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
