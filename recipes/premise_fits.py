"""Fit every method on the second testbed: ``python recipes/premise_fits.py --model CHECKPOINT --order image-first``.

A checkpoint that missed its goals (see ``premise.py``) is refused. The benchmark's questions are put to
it once; then each method is fitted at a quarter, half and three quarters of the depth on 1,000 to 50,000
training questions, with five seeds side by side. Networks, losses, splits and early stopping are those of
``relope fit``; of each variant the inner validation AUC is kept, by which variants are chosen later
(``premise_tables.py``). The test split is scored once by every fit. With ``--seconds`` the fits that are
left at the end of that time are left out; what there is has been written, and a fit that is there is not
made again. ``--states FOLDER`` keeps on disk what the questions showed, for a CPU and for more runs than one.
"""

import argparse
import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from premise_ask import Asked, Replies, put_in, questions
from premise_model import IMAGE, PAD
from premise_nets import OnBlock, OnTokens, OnVector, Shown
from premise_rows import ORDERS
from premise_scores import Scores, write_answers
from premise_states import States
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from relope.probes.train import TrainSettings, inner_split

log = logging.getLogger("premise_fits")
SIZES = (4000, 16000, 1000, 50000)
"""Training questions, in the order in which they are fitted."""

N_TEST = 4000
STATISTICS = 2048
"""Samples whose pooled start standardises later ones, as in ``attention-probe``."""


@dataclass(frozen=True)
class Job:
    """One method with one variant of its settings."""

    method: str
    variant: str = ""
    beta: float = 0.0
    lora: bool = False
    lora_lr: float = 0.0
    pool: str = ""
    logistic: bool = False

    @property
    def name(self) -> str:
        """Method and variant, as ``--fit`` takes them."""
        return f"{self.method} {self.variant}".strip()


JOBS = (
    Job("probe"),
    Job("attention-probe", "pool=all", pool="all"),
    Job("posthoc"),
    Job("relope", "beta=0.001 lora=False", 1e-3),
    Job("relope", "beta=0.001 lora_lr=0.001", 1e-3, True, 1e-3),
    Job("relope", "beta=0 lora_lr=0.001", 0.0, True, 1e-3),
    Job("relope", "beta=0.001 lora_lr=0.0001", 1e-3, True, 1e-4),
    Job("relope", "beta=0 lora_lr=0.0001", 0.0, True, 1e-4),
    Job("attention-probe", "pool=image", pool="image"),
    Job("probe", "head=logistic", logistic=True),
    Job("relope", "beta=0.01 lora_lr=0.001", 1e-2, True, 1e-3),
)
"""In the order in which they are fitted. Text has no image to pool, and its use is the probe's AUC."""


def jobs_for(order: str, n: int) -> tuple[Job, ...]:
    """Return what is fitted; some variants up to 4,000 questions only, for their cost."""
    if order == "text":
        return tuple(job for job in JOBS if job.method == "probe" or job.pool == "all")
    return JOBS if n <= 4000 else JOBS[:6]


def answer_features(replies: Replies) -> Tensor:
    """Return ``[N, H + 13]``: what ``posthoc`` reads of an answer of one word."""
    return torch.cat([replies.final, replies.logprob[:, None].expand(-1, 13)], 1)


def shown_at(layer: int, model: Any, asked: Asked, order: str, replies: Replies) -> Shown:
    """Return what the samples show at block l."""
    language, device = model.model.language_model, replies.final.device
    ids = asked.prompts[order].to(device)
    positions = torch.arange(ids.shape[1], device=device)[None]
    cosine, sine = language.rotary_emb(replies.final, positions)
    return Shown(
        last=replies.last[layer],
        tokens=replies.tokens[layer - 1],
        seen=ids != PAD,
        image=ids == IMAGE,
        answer=answer_features(replies),
        correct=replies.correct,
        block=language.layers[layer - 1],
        rotary=(cosine[0], sine[0]),
    )


