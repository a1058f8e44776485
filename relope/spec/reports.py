"""What is told of routers: reports, studies, comparisons."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from relope.fields import LOG_PROJECT, LOG_TO, Budget, Metavar, Positional, Reads, Spec, StoreRef, StoreRefs, Words


class EvaluateSpec(Spec, step="evaluate"):
    """Compare the scores of several methods and write a report."""

    store: Annotated[StoreRef, Reads()] = Field(description="the small model's store")
    scores: Annotated[Path | None, Reads()] = Field(None, description="folder of the scores; default <store>.scores")
    large_store: Annotated[StoreRefs, Metavar("STORE,…"), Reads()] = Field(
        (), description="the large model's store, for the hybrid system; several: which of them pays at which budget"
    )
    methods: Words = Field((), description="methods to compare; default: all that have scores")
    fit: Annotated[Words, Metavar("METHOD,…")] = Field(
        (), description="methods to fit on train and to score first, as far as that is not done, e.g. probe,fusion"
    )
    split: Words = Field(("test",), description="splits to evaluate on")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    labels_store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="take grades from this store: labels frozen on other images"
    )
    costs: Annotated[Path | None, Reads()] = Field(
        None, description="a price list; `--costs example` says where one to fill in lies"
    )
    budget: Annotated[Budget, Metavar("SHARE")] = Field(
        0.2, description="share of the questions that may be escalated: 0.2 or 20%"
    )
    out: Path | None = Field(None, description="folder of the report; default <store>.report")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples and of ties")
    log_to: Literal["trackio", "wandb", "mlflow"] | None = Field(None, description=LOG_TO)
    log_project: str = Field("relope", min_length=1, description=LOG_PROJECT)


class RecommendSpec(Spec, step="recommend"):
    """Say which router to deploy, what more labels would bring, and which questions it fails on."""

    store: Annotated[StoreRef, Reads()] = Field(description="the small model's store; its training split is read")
    budget: Annotated[Budget, Metavar("SHARE")] = Field(
        0.2, description="share of the questions that may be escalated: 0.2 or 20%"
    )
    before_answer: bool = Field(False, description="only routers that decide before the small model answers")
    split: Words = Field(("train",), description="splits to learn from, out of fold")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    layer: int | None = Field(None, ge=1, description="block whose states are read; default: the store's deepest")
    seed: int = Field(0, ge=0, description="decides folds and what is drawn")


class StudySpec(Spec, step="study"):
    """Put several reports together into a table or figure of the paper."""

    study: Annotated[
        Literal["table1", "table2", "table3", "table4", "figure2", "figure3", "data-efficiency"], Positional()
    ] = Field(description="what to make")
    reports: Annotated[Words, Metavar("FOLDER,…"), Reads()] = Field(
        (), description="folders of reports, or folders that hold some"
    )
    sweeps: Annotated[Words, Metavar("FILE,…"), Reads()] = Field(
        (), description="figure3: Parquet files of `relope sweep`"
    )
    methods: Words = Field((), description="methods to show; default: all")
    out: Path | None = Field(None, description="folder of the study; default runs/<study>")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples")


class CompareSpec(Spec, step="compare"):
    """Show what changed between two reports, paired where their samples are the same."""

    first: Annotated[Path, Reads(), Positional()] = Field(description="folder of a report")
    second: Annotated[Path, Reads(), Positional()] = Field(description="folder of another report")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the intervals")
    seed: int = Field(0, ge=0, description="seed of the resamples")


class ViewSpec(Spec, step="view"):
    """Browse samples in a browser: image, answers, grades, what every router would do; correct grades by hand."""

    source: Annotated[StoreRef, Metavar("STORE|REPORT"), Reads(), Positional()] = Field(
        description="a store, or the folder of a report"
    )
    large_store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="the large model's store; default: that of the report"
    )
    store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="the report's store, where it is neither in its folder nor beside it"
    )
    scores: Annotated[Path | None, Reads()] = Field(None, description="folder of the scores; default <store>.scores")
    router: Annotated[Path | None, Metavar("FOLDER"), Reads()] = Field(
        None, description="router whose weights are laid over images; default <store>.routers/attention-probe"
    )
    split: Words = Field((), description="splits to show; default: all")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    budget: Annotated[Budget, Metavar("SHARE")] = Field(
        0.2, description="share of the questions that may be escalated, to begin with"
    )
    port: int = Field(8010, ge=0, le=65535, description="port to listen at, on 127.0.0.1; 0: any that is free")
