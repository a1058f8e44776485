"""Route between a small and a large (multimodal) LLM by the small one's hidden states."""

# Made by recipes/face_stub.py from relope/spec/; do not edit.

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from relope.errors import RelopeError as RelopeError
from relope.probes.router import Router as Router, load_router as load_router
from relope.serve.bundle import Bundle as Bundle, load_bundle as load_bundle
from relope.steps.outcomes import Calibrated as Calibrated, Evaluated as Evaluated, Extracted as Extracted, Fitted as Fitted, Graded as Graded, Imported as Imported, Scored as Scored, Swept as Swept
from relope.store import ActivationStore as ActivationStore, open_store as open_store
from relope.types import Generation as Generation, Grade as Grade, Outcome as Outcome, Sample as Sample, Watch as Watch

__version__: str

def extract(
    *,
    model: str | PathLike[str],
    dataset: str | PathLike[str],
    chat_template: str | None = ...,
    prompt: str | PathLike[str] | None = ...,
    name: str | None = ...,
    answer_is: Literal['text', 'index', 'letter'] | None = ...,
    allow_outside: bool = ...,
    split: str | Sequence[str] = ...,
    limit: int | None = ...,
    text_only: bool = ...,
    captions: str | PathLike[str] | None = ...,
    perturb: str | None = ...,
    strict: bool = ...,
    layers: str | Sequence[str] = ...,
    tokens: Literal['all', 'lean'] = ...,
    store_dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    thumbnails: bool = ...,
    codec: Literal['none', 'zstd'] = ...,
    max_new_tokens: int | None = ...,
    stop: str | Sequence[str] = ...,
    grader: str | None = ...,
    samples: int = ...,
    temperature: float = ...,
    trace_tokens: int = ...,
    p_true: bool = ...,
    seed: int = ...,
    engine: str = ...,
    shard: str | None = ...,
    vllm_python: str | None = ...,
    vllm_url: str | None = ...,
    vllm_argument: str | Sequence[str] = ...,
    vllm_states: str | PathLike[str] | None = ...,
    device: str = ...,
    devices: str | Sequence[str] = ...,
    address: str | None = ...,
    gpus_per_worker: float | None = ...,
    device_map: Literal['auto'] | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    batch_size: int | None = ...,
    attn: Literal['sdpa', 'eager', 'flash_attention_2'] = ...,
    quantize: Literal['4bit', '8bit'] | None = ...,
    endpoint: str | None = ...,
    api_key_env: str | None = ...,
    workers: int | None = ...,
    timeout: float = ...,
    max_pixels: int | None = ...,
    max_usd: float | None = ...,
    max_requests: int | None = ...,
    batch: bool = ...,
    costs: str | PathLike[str] | None = ...,
    out: str | PathLike[str] | None = ...,
    reuse: str | PathLike[str] | None = ...,
    watch: Watch = ...,
) -> Extracted:
    """Run a model once over a data set and keep its answers and hidden states.

    Args:
        model: name, hub id, or folder of a checkpoint or a PEFT adapter; `relope list models`; with endpoint, the name of the model there
        chat_template: in place of the model's own; plain: the texts alone, for a base model
        dataset: name (`relope list datasets`), or your own file or folder
        prompt: a template of the words around a question: {{ question }}, {{ options }}, {{ hint }} …
        name: what your own file or folder is called; default: its file's name
        answer_is: what answers of your own file are where there are choices; default: what fits
        allow_outside: let your own file name images that lie outside its folder
        split: splits to extract; default: all labelled ones
        limit: at most so many samples of each split
        text_only: put captions in place of images
        captions: captions file for text_only; `relope caption` makes one
        perturb: noise, jpeg or blur, with a strength if wanted: noise:0.12
        strict: stop at a sample that cannot be used instead of skipping it
        layers: decoder blocks by number or depth, e.g. 23,24 or 0.5; default: the model's own two, l-1 and l
        tokens: all: states of every prompt token; lean: at the deepest layer of the last token only
        store_dtype: stored dtype; auto = compute
        thumbnails: keep a thumbnail of each image, of 4 KB at most, for reports
        codec: zstd: a third smaller on disk, slower to read
        max_new_tokens: longest answer; 0: states only; default: the data set's
        stop: text that ends an answer, e.g. \n or Question:
        grader: how answers are judged; default: the data set's own
        samples: also sample so many further answers in each of two styles, for the method mot
        temperature: of the sampled answers
        trace_tokens: longest sampled answer with its reasoning
        p_true: also ask the model whether its own answer is correct
        seed: with a sample's id it decides what is drawn
        engine: what runs the model; `relope list engines`
        shard: compute one of n shares, 1/n to n/n; auto: as SLURM, Kubernetes, torchrun or SkyPilot started it
        vllm_python: with engine vllm: Python of the environment that vLLM is installed in; it starts a server
        vllm_url: with engine vllm: a server that runs, in place of one that is started
        vllm_argument: with vllm_python: an argument of the server, e.g. --tensor-parallel-size=2
        vllm_states: with engine vllm: folder for states that both sides see; default: one in /dev/shm
        device: auto, cpu, cuda or cuda:0
        devices: a process on each, e.g. cuda:0,cuda:1; takes the place of device
        address: of a Ray cluster, or auto; default: one is started on this machine
        gpus_per_worker: cards of each Ray worker; default: 1 where the cluster has any
        device_map: spread the blocks over all devices
        dtype: compute dtype
        batch_size: samples in one prefill; default: the model's own
        attn: attention implementation
        quantize: load the weights quantized (bitsandbytes, CUDA)
        endpoint: base URL of an OpenAI-compatible server, e.g. https://api.openai.com/v1
        api_key_env: environment variable that holds the server's key
        workers: questions at a time, default 8; of engine ray: workers, default all that fit
        timeout: seconds that one answer may take
        max_pixels: make larger images smaller; default: sent as they are
        max_usd: stop before answers cost more, by the prices of costs, in all runs into the store
        max_requests: stop after so many requests
        batch: ask through the provider's batch interface: cheaper, within a day
        costs: a price list, as `evaluate` takes it
        out: the store; default runs/<dataset>.zarr
        reuse: a teammate's store: take what it has, compute the rest

    Raises:
        RelopeError: what the user can mend.
    """

