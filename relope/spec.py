"""One frozen specification a step: the single source of every knob.

Command-line flags, the keys of ``pipelines.yaml``, the arguments of the functions in ``relope`` and
what a pipeline knows of a step's inputs are all made from these classes. A field's description is
its ``--help``; markers beside its type say what it is (`relope.fields`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from relope.fields import (
    SPECS,
    Budget,
    KeyValues,
    Metavar,
    Names,
    Off,
    Panel,
    Positional,
    Reads,
    Share,
    Spec,
    StoreRef,
    StoreRefs,
    Verbatim,
    Words,
    build,
)

__all__ = ["SPECS", "Spec", "build"]

URI = "s3://…, gs://…, az://…, hf://datasets/…, hf://buckets/…, file:///… or a folder"


class ExtractSpec(Spec, step="extract"):
    """Run a model once over a data set and keep its answers and hidden states."""

    model: Annotated[str, Names("backbones", or_path=True, unless="endpoint"), Panel("Model")] = Field(
        description="name, hub id, or folder of a checkpoint or a PEFT adapter; `relope list models`; with --endpoint, "
        "the name of the model there"
    )
    chat_template: Annotated[str | None, Metavar("FILE|plain")] = Field(
        None, description="in place of the model's own; plain: the texts alone, for a base model"
    )
    dataset: Annotated[str, Names("datasets", or_path=True), Panel("Data")] = Field(
        description="name (`relope list datasets`), or your own file or folder"
    )
    prompt: Annotated[Path | None, Metavar("FILE"), Reads()] = Field(
        None,
        description="a template of the words around a question: {{ question }}, {{ options }}, {{ hint }} …",
    )
    name: str | None = Field(None, description="what your own file or folder is called; default: its file's name")
    answer_is: Literal["text", "index", "letter"] | None = Field(
        None, description="what answers of your own file are where there are choices; default: what fits"
    )
    allow_outside: bool = Field(False, description="let your own file name images that lie outside its folder")
    split: Words = Field((), description="splits to extract; default: all labelled ones")
    limit: int | None = Field(None, ge=1, description="at most so many samples of each split")
    text_only: bool = Field(False, description="put captions in place of images")
    captions: Annotated[Path | None, Reads()] = Field(
        None, description="captions file for --text-only; `relope caption` makes one"
    )
    perturb: Annotated[str | None, Metavar("KIND[:STRENGTH]")] = Field(
        None, description="noise, jpeg or blur, with a strength if wanted: noise:0.12"
    )
    strict: bool = Field(False, description="stop at a sample that cannot be used instead of skipping it")
    layers: Annotated[Words, Panel("What is kept")] = Field(
        (), description="decoder blocks by number or depth, e.g. 23,24 or 0.5; default: the model's own two, l-1 and l"
    )
    tokens: Literal["all", "lean"] = Field(
        "all", description="all: states of every prompt token; lean: at the deepest layer of the last token only"
    )
    store_dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="stored dtype; auto = compute")
    thumbnails: bool = Field(True, description="keep a thumbnail of each image, of 4 KB at most, for reports")
    codec: Literal["none", "zstd"] = Field("none", description="zstd: a third smaller on disk, slower to read")
    max_new_tokens: Annotated[int | None, Panel("Answers")] = Field(
        None, ge=0, description="longest answer; 0: states only; default: the data set's"
    )
    stop: Annotated[Words, Verbatim(), Metavar("TEXT")] = Field(
        (), description=r"text that ends an answer, e.g. \n or Question:"
    )
    grader: Annotated[str | None, Names("graders", or_path=True)] = Field(
        None, description="how answers are judged; default: the data set's own"
    )
    samples: int = Field(
        0, ge=0, le=64, description="also sample so many further answers in each of two styles, for the method mot"
    )
    temperature: float = Field(0.7, gt=0, le=10, description="of the sampled answers")
    trace_tokens: int = Field(256, ge=1, description="longest sampled answer with its reasoning")
    p_true: bool = Field(False, description="also ask the model whether its own answer is correct")
    seed: int = Field(0, ge=0, description="with a sample's id it decides what is drawn")
    device: Annotated[str, Panel("Hardware")] = Field("auto", description="auto, cpu, cuda or cuda:0")
    device_map: Literal["auto"] | None = Field(None, description="spread the blocks over all devices")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="compute dtype")
    batch_size: int | None = Field(None, ge=1, description="samples in one prefill; default: the model's own")
    attn: Literal["sdpa", "eager", "flash_attention_2"] = Field("sdpa", description="attention implementation")
    quantize: Literal["4bit", "8bit"] | None = Field(
        None, description="load the weights quantized (bitsandbytes, CUDA)"
    )
    endpoint: Annotated[str | None, Metavar("URL"), Panel("A model that runs elsewhere")] = Field(
        None, description="base URL of an OpenAI-compatible server, e.g. https://api.openai.com/v1"
    )
    api_key_env: Annotated[str | None, Metavar("VARIABLE")] = Field(
        None, description="environment variable that holds the server's key"
    )
    workers: int = Field(8, ge=1, le=256, description="questions at a time")
    timeout: float = Field(120.0, gt=0, le=3600, description="seconds that one answer may take")
    max_pixels: int | None = Field(None, ge=64, description="make larger images smaller; default: sent as they are")
    max_usd: float | None = Field(
        None, gt=0, description="stop before answers cost more, by the prices of --costs, in all runs into the store"
    )
    max_requests: int | None = Field(None, ge=1, description="stop after so many requests")
    batch: bool = Field(False, description="ask through the provider's batch interface: cheaper, within a day")
    costs: Annotated[Path | None, Reads()] = Field(None, description="a price list, as `evaluate` takes it")
    out: Annotated[Path | None, Panel("Output")] = Field(None, description="the store; default runs/<dataset>.zarr")
    reuse: Annotated[StoreRef | None, Reads()] = Field(
        None, description="a teammate's store: take what it has, compute the rest"
    )


class PlanSpec(ExtractSpec, step="plan"):
    """Say what an extraction will cost on disk and in time, before it runs; the flags are those of extract."""

    measure: int = Field(0, ge=0, description="also load the model and run so many samples, to tell the time of all")


class CaptionSpec(Spec, step="caption"):
    """Describe a data set's images in words, for extraction with --text-only."""

    dataset: Annotated[str, Names("datasets", or_path=True)] = Field(
        description="name (`relope list datasets`), or your own file or folder"
    )
    model: Annotated[str, Names("backbones", or_path=True, unless="endpoint")] = Field(
        description="a local model as in extract; with --endpoint, the name of the model there"
    )
    name: str | None = Field(None, description="what your own file or folder is called; default: its file's name")
    answer_is: Literal["text", "index", "letter"] | None = Field(
        None, description="what answers of your own file are where there are choices; default: what fits"
    )
    allow_outside: bool = Field(False, description="let your own file name images that lie outside its folder")
    endpoint: Annotated[str | None, Metavar("URL")] = Field(
        None, description="base URL of an OpenAI-compatible server, e.g. http://host:8000/v1"
    )
    api_key_env: Annotated[str | None, Metavar("VARIABLE")] = Field(
        None, description="environment variable that holds the server's key"
    )
    split: Words = Field((), description="splits to describe; default: all labelled ones")
    limit: int | None = Field(None, ge=1, description="at most so many samples of each split")
    out: Path | None = Field(None, description="the captions; default runs/<dataset>.captions.jsonl")
    prompt: str | None = Field(None, description="what the model is asked; default: a detailed description")
    max_new_tokens: int = Field(256, ge=1, description="longest caption")
    workers: int = Field(8, ge=1, le=256, description="requests at a time; with a local model, images in a batch")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="compute dtype")