def build(job: Job, shown: Shown, seed: int, inner: Tensor) -> nn.Module:
    """Build one seed's network and standardise it on its inner training samples."""
    if job.method in ("probe", "posthoc"):
        vectors = shown.last if job.method == "probe" else shown.answer
        net: Any = OnVector(vectors.shape[1], seed, () if job.logistic else None)
        net.standardize.learn(vectors[inner].cpu().numpy())
    elif job.method == "attention-probe":
        net = OnTokens(shown.last.shape[1], seed)
        some = inner[:STATISTICS]
        start = copy.deepcopy(net).to(shown.last.device).pooled(shown.tokens[some], kept_by(job, shown, some))
        net.standardize.learn(start.detach().cpu().numpy())
    else:
        net = OnBlock(shown, seed, job.lora)
        net.standardize.learn(shown.last[inner].cpu().numpy())
    return net.to(shown.last.device)


def kept_by(job: Job, shown: Shown, rows: Tensor) -> Tensor:
    """Return which tokens ``attention-probe`` pools."""
    return shown.seen[rows] if job.pool == "all" else shown.image[rows]


def inputs(job: Job, shown: Sequence[Shown], rows: Tensor, noise: Tensor | None) -> tuple[Any, ...]:
    """Return what the networks of a job take, for ``[R, B]`` rows; None stands for what is not there."""

    def of(pick: Callable[[Shown, Tensor], Tensor]) -> Tensor:
        return torch.cat([pick(one, part) for one, part in zip(shown, rows.chunk(len(shown)), strict=True)])

    if job.method == "probe":
        return (of(lambda one, part: one.last[part]),)
    if job.method == "posthoc":
        return (of(lambda one, part: one.answer[part]),)
    if job.method == "attention-probe":
        return of(lambda one, part: one.tokens[part]), of(lambda one, part: kept_by(job, one, part))
    if not job.lora:
        return of(lambda one, part: one.last[part]), noise
    return of(lambda one, part: one.tokens[part]), noise, of(lambda one, part: one.seen[part])


class SideBySide:
    """Networks of several blocks and seeds as one: every parameter has the network as its first dimension."""

    def __init__(self, nets: list[nn.Module]) -> None:
        self.parameters, self.buffers = stack_module_state(nets)
        self.net = nets[0]

    def __call__(self, *given: Any) -> tuple[Tensor, Tensor]:
        """Return logits and penalties ``[R, B]``."""

        def one(parameters: Any, buffers: Any, *inputs: Any) -> Any:
            return functional_call(self.net, (parameters, buffers), inputs)

        where = tuple(None if value is None else 0 for value in given)
        return vmap(one, in_dims=(0, 0, *where), randomness="different")(self.parameters, self.buffers, *given)

    def clip(self) -> None:
        """Scale each network's gradients to a norm of at most 1."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        factor = (1 / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


def aucs(correct: Tensor, scores: Tensor) -> Tensor:
    """Return ``[S]`` AUCs of scores ``[S, N]`` against ``[S, N] bool``; ties count half by their order's chance."""
    order = scores.argsort(1)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(1, scores.shape[1] + 1, device=order.device).expand_as(order)
    )
    right = correct.sum(1).double()
    total = (rank * correct).sum(1).double()
    return (total - right * (right + 1) / 2) / (right * (scores.shape[1] - right))


@dataclass(frozen=True)
class Fitted:
    """Fits of several seeds: test scores ``[S, N]``, inner validation AUC and epochs ``[S]``."""

    scores: np.ndarray
    inner: list[float]
    epochs: list[int]