def plan(
    *,
    model: str | PathLike[str],
    dataset: str | PathLike[str],
    chat_template: str | None = ...,
    prompt: str | PathLike[str] | None = ...,
    name: str | None = ...,
    answer_is: Literal['text', 'index', 'letter'] | None = ...,
    allow_outside: bool = ...,
    split: str | Sequence[str] = ...,
    limit: int | None = ...,
    text_only: bool = ...,
    captions: str | PathLike[str] | None = ...,
    perturb: str | None = ...,
    strict: bool = ...,
    layers: str | Sequence[str] = ...,
    tokens: Literal['all', 'lean'] = ...,
    store_dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    thumbnails: bool = ...,
    codec: Literal['none', 'zstd'] = ...,
    max_new_tokens: int | None = ...,
    stop: str | Sequence[str] = ...,
    grader: str | None = ...,
    samples: int = ...,
    temperature: float = ...,
    trace_tokens: int = ...,
    p_true: bool = ...,
    seed: int = ...,
    engine: str = ...,
    shard: str | None = ...,
    vllm_python: str | None = ...,
    vllm_url: str | None = ...,
    vllm_argument: str | Sequence[str] = ...,
    vllm_states: str | PathLike[str] | None = ...,
    device: str = ...,
    devices: str | Sequence[str] = ...,
    address: str | None = ...,
    gpus_per_worker: float | None = ...,
    device_map: Literal['auto'] | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    batch_size: int | None = ...,
    attn: Literal['sdpa', 'eager', 'flash_attention_2'] = ...,
    quantize: Literal['4bit', '8bit'] | None = ...,
    endpoint: str | None = ...,
    api_key_env: str | None = ...,
    workers: int | None = ...,
    timeout: float = ...,
    max_pixels: int | None = ...,
    max_usd: float | None = ...,
    max_requests: int | None = ...,
    batch: bool = ...,
    costs: str | PathLike[str] | None = ...,
    out: str | PathLike[str] | None = ...,
    reuse: str | PathLike[str] | None = ...,
    measure: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Say what an extraction will take, of disk and time or of questions to an endpoint; its flags are extract's.

    Args:
        model: name, hub id, or folder of a checkpoint or a PEFT adapter; `relope list models`; with endpoint, the name of the model there
        chat_template: in place of the model's own; plain: the texts alone, for a base model
        dataset: name (`relope list datasets`), or your own file or folder
        prompt: a template of the words around a question: {{ question }}, {{ options }}, {{ hint }} …
        name: what your own file or folder is called; default: its file's name
        answer_is: what answers of your own file are where there are choices; default: what fits
        allow_outside: let your own file name images that lie outside its folder
        split: splits to extract; default: all labelled ones
        limit: at most so many samples of each split
        text_only: put captions in place of images
        captions: captions file for text_only; `relope caption` makes one
        perturb: noise, jpeg or blur, with a strength if wanted: noise:0.12
        strict: stop at a sample that cannot be used instead of skipping it
        layers: decoder blocks by number or depth, e.g. 23,24 or 0.5; default: the model's own two, l-1 and l
        tokens: all: states of every prompt token; lean: at the deepest layer of the last token only
        store_dtype: stored dtype; auto = compute
        thumbnails: keep a thumbnail of each image, of 4 KB at most, for reports
        codec: zstd: a third smaller on disk, slower to read
        max_new_tokens: longest answer; 0: states only; default: the data set's
        stop: text that ends an answer, e.g. \n or Question:
        grader: how answers are judged; default: the data set's own
        samples: also sample so many further answers in each of two styles, for the method mot
        temperature: of the sampled answers
        trace_tokens: longest sampled answer with its reasoning
        p_true: also ask the model whether its own answer is correct
        seed: with a sample's id it decides what is drawn
        engine: what runs the model; `relope list engines`
        shard: compute one of n shares, 1/n to n/n; auto: as SLURM, Kubernetes, torchrun or SkyPilot started it
        vllm_python: with engine vllm: Python of the environment that vLLM is installed in; it starts a server
        vllm_url: with engine vllm: a server that runs, in place of one that is started
        vllm_argument: with vllm_python: an argument of the server, e.g. --tensor-parallel-size=2
        vllm_states: with engine vllm: folder for states that both sides see; default: one in /dev/shm
        device: auto, cpu, cuda or cuda:0
        devices: a process on each, e.g. cuda:0,cuda:1; takes the place of device
        address: of a Ray cluster, or auto; default: one is started on this machine
        gpus_per_worker: cards of each Ray worker; default: 1 where the cluster has any
        device_map: spread the blocks over all devices
        dtype: compute dtype
        batch_size: samples in one prefill; default: the model's own
        attn: attention implementation
        quantize: load the weights quantized (bitsandbytes, CUDA)
        endpoint: base URL of an OpenAI-compatible server, e.g. https://api.openai.com/v1
        api_key_env: environment variable that holds the server's key
        workers: questions at a time, default 8; of engine ray: workers, default all that fit
        timeout: seconds that one answer may take
        max_pixels: make larger images smaller; default: sent as they are
        max_usd: stop before answers cost more, by the prices of costs, in all runs into the store
        max_requests: stop after so many requests
        batch: ask through the provider's batch interface: cheaper, within a day
        costs: a price list, as `evaluate` takes it
        out: the store; default runs/<dataset>.zarr
        reuse: a teammate's store: take what it has, compute the rest
        measure: also load the model and run so many samples, to tell the time of all

    Raises:
        RelopeError: what the user can mend.
    """

def caption(
    *,
    dataset: str | PathLike[str],
    model: str | PathLike[str],
    name: str | None = ...,
    answer_is: Literal['text', 'index', 'letter'] | None = ...,
    allow_outside: bool = ...,
    endpoint: str | None = ...,
    api_key_env: str | None = ...,
    split: str | Sequence[str] = ...,
    limit: int | None = ...,
    out: str | PathLike[str] | None = ...,
    prompt: str | None = ...,
    max_new_tokens: int = ...,
    workers: int = ...,
    device: str = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    watch: Watch = ...,
) -> Outcome:
    """Describe a data set's images in words, for extraction with text_only.

    Args:
        dataset: name (`relope list datasets`), or your own file or folder
        model: a local model as in extract; with endpoint, the name of the model there
        name: what your own file or folder is called; default: its file's name
        answer_is: what answers of your own file are where there are choices; default: what fits
        allow_outside: let your own file name images that lie outside its folder
        endpoint: base URL of an OpenAI-compatible server, e.g. http://host:8000/v1
        api_key_env: environment variable that holds the server's key
        split: splits to describe; default: all labelled ones
        limit: at most so many samples of each split
        out: the captions; default runs/<dataset>.captions.jsonl
        prompt: what the model is asked; default: a detailed description
        max_new_tokens: longest caption
        workers: requests at a time; with a local model, images in a batch
        device: auto, cpu, cuda or cuda:0
        dtype: compute dtype

    Raises:
        RelopeError: what the user can mend.
    """

def grade(
    *,
    store: str | PathLike[str] | None = ...,
    responses: str | PathLike[str] | None = ...,
    grader: str | None = ...,
    judge_model: str | None = ...,
    endpoint: str | None = ...,
    api_key_env: str | None = ...,
    workers: int = ...,
    timeout: float = ...,
    max_usd: float | None = ...,
    max_requests: int | None = ...,
    costs: str | PathLike[str] | None = ...,
    watch: Watch = ...,
) -> Graded:
    """Judge the answers of a store or of a file: by rules, or by a model at an endpoint.

    Args:
        store: a store; its grades are kept in it
        responses: a JSON Lines file of response, gold and maybe choices
        grader: `relope list graders`, or your own FILE.py:function or module:function; default: the store's own, or auto
        judge_model: name of the model that judges, at the endpoint
        endpoint: base URL of an OpenAI-compatible server, e.g. https://api.openai.com/v1
        api_key_env: environment variable that holds the server's key
        workers: answers that are judged at a time
        timeout: seconds that one judgement may take
        max_usd: stop before judgements cost more, by the prices of costs, in all runs of this judge here
        max_requests: stop after so many requests
        costs: a price list, as `evaluate` takes it

    Raises:
        RelopeError: what the user can mend.
    """

def import_(
    files: str | Sequence[str],
    *,
    out: str | PathLike[str],
    format: str | None = ...,
    model: str | PathLike[str] | None = ...,
    store: str | PathLike[str] | None = ...,
    watch: Watch = ...,
) -> Imported:
    """Make stores of answers from files that other tools have written, and keep what they judged as grades.

    Args:
        files: one or more files of results; `relope list importers`
        out: the store; of several models, the folder of their stores
        format: of the files; default: told from each
        model: that has answered; default: what the file says; of several models, the one to take
        store: the small model's store: its samples are found by id, else by question and images

    Raises:
        RelopeError: what the user can mend.
    """

def fit(
    method: str,
    *,
    store: str | PathLike[str],
    also: str | Sequence[str] = ...,
    leave_out: str | Sequence[str] = ...,
    cap: int | None = ...,
    folds: int | None = ...,
    out: str | PathLike[str] | None = ...,
    layer: int | None = ...,
    split: str | Sequence[str] = ...,
    grades: str | None = ...,
    large_store: str | PathLike[str] | None = ...,
    seed: int = ...,
    device: str = ...,
    jobs: int = ...,
    set: Mapping[str, Any] = ...,
    log_to: Literal['trackio', 'wandb', 'mlflow'] | None = ...,
    log_project: str = ...,
    watch: Watch = ...,
) -> Fitted:
    """Fit a routing method from a store.

    Args:
        method: `relope list methods`
        store: a store: its folder, or a URI
        also: further stores of the same model and layers to learn from
        leave_out: data sets whose samples are not learned from
        cap: at most so many samples of each data set, whole groups
        folds: score the samples out of fold instead, for small sets
        out: the router; default <method>[@seed<seed>] in <store>.routers; with folds, the scores
        layer: block whose states are read; default: the store's deepest
        split: splits to learn from
        grades: grader@version of the grades; default: what `relope grade` set last
        large_store: routellm-sw: the large model's store, for who wins
        seed: decides initial weights, batches and the inner split
        device: auto, cpu, cuda or cuda:0
        jobs: fusion, fusion-prefill: processes that the stacked methods are fitted in
        set: a setting of the method, key=value; repeatable
        log_to: experiment tracker that numbers and settings, never a sample, are told to
        log_project: project of the tracker; an experiment of mlflow

    Raises:
        RelopeError: what the user can mend.
    """

def sweep(
    method: str,
    *,
    store: str | PathLike[str],
    grid: Mapping[str, Any] = ...,
    seeds: int = ...,
    out: str | PathLike[str] | None = ...,
    layer: int | None = ...,
    split: str | Sequence[str] = ...,
    grades: str | None = ...,
    seed: int = ...,
    device: str = ...,
    engine: Literal['local', 'ray'] = ...,
    address: str | None = ...,
    workers: int | None = ...,
    gpus_per_worker: float | None = ...,
    set: Mapping[str, Any] = ...,
    log_to: Literal['trackio', 'wandb', 'mlflow'] | None = ...,
    log_project: str = ...,
    watch: Watch = ...,
) -> Swept:
    """Fit a method with every combination of some settings and compare them on inner validation.

    Args:
        method: `relope list methods`
        store: a store: its folder, or a URI
        grid: values of a setting (or of layer), key=value,value; repeatable
        seeds: fits of each combination
        out: table of all runs; default <store>.sweeps/<method>.parquet
        layer: block whose states are read; default: the store's deepest
        split: splits to learn from
        grades: grader@version of the grades; default: what `relope grade` set last
        seed: the first of the seeds
        device: auto, cpu, cuda or cuda:0
        engine: where the fits run: here, one after another, or on the workers of a Ray cluster
        address: of a Ray cluster, or auto; default: one is started on this machine
        workers: of engine ray: fits at a time, default all that fit
        gpus_per_worker: cards of each Ray worker; default: 1 where the cluster has any
        set: a setting of all runs, key=value; repeatable
        log_to: experiment tracker that numbers and settings, never a sample, are told to
        log_project: project of the tracker; an experiment of mlflow

    Raises:
        RelopeError: what the user can mend.
    """

def explain(
    *,
    router: str | PathLike[str],
    store: str | PathLike[str],
    sample: str,
    out: str | PathLike[str] | None = ...,
    watch: Watch = ...,
) -> Outcome:
    """Show which tokens of a sample a router looks at.

    Args:
        router: a router folder, of attention-probe
        store: a store: its folder, or a URI
        sample: id of a sample in it
        out: folder of the page; default <store>.explained/<sample>

    Raises:
        RelopeError: what the user can mend.
    """

def export(
    folder: str | PathLike[str],
    *,
    out: str | PathLike[str],
    watch: Watch = ...,
) -> Outcome:
    """Write a relope router as a standard PEFT adapter folder, its head beside it.

    Args:
        folder: a router folder, of relope
        out: the adapter folder

    Raises:
        RelopeError: what the user can mend.
    """

def predict(
    *,
    router: str | PathLike[str],
    store: str | PathLike[str],
    out: str | PathLike[str] | None = ...,
    split: str | Sequence[str] = ...,
    budget: float | None = ...,
    threshold: float | None = ...,
    transfer: bool = ...,
    grades: str | None = ...,
    device: str = ...,
    watch: Watch = ...,
) -> Scored:
    """Score the samples of a store with a router.

    Args:
        router: a router folder, or the name of a method that trains nothing
        store: a store: its folder, or a URI
        out: the scores, .parquet, .csv or .jsonl; default <store>.scores/<router's folder>.parquet
        split: splits to score
        budget: also decide: escalate 0.2 or 20%; the threshold is set on validation
        threshold: also decide: escalate scores below this
        transfer: allow a router fitted on other data or images of the same model
        grades: grader@version that read the answers; default: what `relope grade` set last
        device: auto, cpu, cuda or cuda:0

    Raises:
        RelopeError: what the user can mend.
    """

def calibrate(
    *,
    router: str | PathLike[str] | None = ...,
    store: str | PathLike[str] | None = ...,
    bundle: str | PathLike[str] | None = ...,
    from_log: str | PathLike[str] | None = ...,
    feedback: str | PathLike[str] | None = ...,
    split: str | Sequence[str] = ...,
    budget: float | None = ...,
    max_error: float | None = ...,
    min_accuracy: float | None = ...,
    max_usd_per_1k: float | None = ...,
    large_store: str | PathLike[str] | None = ...,
    costs: str | PathLike[str] | None = ...,
    confidence: float = ...,
    calibration: Literal['isotonic', 'platt'] | None = ...,
    grades: str | None = ...,
    seed: int = ...,
    device: str = ...,
    out: str | PathLike[str] | None = ...,
    watch: Watch = ...,
) -> Calibrated:
    """Set a router's threshold on samples that it has not seen, say what it promises, and leave a bundle to ship.

    Args:
        router: a router folder, or the name of a method that trains nothing
        store: a store: its folder, or a URI
        bundle: a bundle that is served, in place of router and store; with from_log
        from_log: what its server has logged: thresholds are set on live requests
        feedback: outcomes beside those in the log: JSON Lines of request_id and correct
        split: splits that thresholds are set on
        budget: goal: escalate at most 0.2 or 20%
        max_error: goal: at most this share of the kept is wrong
        min_accuracy: goal: at least this share of the system's answers is right
        max_usd_per_1k: goal: at most so many dollars per 1,000 queries
        large_store: the large model's store, for the system's accuracy and dollars
        costs: a price list, as `evaluate` takes it
        confidence: of the promise: 0.95 or 95%
        calibration: how scores become P(correct); default: isotonic from 1,000 samples on
        grades: grader@version of the grades; default: those that count
        seed: which sample of an image group stands for it
        device: auto, cpu, cuda or cuda:0
        out: the bundle; default <store>.bundles/<router's folder>

    Raises:
        RelopeError: what the user can mend.
    """

def route(
    question: str,
    *,
    bundle: str | PathLike[str],
    image: str | Sequence[str] = ...,
    system: str | None = ...,
    threshold: float | None = ...,
    max_new_tokens: int = ...,
    large_base_url: str | None = ...,
    large_model: str | None = ...,
    large_api_key_env: str | None = ...,
    model: str | PathLike[str] | None = ...,
    engine: str = ...,
    device: str = ...,
    watch: Watch = ...,
) -> Outcome:
    """Ask one question through a bundle: P(correct), the decision, and the small model's answer or the large one's.

    Args:
        question: what the user says
        bundle: the bundle that decides; `relope calibrate` makes one
        image: an image before the question
        system: what the system's turn says
        threshold: escalate scores below it; default: the bundle's, which keeps its promise
        max_new_tokens: longest answer
        large_base_url: OpenAI-compatible server that answers what is escalated
        large_model: the large model's name there
        large_api_key_env: environment variable that holds its key
        model: the small model; default: where the bundle says that it comes from
        engine: what runs the small model
        device: auto, cpu, cuda or cuda:0

    Raises:
        RelopeError: what the user can mend.
    """

def serve(
    *,
    bundle: str | PathLike[str],
    large_base_url: str,
    large_model: str,
    large_api_key_env: str | None = ...,
    model: str | PathLike[str] | None = ...,
    host: str = ...,
    port: int = ...,
    api_key_file: str | PathLike[str] | None = ...,
    admin_key_file: str | PathLike[str] | None = ...,
    allow_overrides: bool = ...,
    allow_image_host: str | Sequence[str] = ...,
    threshold: float | None = ...,
    shadow: Literal['small', 'large'] | None = ...,
    session_ttl: float = ...,
    local_fallback: bool = ...,
    large_timeout: float = ...,
    large_retries: int = ...,
    large_concurrent: int = ...,
    costs: str | PathLike[str] | None = ...,
    max_usd_per_hour: float | None = ...,
    forward_auth: bool = ...,
    max_body_mb: int = ...,
    max_messages: int = ...,
    max_parts: int = ...,
    max_images: int = ...,
    max_pixels: int = ...,
    max_tokens: int = ...,
    log: str | PathLike[str] | None = ...,
    log_prompts: bool = ...,
    drain: float = ...,
    engine: str = ...,
    device: str = ...,
    vllm_url: str | None = ...,
    vllm_python: str | None = ...,
    vllm_argument: str | Sequence[str] = ...,
    vllm_states: str | PathLike[str] | None = ...,
    batch_tokens: int = ...,
    max_rows: int = ...,
    cache_tokens: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Serve a bundle's router over HTTP as OpenAI's API: the small model answers, or a large one elsewhere.

    Args:
        bundle: the bundle that decides; `relope calibrate` makes one
        large_base_url: OpenAI-compatible server of the large model, e.g. https://api.openai.com/v1
        large_model: its name there
        large_api_key_env: environment variable that holds its key
        model: the small model; default: where the bundle says that it comes from
        host: address to listen at; any but this machine's own needs an API key
        port: port to listen at; 0: any that is free
        api_key_file: key that clients need; default: the variable RELOPE_API_KEY, else none
        admin_key_file: key that changes the threshold; default: the variable RELOPE_ADMIN_KEY, else nobody may
        allow_overrides: let requests name their route and threshold in headers
        allow_image_host: hosts that images may be fetched from, by https; default: none
        threshold: escalate scores below it; default: the bundle's, which keeps its promise
        shadow: let this side answer everything, while the router only decides and logs
        session_ttl: seconds that a conversation stays with the large model; 0: each request is decided anew
        local_fallback: let the small model answer what the large one cannot
        large_timeout: seconds until its first byte, and between two
        large_retries: further attempts before the first byte
        large_concurrent: calls at a time
        costs: a price list, as `evaluate` takes it, with both models
        max_usd_per_hour: dollars for the large model in an hour; needs costs
        forward_auth: pass the client's Authorization header on to the large model
        max_body_mb: of its body, MiB
        max_messages: turns
        max_parts: pieces of content
        max_images: images
        max_pixels: of an image
        max_tokens: of an answer
        log: where decisions are logged: a .jsonl file, or a folder of Parquet parts
        log_prompts: log the texts of requests, too
        drain: seconds that requests under way are given at SIGTERM
        engine: what runs the small model
        device: auto, cpu, cuda or cuda:0
        vllm_url: of engine vllm: its server, started by `relope vllm-command`
        vllm_python: of engine vllm: Python of vLLM's environment, in which a server is started
        vllm_argument: with vllm_python: an argument of the server, e.g. --tensor-parallel-size=2
        vllm_states: of engine vllm: folder for states that both sides see; default: one in /dev/shm
        batch_tokens: of engine transformers: prompt tokens that are read at once
        max_rows: answers that are written at once
        cache_tokens: of engine transformers: tokens whose keys and values are held, with those of answers to come

    Raises:
        RelopeError: what the user can mend.
    """

def vllm_command(
    *,
    bundle: str | PathLike[str],
    run: bool = ...,
    python: str = ...,
    model: str | PathLike[str] | None = ...,
    host: str = ...,
    port: int = ...,
    states: str | PathLike[str] | None = ...,
    max_images: int = ...,
    argument: str | Sequence[str] = ...,
    watch: Watch = ...,
) -> Outcome:
    """Print the command that starts vLLM as a bundle's small model, or run it.

    Args:
        bundle: the bundle that is to be served
        run: run the command in place of printing it
        python: Python of the environment that vLLM is installed in
        model: the small model; default: where the bundle says that it comes from
        host: address that it listens at
        port: port that it listens at
        states: folder for states that both sides see; default: one in /dev/shm
        max_images: images of a request
        argument: a further argument of vLLM, as it takes it

    Raises:
        RelopeError: what the user can mend.
    """

def recommend(
    *,
    store: str | PathLike[str],
    budget: float = ...,
    before_answer: bool = ...,
    split: str | Sequence[str] = ...,
    grades: str | None = ...,
    layer: int | None = ...,
    seed: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Say which router to deploy, what more labels would bring, and which questions it fails on.

    Args:
        store: the small model's store; its training split is read
        budget: share of the questions that may be escalated: 0.2 or 20%
        before_answer: only routers that decide before the small model answers
        split: splits to learn from, out of fold
        grades: grader@version of the grades; default: what `relope grade` set last
        layer: block whose states are read; default: the store's deepest
        seed: decides folds and what is drawn

    Raises:
        RelopeError: what the user can mend.
    """

def evaluate(
    *,
    store: str | PathLike[str],
    scores: str | PathLike[str] | None = ...,
    large_store: str | PathLike[str] | Sequence[str] = ...,
    methods: str | Sequence[str] = ...,
    fit: str | Sequence[str] = ...,
    split: str | Sequence[str] = ...,
    grades: str | None = ...,
    labels_store: str | PathLike[str] | None = ...,
    costs: str | PathLike[str] | None = ...,
    budget: float = ...,
    out: str | PathLike[str] | None = ...,
    bootstrap: int = ...,
    seed: int = ...,
    log_to: Literal['trackio', 'wandb', 'mlflow'] | None = ...,
    log_project: str = ...,
    watch: Watch = ...,
) -> Evaluated:
    """Compare the scores of several methods and write a report.

    Args:
        store: the small model's store
        scores: folder of the scores; default <store>.scores
        large_store: the large model's store, for the hybrid system; several: which of them pays at which budget
        methods: methods to compare; default: all that have scores
        fit: methods to fit on train and to score first, as far as that is not done, e.g. probe,fusion
        split: splits to evaluate on
        grades: grader@version of the grades; default: what `relope grade` set last
        labels_store: take grades from this store: labels frozen on other images
        costs: a price list; `costs example` says where one to fill in lies
        budget: share of the questions that may be escalated: 0.2 or 20%
        out: folder of the report; default <store>.report
        bootstrap: resamples of the intervals
        seed: seed of the resamples and of ties
        log_to: experiment tracker that numbers and settings, never a sample, are told to
        log_project: project of the tracker; an experiment of mlflow

    Raises:
        RelopeError: what the user can mend.
    """

def view(
    source: str,
    *,
    large_store: str | PathLike[str] | None = ...,
    store: str | PathLike[str] | None = ...,
    scores: str | PathLike[str] | None = ...,
    router: str | PathLike[str] | None = ...,
    split: str | Sequence[str] = ...,
    grades: str | None = ...,
    budget: float = ...,
    port: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Browse samples in a browser: image, answers, grades, what every router would do; correct grades by hand.

    Args:
        source: a store, or the folder of a report
        large_store: the large model's store; default: that of the report
        store: the report's store, where it is neither in its folder nor beside it
        scores: folder of the scores; default <store>.scores
        router: router whose weights are laid over images; default <store>.routers/attention-probe
        split: splits to show; default: all
        grades: grader@version of the grades; default: what `relope grade` set last
        budget: share of the questions that may be escalated, to begin with
        port: port to listen at, on 127.0.0.1; 0: any that is free

    Raises:
        RelopeError: what the user can mend.
    """

def study(
    study: Literal['table1', 'table2', 'table3', 'table4', 'figure2', 'figure3', 'data-efficiency'],
    *,
    reports: str | Sequence[str] = ...,
    sweeps: str | Sequence[str] = ...,
    methods: str | Sequence[str] = ...,
    out: str | PathLike[str] | None = ...,
    bootstrap: int = ...,
    seed: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Put several reports together into a table or figure of the paper.

    Args:
        study: what to make
        reports: folders of reports, or folders that hold some
        sweeps: figure3: Parquet files of `relope sweep`
        methods: methods to show; default: all
        out: folder of the study; default runs/<study>
        bootstrap: resamples of the intervals
        seed: seed of the resamples

    Raises:
        RelopeError: what the user can mend.
    """

def compare(
    first: str | PathLike[str],
    second: str | PathLike[str],
    *,
    bootstrap: int = ...,
    seed: int = ...,
    watch: Watch = ...,
) -> Outcome:
    """Show what changed between two reports, paired where their samples are the same.

    Args:
        first: folder of a report
        second: folder of another report
        bootstrap: resamples of the intervals
        seed: seed of the resamples

    Raises:
        RelopeError: what the user can mend.
    """

def doctor(
    *,
    out: str | PathLike[str] = ...,
    vllm_python: str | None = ...,
    watch: Watch = ...,
) -> Outcome:
    """Look at this machine: packages, GPU, disk, hub, clouds, ports; say what is wrong and what to do.

    Args:
        out: folder that results will go to: its disk is tried out
        vllm_python: Python of the environment that vLLM is installed in

    Raises:
        RelopeError: what the user can mend.
    """
