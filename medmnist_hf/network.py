"""HTTP clients with limits: they wait for no server for ever, and no answer fills the memory.

The time-outs of HTTP clients limit the gap between two bytes, so an answer that drips keeps them waiting as long as
its sender likes. Here the head of an answer has to be there, whole, within one time-out, whatever comes before it, and
its body has to arrive at some speed. Both are seen to where bytes are read from the network. And a body ends
at a limit, by its decoded bytes, where it is read into memory, as JSON is, or does not say how long it is.

Sending needs no such floor: a system lets nobody write before a good part of its buffer is free, so that a receiver of
single bytes meets the time-out.
"""

import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpcore2
import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled

from medmnist_hf.errors import first_line

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_PAUSE: Final = 60.0
"""Seconds for which a server that has been given up is not asked again."""

_TRANSIENT: Final = frozenset({408, 425, 429})
"""Statuses below 500 of a server that may have an answer later: too slow, too early, too often."""


def is_transient_status(status: int) -> bool:
    """The same request may be answered otherwise later."""
    return status >= 500 or status in _TRANSIENT


_LEAST: Final = 600.0
"""Seconds that any transfer by Xet may take: what ends an upload is checked at the other end, which takes minutes."""

_LEAST_SPEED: Final = 10_000
"""Bytes a second that a whole transfer by Xet has to have, after the first `_LEAST` seconds."""

_Result = TypeVar("_Result")


class UnreachableServerError(OfflineModeIsEnabled):
    """No connection to a server that has answered nothing yet: there is no network, or no such server.

    To the client of the Hub this is as if it were told to work offline: it takes what is in its cache, and does not
    try for half a minute before it says so.
    """


class LargeAnswerError(httpx2.RequestError):
    """An answer is larger than any that is expected."""


class SilentServerError(httpx2.ConnectError):
    """Too many requests in a row had no whole answer: the server is not asked again for a while."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for a server.

    Attributes:
        connect: Seconds until there is a connection.
        read: Seconds from a request to the end of the head of its answer, and between two pieces of its body.
        change: The same for a request that changes something, since a server may have to work before it answers.
        floor: Bytes a second that a body has to have, counted over `window`.
        window: Seconds of waiting after which the speed of a body is looked at.
        body: Decoded bytes of an answer that is read into memory; the longest of the Hub, which names the 100,000
            files that a repository may have, has some 10 MB. Where a range is asked for, the answer may be as long.
        unsized: Decoded bytes of an answer that its reader takes in pieces, to write it to a file, and that does not
            say how long it is. The Hub says so but for texts, which it sends compressed.
        in_row: Requests in a row without a whole answer after which `SilentServerError` is raised.
        gives_up: Raise `UnreachableServerError` where nothing was heard of the server yet and no connection is made.
    """

    connect: float = 15.0
    read: float = 60.0
    change: float = 120.0
    floor: int = 1000
    window: float = 60.0
    body: int = 64 << 20
    unsized: int = sys.maxsize
    in_row: int = 1_000_000
    gives_up: bool = False


@dataclass(slots=True)
class Silence:
    """How many requests in a row had no whole answer, and when the last of them ended; kept over clients.

    Attributes:
        requests: The number.
        since: When the last of them ended, in seconds of the monotonic clock.
        answered: There was an answer once, so that a connection that fails may come back.
    """

    requests: int = 0
    since: float = field(default_factory=time.monotonic)
    answered: bool = False

    def note(self) -> None:
        """One more."""
        self.requests, self.since = self.requests + 1, time.monotonic()


def transfer_seconds(size: int) -> float:
    """How long a transfer of so many bytes may take where its client has no limit of its own."""
    return _LEAST + size / _LEAST_SPEED


