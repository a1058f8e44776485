"""What is asked of models and of files: answers, states, captions, grades."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from relope.fields import Metavar, Names, Panel, Positional, Reads, Spec, StoreRef, Verbatim, Words


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
    engine: Annotated[str, Names("extract_engines"), Panel("Hardware")] = Field(
        "local", description="what runs the model; `relope list engines`"
    )
    shard: Annotated[str | None, Metavar("I/N|auto")] = Field(
        None,
        description="compute one of n shares, 1/n to n/n; auto: as SLURM, Kubernetes, torchrun or SkyPilot started it",
    )
    vllm_python: Annotated[str | None, Metavar("PATH")] = Field(
        None, description="with --engine vllm: Python of the environment that vLLM is installed in; it starts a server"
    )
    vllm_url: Annotated[str | None, Metavar("URL")] = Field(
        None, description="with --engine vllm: a server that runs, in place of one that is started"
    )
    vllm_argument: Annotated[Words, Verbatim(), Metavar("ARG")] = Field(
        (), description="with --vllm-python: an argument of the server, e.g. --tensor-parallel-size=2"
    )
    vllm_states: Annotated[Path | None, Metavar("DIR")] = Field(
        None,
        description="with --engine vllm: folder for states that both sides see; default: one in /dev/shm",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    devices: Words = Field((), description="a process on each, e.g. cuda:0,cuda:1; takes the place of --device")
    address: Annotated[str | None, Metavar("HOST:PORT")] = Field(
        None, description="of a Ray cluster, or auto; default: one is started on this machine"
    )
    gpus_per_worker: float | None = Field(
        None, ge=0, le=64, description="cards of each Ray worker; default: 1 where the cluster has any"
    )
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
    workers: int | None = Field(
        None, ge=1, le=256, description="questions at a time, default 8; of --engine ray: workers, default all that fit"
    )
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
    """Say what an extraction will take, of disk and time or of questions to an endpoint; its flags are extract's."""

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