def fit(
    job: Job, shown: Sequence[Shown], test: Sequence[Shown], n: int, seeds: int, settings: TrainSettings
) -> list[Fitted]:
    """Fit a job on the first n training samples at several blocks with several seeds, and score the test samples.

    Args:
        job: method and variant.
        shown: training samples at each block.
        test: test samples at each block.
        n: training samples that are used.
        seeds: fits of each block, of seeds 0, 1, …
        settings: of training.
    """
    correct, copies = shown[0].correct, len(shown)
    device, labels = correct.device, correct[:n].cpu().numpy()
    groups = np.arange(n).astype(str)  # every question has an image of its own
    splits = [inner_split(groups, labels, settings.inner_share, seed) for seed in range(seeds)]
    inner, held = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*splits, strict=True))
    nets = SideBySide([build(job, one, seed, inner[seed]) for one in shown for seed in range(seeds)])
    inner, held = inner.repeat(copies, 1), held.repeat(copies, 1)
    trained = {name: p for name, p in nets.parameters.items() if p.requires_grad}
    rates = {name: job.lora_lr if "adapters" in name else settings.lr for name in trained}
    optimizer = torch.optim.AdamW(
        [{"params": [p], "lr": rates[name]} for name, p in trained.items()],
        weight_decay=settings.weight_decay,
        fused=device.type == "cuda",
    )
    generator = torch.Generator(device).manual_seed(0)
    torch.manual_seed(0)  # dropout takes no generator; a fit depends on no earlier one
    truth, best = correct.float(), torch.full((len(inner),), -1.0, dtype=torch.double)
    best_epoch, stopped = torch.zeros(len(inner), dtype=torch.long), torch.zeros(len(inner), dtype=torch.bool)
    kept = {name: p.detach().clone() for name, p in trained.items()}
    for epoch in range(settings.epochs):
        nets.net.train()
        order = torch.rand(inner.shape, generator=generator, device=device).argsort(1)
        for rows in inner.gather(1, order).split(settings.batch, 1):
            noise = torch.randn(*rows.shape, 256, generator=generator, device=device)
            logits, penalty = nets(*inputs(job, shown, rows, noise))
            loss = F.binary_cross_entropy_with_logits(logits, truth[rows], reduction="none") + job.beta * penalty
            optimizer.zero_grad(set_to_none=True)
            loss.mean(1).sum().backward()
            nets.clip()
            optimizer.step()
        nets.net.eval()
        auc = aucs(correct[held], scored(job, nets, shown, held)).cpu()
        better = (auc > best) & ~stopped
        best, best_epoch = torch.where(better, auc, best), torch.where(better, epoch, best_epoch)
        for name, parameter in trained.items():
            kept[name][better.to(device)] = parameter.detach()[better.to(device)]
        stopped |= epoch - best_epoch >= settings.patience
        if stopped.all():
            break
    nets.parameters = {**nets.parameters, **kept}
    rows = torch.arange(len(test[0].correct), device=device).expand(len(inner), -1)
    told = scored(job, nets, test, rows).cpu(), best, best_epoch + 1
    parts = zip(*(values.chunk(copies) for values in told), strict=True)
    return [Fitted(scores.numpy(), auc.tolist(), epochs.tolist()) for scores, auc, epochs in parts]


@torch.no_grad()
def scored(job: Job, nets: SideBySide, shown: Sequence[Shown], rows: Tensor, at_once: int = 64) -> Tensor:
    """Return logits ``[R, N]`` of rows ``[R, N]``."""
    return torch.cat([nets(*inputs(job, shown, part, None))[0] for part in rows.split(at_once, 1)], 1)


def settings_for(n: int) -> TrainSettings:
    """Return the settings of training: relope's own; with more to learn from, larger batches and fewer epochs."""
    return TrainSettings() if n <= 1000 else TrainSettings(batch=256, epochs=20, patience=4)


