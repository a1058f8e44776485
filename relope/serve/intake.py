"""A request that was read, as a query of the small model: its images decoded, in a thread of their own."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import httpx

from relope.serve import fetch, images
from relope.serve.chat import Message as ChatMessage
from relope.serve.chat import Request
from relope.serve.engine import Message, Query, Role, Route
from relope.serve.limits import Limits
from relope.serve.problems import too_large

if TYPE_CHECKING:
    from PIL.Image import Image

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Full(Exception):
    """Other requests hold as many decoded pixels as the server keeps."""


class Intake:
    """Makes queries.

    Args:
        limits: on what a request may hold.
        hosts: that images may be fetched from, in lower case.
    """

    def __init__(self, limits: Limits, hosts: Collection[str] = ()) -> None:
        self.limits, self._hosts = limits, frozenset(hosts)
        self.held_pixels = 0
        self._client: httpx.AsyncClient | None = fetch.image_client() if hosts else None

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()

    def check_images(self, request: Request) -> None:
        """Refuse images that nobody is to open, before anything is decoded or passed on.

        Raises:
            Problem: the address of one is neither a data URI nor of an allowed host.
        """
        for url, param in request.images():
            if not images.is_data(url):
                fetch.allowed(url, self._hosts, param)

    async def query(
        self,
        request: Request,
        threshold: float | None,
        route: Route | None,
        held: contextlib.ExitStack,
        score_only: bool = False,
    ) -> Query:
        """Return the query of a request.

        Args:
            request: that was read.
            threshold: of its own.
            route: that is forced.
            held: gives the room of its images back when it is closed, which is when nobody needs the query any more.
            score_only: decide, and answer nothing.

        Raises:
            Problem: an image that cannot be had or decoded, or is too large.
            Full: there is no room for its images now.
        """
        sent = [(await self._encoded(url, param), param) for url, param in request.images()]
        if sent:
            self._hold(await asyncio.to_thread(self._pixels, sent), held)
        decoded = await asyncio.to_thread(_decoded, sent) if sent else []
        left = iter(decoded)
        return Query(
            messages=tuple(_message(message, left) for message in request.messages),
            max_new_tokens=request.most_tokens or self.limits.answer_tokens,
            temperature=request.temperature or 0.0,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            stop=tuple(request.stop),
            threshold=threshold,
            route=route,
            score_only=score_only,
        )

    async def _encoded(self, url: str, param: str) -> bytes:
        if images.is_data(url):
            return images.data_bytes(url, self.limits, param)
        split = fetch.allowed(url, self._hosts, param)
        assert self._client is not None  # there are allowed hosts
        return await fetch.fetch(self._client, split, await fetch.pinned(split, param), self.limits, param)

    def _pixels(self, sent: list[tuple[bytes, str]]) -> int:
        """Return how many pixels the images have, by their headers."""
        total = sum(images.size_of(encoded, self.limits, param) for encoded, param in sent)
        if total > self.limits.total_pixels:
            told = f"the images have {total:,} pixels, more than the {self.limits.total_pixels:,} that are allowed"
            raise too_large(told, "messages")
        return total

    def _hold(self, pixels: int, held: contextlib.ExitStack) -> None:
        if self.held_pixels + pixels > max(self.limits.held_pixels, pixels):  # one that is larger is held alone
            raise Full
        self.held_pixels += pixels
        held.callback(self._give, pixels)

    def _give(self, pixels: int) -> None:
        self.held_pixels -= pixels


def _decoded(sent: list[tuple[bytes, str]]) -> "list[Image]":
    return [images.decoded(encoded, param) for encoded, param in sent]


def _message(message: ChatMessage, left: "Iterator[Image]") -> Message:
    parts = tuple(next(left) if part.type == "image_url" else part.text or "" for part in message.content)
    return Message(_ROLES[message.role], parts)