class GradeSpec(Spec, step="grade"):
    """Judge the answers of a store or of a file: by rules, or by a model at an endpoint."""

    store: Annotated[StoreRef | None, Reads()] = Field(None, description="a store; its grades are kept in it")
    responses: Annotated[Path | None, Reads()] = Field(
        None, description="a JSON Lines file of response, gold and maybe choices"
    )
    grader: Annotated[str | None, Names("graders", or_path=True)] = Field(
        None,
        description="`relope list graders`, or your own FILE.py:function or module:function; default: the store's own, "
        "or auto",
    )
    judge_model: Annotated[str | None, Metavar("MODEL"), Panel("The grader judge")] = Field(
        None, description="name of the model that judges, at the endpoint"
    )
    endpoint: Annotated[str | None, Metavar("URL")] = Field(
        None, description="base URL of an OpenAI-compatible server, e.g. https://api.openai.com/v1"
    )
    api_key_env: Annotated[str | None, Metavar("VARIABLE")] = Field(
        None, description="environment variable that holds the server's key"
    )
    workers: int = Field(8, ge=1, le=256, description="answers that are judged at a time")
    timeout: float = Field(120.0, gt=0, le=3600, description="seconds that one judgement may take")
    max_usd: float | None = Field(
        None,
        gt=0,
        description="stop before judgements cost more, by the prices of --costs, in all runs of this judge here",
    )
    max_requests: int | None = Field(None, ge=1, description="stop after so many requests")
    costs: Annotated[Path | None, Reads()] = Field(None, description="a price list, as `evaluate` takes it")