def rows_of(job: Job, layer: int, n: int, fitted: Fitted) -> Iterator[dict[str, Any]]:
    """Yield one row a seed."""
    for seed, scores in enumerate(fitted.scores):
        told = {"method": job.method, "variant": job.variant, "layer": layer, "n": n, "seed": seed}
        yield {**told, "inner_auc": fitted.inner[seed], "epochs": fitted.epochs[seed], "scores": scores.tolist()}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder of premise.py")
    parser.add_argument("--order", choices=ORDERS, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/premise/fits"))
    parser.add_argument("--train", type=int, default=50000, help="training questions that are put to the model")
    parser.add_argument("--test", type=int, default=N_TEST)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="training questions of the fits, in order")
    parser.add_argument("--fit", nargs="+", choices=sorted({*(j.method for j in JOBS), *(j.name for j in JOBS)}))
    parser.add_argument("--layers", type=int, nargs="+", help="blocks of the fits, of those that were kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--states", type=Path, help="folder for what the questions showed; on a CPU only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.states and options.device != "cpu":
        parser.error("--states is read on a CPU: --device cpu")
    return options


def main() -> None:
    """Ask, fit, write."""
    options, begun = arguments(), time.perf_counter()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_float32_matmul_precision("high")
    model, record = opened(options.model, options.device)
    strengths = record["accuracy"]["strength"], record["accuracy"]["smudge"]
    asked = {split: questions(split, n, *strengths) for split, n in (("test", options.test), ("train", options.train))}
    blocks = model.config.text_config.num_hidden_layers
    layers = blocks // 4, blocks // 2, 3 * blocks // 4
    found = {split: answered(model, some, split, options, layers) for split, some in asked.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    log.info("asked in %.0f s", time.perf_counter() - begun)
    tables = {order: Scores(options.out, order, options.test) for order in options.order}
    for order in options.order:
        write_answers(options.out, order, asked, {split: found[split][order] for split in asked})
    for n, (order, job), some in planned(options, layers):
        there = tables[order]
        at = [layer for layer in some if not there.holds(job.method, job.variant, layer, n, options.seeds)]
        started = time.perf_counter()
        if at and started - begun > options.seconds:
            log.info("left out: %s %s l=%s n=%d", order, job.name, at, n)
        elif at:
            train, test = (
                [shown_at(layer, model, asked[split], order, found[split][order]) for layer in at]
                for split in ("train", "test")
            )
            fits = fit(job, train, test, n, options.seeds, settings_for(n))
            for layer, fitted in zip(at, fits, strict=True):
                there.add(rows_of(job, layer, n, fitted))
            now = time.perf_counter()
            log.info("%s %s l=%s n=%d: %.1f s, %.0f s in all", order, job.name, at, n, now - started, now - begun)


def answered(
    model: Any, asked: Asked, split: str, options: argparse.Namespace, layers: Sequence[int]
) -> dict[str, Replies]:
    """Return what the questions of a split showed in every order."""
    if options.states:
        about = {"model": digest_of(options.model), "layers": list(layers)}
        return States(options.states, split, about).replies(model, asked, options.order, layers)
    return put_in(model, asked, options.order, last=layers, tokens=[layer - 1 for layer in layers])


def planned(options: argparse.Namespace, kept: Sequence[int]) -> Iterator[tuple[int, tuple[str, Job], Sequence[int]]]:
    """Yield what is fitted in its order: training questions, order and job, and the blocks that are fitted as one.

    On a CPU that is each block by itself, for its caches. ``posthoc`` reads no block and is fitted at the first.
    """
    layers = options.layers or kept
    for n in (size for size in options.sizes if size <= options.train):
        for order in options.order:
            for job in jobs_for(order, n):
                if options.fit and not {job.name, job.method} & {*options.fit}:
                    continue
                at = layers[:1] if job.method == "posthoc" else layers
                for some in [[layer] for layer in at] if options.device == "cpu" else [at]:
                    yield n, (order, job), some


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def opened(folder: Path, device: str) -> tuple[Any, dict[str, Any]]:
    """Return a checkpoint's model, frozen, and its record; one that missed its goals is refused."""
    from transformers import LlavaForConditionalGeneration

    record = json.loads((folder / "training.json").read_text())
    missed = [goal for goal, met in record["goals"].items() if not met]
    if missed:
        raise SystemExit(f"{folder} missed {', '.join(missed)}: nothing is fitted on it")
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False), record


if __name__ == "__main__":
    main()
