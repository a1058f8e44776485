"""What puts a router in front of traffic."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from relope.fields import Metavar, Names, Panel, Positional, Reads, Share, Spec, StoreRef, Verbatim, Words


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
    image: Annotated[Words, Verbatim(), Metavar("FILE")] = Field((), description="an image before the question")
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
    allow_image_host: Annotated[Words, Metavar("HOST,…")] = Field(
        (), description="hosts that images may be fetched from, by https; default: none"
    )
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
    vllm_url: Annotated[str | None, Metavar("URL")] = Field(
        None, description="of engine vllm: its server, started by `relope vllm-command`"
    )
    vllm_python: Annotated[str | None, Metavar("PYTHON")] = Field(
        None, description="of engine vllm: Python of vLLM's environment, in which a server is started"
    )
    vllm_argument: Annotated[Words, Verbatim(), Metavar("ARG")] = Field(
        (), description="with --vllm-python: an argument of the server, e.g. --tensor-parallel-size=2"
    )
    vllm_states: Annotated[Path | None, Metavar("DIR")] = Field(
        None, description="of engine vllm: folder for states that both sides see; default: one in /dev/shm"
    )
    batch_tokens: int = Field(4096, ge=1, description="of engine transformers: prompt tokens that are read at once")
    max_rows: int = Field(32, ge=1, description="answers that are written at once")
    cache_tokens: int = Field(
        65536,
        ge=1,
        description="of engine transformers: tokens whose keys and values are held, with those of answers to come",
    )


class VllmCommandSpec(Spec, step="vllm-command"):
    """Print the command that starts vLLM as a bundle's small model, or run it."""

    bundle: Annotated[Path, Reads()] = Field(description="the bundle that is to be served")
    run: bool = Field(False, description="run the command in place of printing it")
    python: str = Field("python", description="Python of the environment that vLLM is installed in")
    model: str | None = Field(None, description="the small model; default: where the bundle says that it comes from")
    host: str = Field("127.0.0.1", description="address that it listens at")
    port: int = Field(8001, ge=1, le=65535, description="port that it listens at")
    states: Annotated[Path | None, Metavar("DIR")] = Field(
        None, description="folder for states that both sides see; default: one in /dev/shm"
    )
    max_images: int = Field(16, ge=0, description="images of a request")
    argument: Annotated[Words, Verbatim(), Metavar("ARG")] = Field(
        (), description="a further argument of vLLM, as it takes it"
    )
