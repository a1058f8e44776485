"""The small model in a vLLM server: scored from the states that it hands over, answered there where it is kept."""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from relope.errors import InvalidInputError
from relope.extract.model.backbone import Backbone
from relope.extract.model.load import pick_device
from relope.probes.router import load_router
from relope.serve.apart.asking import Asking, Tally
from relope.serve.apart.client import Client
from relope.serve.apart.joined import Apart, Asked, Told
from relope.serve.apart.scoring import HandedScorer
from relope.serve.apart.server import server_of, with_template
from relope.serve.bundle import load_bundle
from relope.serve.engine import Counters, EngineError, EngineSettings, Message, Query, Reason
from relope.serve.local.backbone import decoder, open_served
from relope.serve.local.deciding import unserved
from relope.serve.local.prompts import Unservable, check_shape, folded_of, prompt_of
from relope.serve.local.tickets import ThreadTicket
from relope.serve.local.writing import Decode
from relope.vllm.command import Server
from relope.vllm.process import Process, free_port, is_healthy
from relope.vllm.states import TRIAL_S, default_folder, ready_folder, sweep

VERSION = 1
_LOOK_S = 2.0
_SWEEP_S = 60.0
_log = logging.getLogger("relope.serve")


def open_engine(folder: Path, settings: EngineSettings) -> "VllmEngine":
    """Return an engine for the bundle in a folder, not started yet."""
    if bool(settings.url) == bool(settings.python):
        raise InvalidInputError(
            "the engine vllm asks a server that is there, or starts one",
            hint="give EngineSettings a url, or a python; `relope serve` has --vllm-url and --vllm-python",
        )
    return VllmEngine(folder, settings)