class ImportSpec(Spec, step="import", module="relope.steps.import_answers"):
    """Make stores of answers from files that other tools have written, and keep what they judged as grades."""

    files: Annotated[Words, Metavar("FILE…"), Reads(), Positional()] = Field(
        description="one or more files of results; `relope list importers`"
    )
    out: Path = Field(description="the store; of several models, the folder of their stores")
    format: Annotated[str | None, Names("importers")] = Field(None, description="of the files; default: told from each")
    model: str | None = Field(
        None, description="that has answered; default: what the file says; of several models, the one to take"
    )
    store: Annotated[StoreRef | None, Reads()] = Field(
        None,
        description="the small model's store: its samples are found by id, else by question and images",
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
        None, description="the router; default <store>.routers/<method>[@seed<seed>]; with --folds, the scores"
    )
    layer: int | None = Field(None, ge=1, description="block whose states are read; default: the store's deepest")
    split: Words = Field(("train",), description="splits to learn from")
    grades: str | None = Field(None, description="grader@version of the grades; default: what `relope grade` set last")
    large_store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="routellm-sw: the large model's store, for who wins"
    )
    seed: int = Field(0, ge=0, description="decides initial weights, batches and the inner split")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    set: Annotated[dict[str, Any], KeyValues("head=logistic")] = Field(
        default_factory=dict, description="a setting of the method, key=value; repeatable"
    )


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
    set: Annotated[dict[str, Any], KeyValues("head=logistic")] = Field(
        default_factory=dict, description="a setting of all runs, key=value; repeatable"
    )


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


class CalibrateSpec(Spec, step="calibrate"):
    """Set a router's threshold on samples that it has not seen, say what it promises, and leave a bundle to ship."""

    router: Annotated[str | None, Names("methods", or_path=True)] = Field(
        None, description="a router folder, or the name of a method that trains nothing"
    )
    store: Annotated[StoreRef | None, Reads()] = Field(None, description="a store: its folder, or a URI")
    bundle: Annotated[Path | None, Reads()] = Field(
        None, description="a bundle that is served, in place of router and store; with --from-log"
    )
    from_log: Annotated[Path | None, Metavar("FILE|DIR"), Reads()] = Field(
        None, description="what its server has logged: thresholds are set on live requests"
    )
    feedback: Annotated[Path | None, Metavar("FILE"), Reads()] = Field(
        None, description="outcomes beside those in the log: JSON Lines of request_id and correct"
    )
    split: Words = Field(("validation",), description="splits that thresholds are set on")
    budget: Annotated[Share | None, Metavar("SHARE")] = Field(
        None, gt=0, lt=1, description="goal: escalate at most 0.2 or 20%"
    )
    max_error: Annotated[Share | None, Metavar("SHARE")] = Field(
        None, gt=0, lt=1, description="goal: at most this share of the kept is wrong"
    )
    min_accuracy: Annotated[Share | None, Metavar("SHARE")] = Field(
        None, gt=0, lt=1, description="goal: at least this share of the system's answers is right"
    )
    max_usd_per_1k: float | None = Field(None, gt=0, description="goal: at most so many dollars per 1,000 queries")
    large_store: Annotated[StoreRef | None, Reads()] = Field(
        None, description="the large model's store, for the system's accuracy and dollars"
    )
    costs: Annotated[Path | None, Reads()] = Field(None, description="a price list, as `evaluate` takes it")
    confidence: Annotated[Share, Metavar("SHARE")] = Field(
        0.95, gt=0.5, lt=1, description="of the promise: 0.95 or 95%"
    )
    calibration: Literal["isotonic", "platt"] | None = Field(
        None, description="how scores become P(correct); default: isotonic from 1,000 samples on"
    )
    grades: str | None = Field(None, description="grader@version of the grades; default: those that count")
    seed: int = Field(0, ge=0, description="which sample of an image group stands for it")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    out: Path | None = Field(None, description="the bundle; default <store>.bundles/<router's folder>")


