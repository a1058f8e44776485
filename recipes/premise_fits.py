"""Fit every method on the second testbed: ``python recipes/premise_fits.py --model CHECKPOINT --order image-first``.

A checkpoint that missed its goals (see ``premise.py``) is refused. The benchmark's questions are put to
it once; then each method is fitted at a quarter, half and three quarters of the depth on 1,000 to 50,000
training questions, with five seeds side by side. Networks, losses, splits and early stopping are those of
``relope fit``; of each variant the inner validation AUC is kept, by which variants are chosen later
(``premise_tables.py``). The test split is scored once by every fit. With ``--seconds`` the fits that are
left at the end of that time are left out; what there is has been written.
"""

import argparse
import copy
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from premise_ask import Asked, Replies, joined, put, questions
from premise_model import IMAGE, PAD
from premise_nets import OnBlock, OnTokens, OnVector, Shown
from premise_rows import ORDERS
from premise_scenes import KINDS
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


def fit(job: Job, shown: Sequence[Shown], n: int, n_train: int, seeds: int, settings: TrainSettings) -> list[Fitted]:
    """Fit a job on the first n training samples at several blocks with several seeds, and score the test samples.

    Args:
        job: method and variant.
        shown: for each block: training samples, then test samples.
        n: training samples that are used.
        n_train: training samples that there are.
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
    test = torch.arange(n_train, len(correct), device=device).expand(len(inner), -1)
    told = scored(job, nets, shown, test).cpu(), best, best_epoch + 1
    parts = zip(*(values.chunk(copies) for values in told), strict=True)
    return [Fitted(scores.numpy(), auc.tolist(), epochs.tolist()) for scores, auc, epochs in parts]


@torch.no_grad()
def scored(job: Job, nets: SideBySide, shown: Sequence[Shown], rows: Tensor, at_once: int = 256) -> Tensor:
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


def write_answers(path: Path, asked: Asked, replies: Replies, n_train: int) -> None:
    """Write what was asked and answered, a row a question."""
    split = ["train"] * n_train + ["test"] * (len(asked) - n_train)
    columns = {"split": split, "kind": [KINDS[kind] for kind in asked.kind.tolist()], "question": list(asked.text)}
    told = {name: getattr(replies, name).cpu().numpy() for name in ("correct", "logprob", "entropy")}
    pl.DataFrame({**columns, **told}).write_parquet(path)


def main() -> None:
    """Ask, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder of premise.py")
    parser.add_argument("--order", choices=ORDERS, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/premise/fits"))
    parser.add_argument("--train", type=int, default=50000, help="training questions that are put to the model")
    parser.add_argument("--test", type=int, default=N_TEST)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    begun = time.perf_counter()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_float32_matmul_precision("high")
    model, record = opened(options.model, options.device)
    strengths = record["accuracy"]["strength"], record["accuracy"]["smudge"]
    asked = joined([questions("train", options.train, *strengths), questions("test", options.test, *strengths)])
    blocks = model.config.text_config.num_hidden_layers
    layers = blocks // 4, blocks // 2, 3 * blocks // 4
    replies = put(model, asked, options.order, last=layers, tokens=[layer - 1 for layer in layers])
    options.out.mkdir(parents=True, exist_ok=True)
    write_answers(options.out / f"{options.order}.answers.parquet", asked, replies, options.train)
    log.info("asked in %.0f s, right %.3f", time.perf_counter() - begun, replies.correct.float().mean().item())
    rows: list[dict[str, Any]] = []
    shown = [shown_at(layer, model, asked, options.order, replies) for layer in layers]
    for n in (size for size in SIZES if size <= options.train):
        for job in jobs_for(options.order, n):
            started = time.perf_counter()
            if started - begun > options.seconds:
                log.info("left out: %s %s at n=%d", job.method, job.variant, n)
                continue
            at = shown[:1] if job.method == "posthoc" else shown  # which reads no block
            for layer, fitted in zip(
                layers, fit(job, at, n, options.train, options.seeds, settings_for(n)), strict=False
            ):
                rows += rows_of(job, layer, n, fitted)
                log.info("%s %s l=%d n=%d inner %.4f", job.method, job.variant, layer, n, np.mean(fitted.inner))
            log.info("%.1f s, %.0f s in all", time.perf_counter() - started, time.perf_counter() - begun)
            write_scores(options.out / f"{options.order}.scores.parquet", rows)


def write_scores(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write all scores so far, a row a fit."""
    pl.DataFrame(rows).with_columns(pl.col("scores").cast(pl.List(pl.Float32))).write_parquet(path)


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