class VllmEngine:
    """One server that runs the model, one thread that makes prompts, and one thread a query.

    Attributes:
        name: of the small model.
        threshold: score below which a query without one of its own is escalated.
    """

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        """Prepare an engine.

        Args:
            folder: of the bundle.
            settings: where the server is, and how much is asked at once.

        Raises:
            NotFoundError: there is no bundle.
            StoreError: it was changed.
        """
        self._folder, self.settings, self._bundle = folder, settings, load_bundle(folder)
        self.name, self.threshold = self._bundle.model, self._bundle.threshold
        self._images = True
        self._client: Client | None = None
        self._apart: Apart | None = None
        self._process: Process | None = None
        self._prompts: ThreadPoolExecutor | None = None
        self._rows: ThreadPoolExecutor | None = None
        self._watch: threading.Thread | None = None
        self._tally, self._down = Tally(), False
        self._ending, self._stopping = threading.Event(), threading.Event()
        self._opening, self._lock, self._live = threading.Lock(), threading.Lock(), set[ThreadTicket]()

    async def start(self) -> None:
        """Open the router, wait for the server, and see that both read prompts alike."""
        await asyncio.to_thread(self.open)

    async def stop(self, grace: float = 30.0) -> None:
        """Finish what is there, and end the server that was started here."""
        await asyncio.to_thread(self.close, grace)

    def open(self) -> None:
        """Open the router, wait for the server, and see that both read prompts alike.

        Raises:
            RelopeError: the model or the server is not the bundle's, cannot be had, or reads prompts otherwise.
            EngineError: `close` came first, or meanwhile.
        """
        with self._opening:
            self._open()

    def _open(self) -> None:
        bundle, router = self._bundle, load_router(self._folder)
        backbone = open_served(bundle, self.settings, runs=False)
        states = ready_folder(Path(self.settings.states) if self.settings.states else default_folder()).resolve()
        server = server_of(bundle, router, backbone, states)
        scorer = HandedScorer(router, bundle.layer, backbone, self._folder, str(pick_device(self.settings.device)))
        try:
            self._check_wanted()
            self._client = Client(self._url(server), server.name, self.settings.max_rows + 1)
            self._check_wanted()
            self._apart = self._joined(self._client, backbone, scorer, states, server.images > 0)
        except BaseException:
            self._let_go()
            raise
        sweep(states)
        self._prompts = ThreadPoolExecutor(1, "relope-prompts")
        self._rows = ThreadPoolExecutor(self.settings.max_rows, "relope-vllm")
        self._watch = threading.Thread(target=self._look, name="relope-vllm-watch", daemon=True)
        self._watch.start()

    def _joined(self, client: Client, backbone: Backbone, scorer: HandedScorer, states: Path, images: bool) -> Apart:
        """Return what queries are served with, once the server has shown that it is the bundle's."""
        calibrated = self._bundle.calibration
        apart = Apart(
            _shortened(backbone, client.check()),
            client,
            states,
            scorer,
            lambda score: float(calibrated(np.array([score]))[0]),
            _shared(decoder(backbone)),
        )
        self._images = images
        self._try(replace(apart, wait_s=TRIAL_S))
        return apart

    def _url(self, server: Server) -> str:
        """Return where the server is, started where it is to be."""
        if self.settings.url:
            return self.settings.url
        with tempfile.TemporaryDirectory(prefix="relope-template-") as folder:
            server = replace(server, port=free_port(), more=(*server.more, *self.settings.arguments))
            server = with_template(server, self._bundle, Path(folder) / "chat.jinja")
            self._process = Process(server, self.settings.python)
            _log.info("a vLLM server of %s is loading; its log is %s", server.name, self._process.log)
            self._process.wait(given_up=self._ending)
        return self._process.url

    def _check_wanted(self) -> None:
        if self._ending.is_set():
            raise EngineError("the engine stopped")

    def _try(self, apart: Apart) -> None:
        """See that the server reads a prompt as the bundle's router was fitted on it, images included.

        Raises:
            InvalidInputError: it does not.
            EngineError: it does not answer.
            StatesError: it hands no states over.
        """
        shown = (Image.new("RGB", (56, 56), "red"),) if self._images else ()
        query = Query(messages=(Message("user", (*shown, "What is it?")),), max_new_tokens=1)
        list(apart.backbone.turn_faults([[("user", ["?"])]]))  # looks up, once, what the template marks turns by
        try:
            prompt = prompt_of(apart.backbone, query)
        except Unservable as refusal:
            raise InvalidInputError(f"{self.name} takes no prompt: {refusal}") from refusal
        if apart.scorer.before_answer:
            score = apart.scorer.at_prompt(prompt, apart.read(query, prompt))
        else:
            score = self._score_of_one_token(apart, Asked(query, prompt, _folded(apart, query)))
        if not np.isfinite(score):
            raise InvalidInputError(f"the router of {self._folder} gives no number for a plain prompt")

    def _score_of_one_token(self, apart: Apart, asked: Asked) -> float:
        told = Told()
        for step in apart.answered(asked.query, asked.prompt, 1, heeded=True):
            told.add(step, len(step.token_ids))
        return apart.score(asked, told, apart.decode(told.token_ids))

    def close(self, grace: float = 30.0) -> None:
        """Finish what is there within ``grace`` seconds, end the threads, and the server that was started here.

        A server that is still loading is ended at once; one that hangs is not waited for beyond ``grace``.
        """
        self._ending.set()
        if self._opening.locked() and (client := self._client) is not None:
            client.break_off()
        with self._opening:
            self._close(grace)

    def _close(self, grace: float) -> None:
        apart, prompts, rows, watch = self._apart, self._prompts, self._rows, self._watch
        if apart is None or prompts is None or rows is None or watch is None:
            return
        until = time.perf_counter() + grace
        self._rows = None
        while self._waited_for() and time.perf_counter() < until:
            time.sleep(0.01)
        self._stopping.set()
        prompts.shutdown(wait=True, cancel_futures=True)
        rows.shutdown(wait=False, cancel_futures=True)
        for ticket in list(self._live):
            if not ticket.over:
                ticket.fail(EngineError("the engine stopped"))
        apart.client.break_off()
        rows.shutdown(wait=True)
        watch.join()
        self._let_go()
        self._prompts = self._watch = None
        self._live.clear()

    def _waited_for(self) -> bool:
        """Return whether anybody waits for an answer."""
        with self._lock:
            return any(not (ticket.over or ticket.cancelled) for ticket in self._live)

    def _let_go(self) -> None:
        """Give the connections back, and end the server that was started here."""
        if self._client is not None:
            self._client.close()
        if self._process is not None:
            self._process.end()
        self._client = self._process = self._apart = None

    def can(self, query: Query) -> tuple[Reason, str] | None:
        """Return why the small model cannot serve a query, as far as its shape tells."""
        return check_shape(query, self._images, self.name)

    def submit(self, query: Query) -> ThreadTicket:
        """Queue a query."""
        apart, prompts, rows = self._apart, self._prompts, self._rows
        if apart is None or prompts is None or rows is None:
            raise EngineError("the engine is not running")
        ticket = ThreadTicket(query, self.threshold)
        if (reason := self.can(query)) is not None:
            self._refuse(ticket, *reason)
            return ticket
        self._forget()
        with self._lock:
            self._live.add(ticket)
        prompts.submit(self._prepare, apart, rows, ticket, time.perf_counter())
        return ticket

    def counters(self) -> Counters:
        """Return what it has done and what it is at."""
        now = self._tally.counters
        with self._lock:
            live = sum(not ticket.over for ticket in self._live)
        return replace(now, waiting=max(0, live - now.deciding - now.answering))

    def fault(self) -> Reason | None:
        """Return that its server does not answer, where that is so."""
        return "engine-error" if self._down else None

    def _prepare(self, apart: Apart, rows: ThreadPoolExecutor, ticket: ThreadTicket, since: float) -> None:
        """Make a query's prompt, and queue it or refuse it."""
        try:
            if ticket.cancelled:
                ticket.fail(EngineError("the query was cancelled"))
                return
            prompt = prompt_of(apart.backbone, ticket.query)
            asked = Asked(ticket.query, prompt, _folded(apart, ticket.query))
            asking = Asking(apart, ticket, asked, since, self._tally, self._lost, self._stopping)
            rows.submit(asking.run)
        except Unservable as refusal:
            self._refuse(ticket, refusal.reason, refusal.detail)
        except Exception as error:  # noqa: BLE001 an image that its processor cannot take, say: this query's trouble alone
            self._refuse(ticket, "engine-error", f"the prompt could not be made ({type(error).__name__})")

    def _refuse(self, ticket: ThreadTicket, reason: Reason, detail: str) -> None:
        """Let the large model take a query that the small one cannot serve, unless it must not."""
        if ticket.query.route == "small":
            ticket.fail(EngineError(f"the small model cannot serve the query: {detail}"))
        else:
            self._tally.tell(ticket, unserved(ticket.threshold, reason, detail))

    def _forget(self) -> None:
        """Let go of tickets that are over."""
        with self._lock:
            self._live = {ticket for ticket in self._live if not ticket.over}

    def _lost(self) -> None:
        """Note that the server did not answer: until it does again, the large model takes all."""
        if not self._down:
            _log.warning("the vLLM server does not answer")
        self._down = True

    def _look(self) -> None:
        """See now and then whether the server answers, and remove states that nobody has fetched."""
        apart, swept = self._apart, time.monotonic()
        while apart is not None and not self._stopping.wait(_LOOK_S):
            if not is_healthy(apart.client.url):
                self._lost()
            elif self._down:
                _log.warning("the vLLM server answers again")
                self._down = False
            if time.monotonic() - swept > _SWEEP_S:
                sweep(apart.folder)
                swept = time.monotonic()


def _folded(apart: Apart, query: Query) -> Sequence[int]:
    """Return the tokens of a prompt, one for each image, where the router has states of an answer read."""
    return folded_of(apart.backbone, query) if apart.scorer.states_after else ()


def _shortened(backbone: Backbone, context: int | None) -> Backbone:
    """Return a backbone with the context that its server has, where that is shorter."""
    known = [length for length in (backbone.traits.context, context) if length]
    return replace(backbone, traits=replace(backbone.traits, context=min(known, default=None)))


def _shared(decode: Decode) -> Decode:
    """Return a decoder that any thread may call."""
    lock = threading.Lock()

    def decoded(ids: Sequence[int]) -> str:
        with lock:
            return decode(ids)

    return decoded