class RouteSpec(Spec, step="route"):
    """Ask one question through a bundle: P(correct), the decision, and the small model's answer or the large one's."""

    question: Annotated[str, Positional()] = Field(description="what the user says")
    bundle: Annotated[Path, Reads()] = Field(description="the bundle that decides; `relope calibrate` makes one")
    image: Annotated[Words, Verbatim(), Metavar("FILE")] = Field(
        (), description="an image before the question; repeatable"
    )
    system: str | None = Field(None, description="what the system's turn says")
    threshold: float | None = Field(
        None, ge=0, le=1, description="escalate scores below it; default: the bundle's, which keeps its promise"
    )
    max_new_tokens: int = Field(256, ge=1, description="longest answer")
    large_base_url: Annotated[str | None, Metavar("URL")] = Field(
        None, description="OpenAI-compatible server that answers what is escalated"
    )
    large_model: Annotated[str | None, Metavar("NAME")] = Field(None, description="the large model's name there")
    large_api_key_env: Annotated[str | None, Metavar("VARIABLE")] = Field(
        None, description="environment variable that holds its key"
    )
    model: str | None = Field(None, description="the small model; default: where the bundle says that it comes from")
    engine: Annotated[str, Names("engines")] = Field("transformers", description="what runs the small model")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")


class ServeSpec(Spec, step="serve"):
    """Serve a bundle's router over HTTP as OpenAI's API: the small model answers, or a large one elsewhere."""

    bundle: Annotated[Path, Reads()] = Field(description="the bundle that decides; `relope calibrate` makes one")
    large_base_url: Annotated[str, Metavar("URL")] = Field(
        description="OpenAI-compatible server of the large model, e.g. https://api.openai.com/v1"
    )
    large_model: Annotated[str, Metavar("NAME")] = Field(description="its name there")
    large_api_key_env: Annotated[str | None, Metavar("VARIABLE")] = Field(
        None, description="environment variable that holds its key"
    )
    model: str | None = Field(None, description="the small model; default: where the bundle says that it comes from")
    host: Annotated[str, Panel("Who is answered")] = Field(
        "127.0.0.1", description="address to listen at; any but this machine's own needs an API key"
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen at; 0: any that is free")
    api_key_file: Annotated[Path | None, Metavar("FILE"), Reads()] = Field(
        None, description="key that clients need; default: the variable RELOPE_API_KEY, else none"
    )
    admin_key_file: Annotated[Path | None, Metavar("FILE"), Reads()] = Field(
        None, description="key that changes the threshold; default: the variable RELOPE_ADMIN_KEY, else nobody may"
    )
    allow_overrides: bool = Field(False, description="let requests name their route and threshold in headers")
    allow_image_host: Words = Field((), description="hosts that images may be fetched from, by https; default: none")
    threshold: Annotated[float | None, Panel("Who answers")] = Field(
        None, ge=0, le=1, description="escalate scores below it; default: the bundle's, which keeps its promise"
    )
    shadow: Literal["small", "large"] | None = Field(
        None, description="let this side answer everything, while the router only decides and logs"
    )
    session_ttl: float = Field(
        600.0,
        ge=0,
        description="seconds that a conversation stays with the large model; 0: each request is decided anew",
    )
    local_fallback: bool = Field(False, description="let the small model answer what the large one cannot")
    large_timeout: Annotated[float, Panel("The large model")] = Field(
        120.0, gt=0, description="seconds until its first byte, and between two"
    )
    large_retries: int = Field(2, ge=0, le=10, description="further attempts before the first byte")
    large_concurrent: int = Field(64, ge=1, le=10_000, description="calls at a time")
    costs: Annotated[Path | None, Metavar("FILE"), Reads()] = Field(
        None, description="a price list, as `evaluate` takes it, with both models"
    )
    max_usd_per_hour: float | None = Field(
        None, gt=0, description="dollars for the large model in an hour; needs --costs"
    )
    forward_auth: bool = Field(False, description="pass the client's Authorization header on to the large model")
    max_body_mb: Annotated[int, Panel("Limits of a request")] = Field(20, ge=1, le=1024, description="of its body, MiB")
    max_messages: int = Field(256, ge=1, description="turns")
    max_parts: int = Field(512, ge=1, description="pieces of content")
    max_images: int = Field(16, ge=0, description="images")
    max_pixels: int = Field(16_000_000, ge=1, le=50_000_000, description="of an image")
    max_tokens: int = Field(4096, ge=1, description="of an answer")
    log: Annotated[Path | None, Metavar("FILE|DIR"), Panel("Operation")] = Field(
        None, description="where decisions are logged: a .jsonl file, or a folder of Parquet parts"
    )
    log_prompts: bool = Field(False, description="log the texts of requests, too")
    drain: float = Field(30.0, ge=0, description="seconds that requests under way are given at SIGTERM")
    engine: Annotated[str, Names("engines"), Panel("Engine")] = Field(
        "transformers", description="what runs the small model"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    batch_tokens: int = Field(4096, ge=1, description="prompt tokens that are read at once")
    max_rows: int = Field(32, ge=1, description="answers that are written at once")
    cache_tokens: int = Field(65536, ge=1, description="tokens whose keys and values are held at once")


class EvaluateSpec(Spec, step="evaluate"):
    """Compare the scores of several methods and write a report."""

    store: Annotated[StoreRef, Reads()] = Field(description="the small model's store")
    scores: Annotated[Path | None, Reads()] = Field(None, description="folder of the scores; default <store>.scores")
    large_store: Annotated[StoreRefs, Metavar("STORE,…"), Reads()] = Field(
        (), description="the large model's store, for the hybrid system; several: which of them pays at which budget"
    )
    methods: Words = Field((), description="methods to compare; default: all that have scores")
    fit: Words = Field(
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


class StoreInfoSpec(Spec, step="store info"):
    """Show what a store holds: identity, layers, samples, tokens, bytes, accuracy."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")


class StoreVerifySpec(Spec, step="store verify"):
    """Check every file of a store against its digests; exit 2 when something is wrong."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")
    deep: bool = Field(False, description="also recompute every sample's content digest")
    against_model: int | None = Field(None, ge=1, description="run so many samples again and compare their states")


class StoreConvertSpec(Spec, step="store convert"):
    """Write a store anew with another codec, fewer layers or fewer tokens."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")
    out: Path = Field(description="the new store")
    codec: Literal["none", "zstd"] | None = Field(None, description="how chunks are packed; default: as they are")
    tokens: Literal["lean"] | None = Field(None, description="keep of the deepest layer only the last tokens")
    layers: Words = Field((), description="layers to keep, e.g. 23,24; default: all")
    dtype: Literal["uint16", "bfloat16-metadata"] = Field(
        "uint16", description="what the metadata call bfloat16; zarr-python 3.1 knows uint16 only"
    )


class StorePushSpec(Spec, step="store push"):
    """Share a store: upload what is not there yet. The same command goes on after an interruption."""

    store: Annotated[Path, Reads(), Positional()] = Field(description="a store on this machine")
    uri: Annotated[str, Positional()] = Field(description=URI)


class StorePullSpec(Spec, step="store pull"):
    """Take a shared store, or some of it. The same command goes on after an interruption."""

    uri: Annotated[str, Positional()] = Field(description=URI)
    out: Path | None = Field(None, description="the local store; default runs/<name>")
    layers: Words = Field((), description="only these layers, e.g. 23,24")
    split: Words = Field((), description="only samples of these splits, e.g. test")
    verify: bool = Field(True, description="check the sha256 of every file")


class RouterPushSpec(Spec, step="router push"):
    """Share a bundle: a router with its threshold, what it promises and its model card."""

    bundle: Annotated[Path, Reads(), Positional()] = Field(description="a bundle on this machine")
    uri: Annotated[str, Positional()] = Field(description=f"{URI}; hf://models/<team>/<repo> for its card to be shown")
    replace: bool = Field(False, description="put it in the place of another bundle there")


class RouterPullSpec(Spec, step="router pull"):
    """Take a shared bundle; every file of it is checked."""

    uri: Annotated[str, Positional()] = Field(description=f"{URI}; also hf://models/…")
    out: Path | None = Field(None, description="the local bundle; default runs/<name>")


class StoreLsSpec(Spec, step="store ls"):
    """Show what is at a URI: the parts of a store, or the stores of a folder."""

    uri: Annotated[str, Positional()] = Field(description=URI)


class StoreMergeSpec(Spec, step="store merge"):
    """Unite stores that were made alike; of a sample that is in several, the first one given counts."""

    stores: Annotated[Words, Reads(), Positional()] = Field(
        description="two or more stores that were made alike: folders or URIs"
    )
    out: Path = Field(description="the store that gets everything")


class StoreGcSpec(Spec, step="store gc"):
    """List what no reader needs: leftovers of dead processes, given-up pushes, replaced catalogs."""

    store: Annotated[StoreRef, Positional()] = Field(description="a store, or a URI")
    delete: Annotated[bool, Off("dry-run")] = Field(False, description="remove it, instead of listing it")
    hours: float = Field(24.0, ge=0, description="unfinished pushes count as given up after so long")
