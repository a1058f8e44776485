"""The small model in this process, by transformers: scored at block l, answered only where it is kept."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from relope.extract.model.backbone import Backbone
from relope.serve.bundle import load_bundle
from relope.serve.engine import Counters, Decision, EngineError, EngineSettings, Query, Reason
from relope.serve.local.backbone import open_served_model
from relope.serve.local.batches import Request
from relope.serve.local.deciding import unserved
from relope.serve.local.prompt_batch import ServedModel
from relope.serve.local.prompts import Unservable, check_shape, prompt_of
from relope.serve.local.tickets import ThreadTicket
from relope.serve.local.worker import Worker

VERSION = 1


def open_engine(folder: Path, settings: EngineSettings) -> "TransformersEngine":
    """Return an engine for the bundle in a folder, not started yet."""
    bundle = load_bundle(folder)
    return TransformersEngine(
        bundle.model, bundle.threshold, settings, lambda: open_served_model(folder, bundle, settings)
    )


class TransformersEngine:
    """One model, one thread that runs it, and one that makes prompts.

    Attributes:
        name: of the small model.
        threshold: score below which a query without one of its own is escalated.
    """

    def __init__(self, name: str, threshold: float, settings: EngineSettings, load: Callable[[], ServedModel]) -> None:
        """Prepare an engine.

        Args:
            name: of the small model.
            threshold: score below which queries are escalated.
            settings: how much is done at once.
            load: opens the model and its router, when the engine starts.
        """
        self.name, self.threshold, self.settings, self._load = name, threshold, settings, load
        self._backbone: Backbone | None = None
        self._images = True
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._prompts: ThreadPoolExecutor | None = None
        self._lock, self._preparing, self._before = threading.Lock(), 0, Counters()

    async def start(self) -> None:
        """Load the model and the router."""
        await asyncio.to_thread(self.open)

    async def stop(self, grace: float = 30.0) -> None:
        """Finish what is there, and give the memory back."""
        await asyncio.to_thread(self.close, grace)

    def open(self) -> None:
        """Load the model and the router, and start the thread.

        Raises:
            RelopeError: the model is not the bundle's, or the router cannot be served.
        """
        served = self._load()
        list(served.backbone.turn_faults([[("user", ["?"])]]))  # looks up, once, what the template marks turns by
        self._images = served.images and served.backbone.traits.sees_images
        self._backbone, self._worker = served.backbone, Worker(served, self.settings)
        self._prompts = ThreadPoolExecutor(1, "relope-prompts")
        self._thread = threading.Thread(target=self._worker.run, name="relope-engine", daemon=True)
        self._thread.start()

    def close(self, grace: float = 30.0) -> None:
        """Finish what is there within ``grace`` seconds, end the threads, and let the model go."""
        worker, thread, prompts = self._worker, self._thread, self._prompts
        if worker is None or thread is None or prompts is None:
            return
        until = time.perf_counter() + grace
        with self._lock:
            self._worker = None
        while self._preparing and time.perf_counter() < until:
            time.sleep(0.005)
        self._backbone = None  # prompts that are not made yet fail now
        prompts.shutdown(wait=True)
        worker.stop(max(0.0, until - time.perf_counter()))
        thread.join()
        self._before = worker.counters
        self._thread = self._prompts = None
        del worker, thread, prompts
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def can(self, query: Query) -> tuple[Reason, str] | None:
        """Return why the small model cannot serve a query, as far as its shape tells."""
        return check_shape(query, self._images, self.name)

    def submit(self, query: Query) -> ThreadTicket:
        """Queue a query."""
        worker, prompts, thread = self._worker, self._prompts, self._thread
        if worker is None or prompts is None or thread is None or not thread.is_alive():
            raise EngineError("the engine is not running")
        ticket = ThreadTicket(query, self.threshold, worker.notice)
        reason = self.can(query)
        if reason is not None:
            self._refuse(worker, ticket, unserved(ticket.threshold, *reason))
            return ticket
        with self._lock:
            self._preparing += 1
        prompts.submit(self._prepare, worker, ticket, time.perf_counter())
        return ticket

    def counters(self) -> Counters:
        """Return what it has done and what it is at."""
        worker = self._worker
        if worker is None:
            return self._before
        return replace(worker.counters, waiting=worker.n_ready + self._preparing, answering=worker.n_rows)

    def fault(self) -> Reason | None:
        """Return that its thread has ended, where it has."""
        return "engine-error" if self._thread is not None and not self._thread.is_alive() else None

    def _prepare(self, worker: Worker, ticket: ThreadTicket, since: float) -> None:
        """Make a query's prompt, and queue it or refuse it."""
        try:
            backbone = self._backbone
            if backbone is None or ticket.cancelled:
                ticket.fail(EngineError("the query was cancelled" if ticket.cancelled else "the engine stopped"))
                return
            worker.put(Request(ticket, prompt_of(backbone, ticket.query), since))
        except Unservable as refusal:
            self._refuse(worker, ticket, unserved(ticket.threshold, refusal.reason, refusal.detail))
        except Exception as error:  # noqa: BLE001 an image that its processor cannot take, say: this query's trouble alone
            why = f"the prompt could not be made ({type(error).__name__})"
            self._refuse(worker, ticket, unserved(ticket.threshold, "engine-error", why))
        finally:
            with self._lock:
                self._preparing -= 1

    def _refuse(self, worker: Worker, ticket: ThreadTicket, decision: Decision) -> None:
        """Let the large model take a query that the small one cannot serve, unless it must not."""
        if ticket.query.route == "small":
            ticket.fail(EngineError(f"the small model cannot serve the query: {decision.detail}"))
        else:
            worker.tell(ticket, decision)