def call_with_timeout(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Call something that cannot be interrupted, and wait for it so long at most.

    The client of Xet sends what ends an upload without a time-out. A call that is given up goes on in a thread that
    does not keep the process from ending.

    Raises:
        SilentServerError: It has not ended.
        Exception: Whatever it raises.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise SilentServerError(f"the transfer has not ended within {seconds:,.0f} s")
    return results[0]


def apply_limits(client: httpx2.Client, limits: Limits, silence: Silence | None = None) -> httpx2.Client:
    """Give a client limits, whatever proxies and certificates it was made with; it is changed and returned."""
    silence = silence or Silence()
    transport: Any = client
    # A transport that is given to a client takes the proxies of the environment from it, so they are wrapped in place.
    transport._transport = _limited(transport._transport, limits, silence)
    transport._mounts = {pattern: one and _limited(one, limits, silence) for pattern, one in transport._mounts.items()}
    return client


def _limited(transport: httpx2.BaseTransport, limits: Limits, silence: Silence) -> httpx2.BaseTransport:
    if isinstance(transport, httpx2.HTTPTransport):
        pool: Any = transport._pool
        pool._network_backend = _Backend(pool._network_backend, limits)
    return _Transport(transport, limits, silence)


_in_head: ContextVar[bool] = ContextVar("_in_head", default=False)
"""The head of an answer is being read, in this thread."""


class _Transport(httpx2.BaseTransport):
    """Sends requests by another transport, each with time-outs, also where the caller wanted none."""

    def __init__(self, transport: httpx2.BaseTransport, limits: Limits, silence: Silence) -> None:
        self._transport, self._limits, self._silence = transport, limits, silence

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        silence, limits = self._silence, self._limits
        if silence.requests >= limits.in_row and time.monotonic() - silence.since < _PAUSE:
            raise SilentServerError(f"no whole answer to {silence.requests} requests in a row")
        read = limits.read if request.method in _READING else limits.change
        most = {"connect": limits.connect, "read": read, "write": read, "pool": read}
        asked = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            name: limit if asked.get(name) is None else min(asked[name], limit) for name, limit in most.items()
        }
        head = _in_head.set(True)
        try:
            response = self._transport.handle_request(request)
        except httpx2.TimeoutException:
            silence.note()
            raise
        except httpx2.ConnectError as error:
            if silence.answered or not limits.gives_up:
                raise
            raise UnreachableServerError(
                f"no connection to {request.url.host}: {first_line(error)}; with HF_HUB_OFFLINE=1 it is not contacted"
            ) from None
        finally:
            _in_head.reset(head)
        silence.answered = True
        assert isinstance(response.stream, httpx2.SyncByteStream)
        return _Response(response, _Body(response.stream, silence), request, limits)

    def close(self) -> None:
        self._transport.close()


_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


def _bytes_asked(request: httpx2.Request) -> int:
    """Length of the range that a request asks for; 0 where it asks for all there is."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    return int(match[2]) - int(match[1]) + 1 if match else 0


class _Response(httpx2.Response):
    """An answer whose body ends at a limit: one where it is read into memory, another where it is taken in pieces."""

    def __init__(
        self, response: httpx2.Response, stream: httpx2.SyncByteStream, request: httpx2.Request, limits: Limits
    ) -> None:
        super().__init__(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)
        self._asked, self._limits, self._in_memory = request, limits, False

    def read(self) -> bytes:
        self._in_memory = True
        try:
            return super().read()
        finally:
            self._in_memory = False

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        told = self.headers.get("Content-Length", "")
        if self._asked.method == "HEAD" or not told.isdecimal() or len(told) > 18:
            told = ""  # no body follows a request by HEAD, whatever its length would be
        limit = self._limits.unsized
        if self._in_memory:
            limit = max(self._limits.body, _bytes_asked(self._asked))
            self._check_size(int(told or "0"), limit)
        elif told and "Content-Encoding" not in self.headers:
            limit = int(told)
        size = 0
        for piece in super().iter_bytes(chunk_size):
            size += len(piece)
            self._check_size(size, limit)
            yield piece

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            self.close()
            url = self._asked.url
            raise LargeAnswerError(
                f"the answer of {url.host} to {self._asked.method} {url.path} has more than {limit:,} bytes",
                request=self._asked,
            )


class _Body(httpx2.SyncByteStream):
    """The body of an answer, which ends a silence once it is whole."""

    def __init__(self, stream: httpx2.SyncByteStream, silence: Silence) -> None:
        self._stream, self._silence = stream, silence

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except httpx2.TimeoutException:
            self._silence.note()
            raise
        self._silence.requests = 0

    def close(self) -> None:
        self._stream.close()


class _Backend(httpcore2.NetworkBackend):
    """Opens connections that are read with limits."""

    def __init__(self, backend: httpcore2.NetworkBackend, limits: Limits) -> None:
        self._backend, self._limits = backend, limits

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._backend.connect_tcp(host, port, timeout, local_address, socket_options), self._limits)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._backend.connect_unix_socket(path, timeout, socket_options), self._limits)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    """A connection; only the time spent in waiting for bytes counts."""

    def __init__(self, stream: httpcore2.NetworkStream, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._begin()

    def _begin(self) -> None:
        """A request is on its way: its answer is counted anew."""
        self._asked, self._seconds, self._bytes = time.monotonic(), 0.0, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        start, left = time.monotonic(), timeout
        if _in_head.get() and timeout is not None:
            left = self._asked + timeout - start
            if left <= 0:
                raise httpcore2.ReadTimeout(f"no whole head of an answer within {timeout:g} s")
        try:
            data = self._stream.read(max_bytes, left)
        except httpcore2.ReadTimeout:
            raise httpcore2.ReadTimeout(f"no data for {timeout:g} s") from None
        if not _in_head.get():
            self._check_speed(len(data), time.monotonic() - start)
        return data

    def _check_speed(self, size: int, seconds: float) -> None:
        self._bytes += size
        self._seconds += seconds
        if self._seconds >= self._limits.window:
            if self._bytes < self._limits.floor * self._seconds:
                speed = self._bytes / self._seconds
                raise httpcore2.ReadTimeout(f"{speed:.0f} bytes a second, less than {self._limits.floor:,}")
            self._seconds, self._bytes = 0.0, 0

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)
        self._begin()

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
