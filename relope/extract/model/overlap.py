"""Moving work off the model's path: device → host copies, and threads on both sides of it."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

T = TypeVar("T")


class HostCopy:
    """A tensor on its way to the host.

    On CUDA the copy runs on a stream of its own into pinned memory, so that the next batch is
    computed meanwhile; ``numpy`` waits for it. On a CPU it is the tensor itself.
    """

    _streams: dict[torch.device, torch.cuda.Stream] = {}  # noqa: RUF012 one stream a device for the process

    def __init__(self, source: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if source.device.type != "cuda":
            self._host = source
            return
        if source.device not in self._streams:
            self._streams[source.device] = torch.cuda.Stream(source.device)  # type: ignore[no-untyped-call]
        stream = self._streams[source.device]
        stream.wait_stream(torch.cuda.current_stream(source.device))
        self._host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            self._host.copy_(source, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(stream)
        source.record_stream(stream)  # its memory must not be reused before the copy is done

    def numpy(self) -> npt.NDArray[Any]:
        """Wait for the copy and return it; bfloat16 comes as uint16."""
        if self._event is not None:
            self._event.synchronize()
        host = self._host
        return host.view(torch.uint16).numpy() if host.dtype == torch.bfloat16 else host.numpy()


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield items that a background thread makes up to ``depth`` ahead; its errors surface here."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(message: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(message, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer(("item", item)):
                    return
            offer(("end", None))
        except BaseException as error:  # noqa: BLE001  (handed to the consumer, which raises it)
            offer(("error", error))

    thread = threading.Thread(target=work, name="relope-prefetch", daemon=True)
    thread.start()
    try:
        while (message := ready.get())[0] == "item":
            yield message[1]
        if message[0] == "error":
            raise message[1]
    finally:
        stopped.set()
        thread.join()


class BackgroundQueue:
    """Runs calls in order on one background thread, with a bounded backlog.

    Leaving the context waits for every queued call and raises the error of the first that failed;
    when the context itself failed, what is still queued is dropped.
    """

    def __init__(self, depth: int = 2) -> None:
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="relope-queue", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], object]) -> None:
        """Queue a call, waiting while the backlog is full."""
        self._raise()
        self._calls.put(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._error = self._error or error
        self._calls.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._error is None:
                try:
                    call()
                except BaseException as error:  # noqa: BLE001  (raised by the next call or by close)
                    self._error = error
