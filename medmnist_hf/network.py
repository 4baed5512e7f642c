"""HTTP clients with limits: they never wait forever, and no response fills the memory.

The timeouts of HTTP clients limit the gap between two bytes, so a server that sends single bytes keeps them waiting as
long as it likes. Here the complete head of a response must arrive within one timeout, whatever precedes it, and the
body must arrive at a minimum speed; both are checked where bytes are read from the network. The decoded size of a body
is limited if it is read into memory, as JSON is, or if its length is not declared.

Sending needs no minimum speed: the system blocks writes until a good part of its buffer is free, so a receiver that
reads single bytes runs into the timeout.
"""

import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from medmnist_hf.errors import first_line

if TYPE_CHECKING:
    import httpcore2
    import httpx2

    httpcore = httpcore2
    httpx = httpx2
else:  # those of the installed client: httpx2 and httpcore2 from its release 2 on, httpx and httpcore before
    httpx = import_module(HfHubHTTPError.__bases__[0].__module__)
    httpcore = import_module(httpx.__name__.replace("httpx", "httpcore"))

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_PAUSE: Final = 60.0
"""Seconds during which no request is sent to a server that failed to respond."""

_TRANSIENT: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which a retry may succeed: timeout, too early, too many requests."""


def is_transient_status(status: int) -> bool:
    """Return whether the same request may succeed later."""
    return status >= 500 or status in _TRANSIENT


_XET_BASE_SECONDS: Final = 600.0
"""Seconds allowed for any Xet transfer: at the end of an upload the server checks it, which takes minutes."""

_XET_MIN_SPEED: Final = 10_000
"""Average bytes per second required of a Xet transfer, after the first `_XET_BASE_SECONDS`."""

_Result = TypeVar("_Result")


class UnreachableServerError(OfflineModeIsEnabled):
    """No connection to a server that has not responded before: there is no network, or no such server.

    `huggingface_hub` treats this error like offline mode: it uses its cache at once instead of retrying for half a
    minute.
    """


class LargeResponseError(httpx.RequestError):
    """A response is larger than any that is expected."""


class SilentServerError(httpx.ConnectError):
    """Too many requests in a row had no complete response: no more are sent for a while."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on waiting for a server and on the size of its responses.

    Attributes:
        connect: Seconds to establish a connection.
        read: Seconds from a request to the end of the response head, and between two chunks of the body.
        change: Like `read`, for a request that changes something: the server may have to work before it responds.
        floor: Minimum speed of a body in bytes per second, averaged over `window`.
        window: Seconds of waiting after which the speed of a body is checked.
        body: Largest decoded size in bytes of a response that is read into memory. The Hub's longest, the list of the
            100,000 files that a repository may have, has about 10 MB. A response to a range request may be as long as
            the range.
        unsized: Largest decoded size in bytes of a streamed response without a declared length. The Hub declares it
            except for text, which it compresses.
        in_row: Number of incomplete responses in a row after which `SilentServerError` is raised.
        gives_up: Raise `UnreachableServerError` if the server has never responded and cannot be connected to.
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
    """Counts consecutive requests without a complete response, across clients.

    Attributes:
        requests: Number of such requests.
        since: End of the last one, in seconds of the monotonic clock.
        answered: Whether the server has ever responded, so that a failed connection may recover.
    """

    requests: int = 0
    since: float = field(default_factory=time.monotonic)
    answered: bool = False

    def note(self) -> None:
        """Count a request without a complete response."""
        self.requests, self.since = self.requests + 1, time.monotonic()


def transfer_seconds(size: int) -> float:
    """Return how long a Xet transfer of `size` bytes may take, in seconds; its client has no timeout."""
    return _XET_BASE_SECONDS + size / _XET_MIN_SPEED


def call_with_timeout(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Run a call that cannot be interrupted, and wait for it at most `seconds`.

    Xet's client finishes an upload without a timeout. After a timeout the call continues in a daemon thread, which
    does not keep the process alive.

    Raises:
        SilentServerError: The call has not ended in time.
        Exception: Any error that the call raises.
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


def apply_limits(client: httpx.Client, limits: Limits, silence: Silence | None = None) -> httpx.Client:
    """Apply limits to a client in place, keeping its proxies and certificates, and return it."""
    silence = silence or Silence()
    internals: Any = client
    # A client that is created with a transport ignores the environment's proxies, so wrap its transports in place.
    internals._transport = _limit_transport(internals._transport, limits, silence)
    internals._mounts = {
        pattern: transport and _limit_transport(transport, limits, silence)
        for pattern, transport in internals._mounts.items()
    }
    return client


def _limit_transport(transport: httpx.BaseTransport, limits: Limits, silence: Silence) -> httpx.BaseTransport:
    if isinstance(transport, httpx.HTTPTransport):
        pool: Any = transport._pool
        pool._network_backend = _Backend(pool._network_backend, limits)
    return _Transport(transport, limits, silence)


_in_head: ContextVar[bool] = ContextVar("_in_head", default=False)
"""Whether this thread is reading the head of a response."""


class _Transport(httpx.BaseTransport):
    """Wraps a transport and sets timeouts on every request, even if the caller disabled them."""

    def __init__(self, transport: httpx.BaseTransport, limits: Limits, silence: Silence) -> None:
        self._transport, self._limits, self._silence = transport, limits, silence

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        silence, limits = self._silence, self._limits
        if silence.requests >= limits.in_row and time.monotonic() - silence.since < _PAUSE:
            raise SilentServerError(f"no complete response to {silence.requests} requests in a row")
        read = limits.read if request.method in _READING else limits.change
        upper_bounds = {"connect": limits.connect, "read": read, "write": read, "pool": read}
        timeouts = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            name: bound if timeouts.get(name) is None else min(timeouts[name], bound)
            for name, bound in upper_bounds.items()
        }
        reset_token = _in_head.set(True)
        try:
            response = self._transport.handle_request(request)
        except httpx.TimeoutException:
            silence.note()
            raise
        except httpx.ConnectError as error:
            if silence.answered or not limits.gives_up:
                raise
            raise UnreachableServerError(f"no connection to {request.url.host}: {first_line(error)}") from None
        finally:
            _in_head.reset(reset_token)
        silence.answered = True
        assert isinstance(response.stream, httpx.SyncByteStream)
        piece = _PIECE if "Content-Encoding" in response.headers else None
        return _Response(response, _Body(response.stream, silence, piece), request, limits)

    def close(self) -> None:
        self._transport.close()


_PIECE: Final = 1024
"""Bytes of a compressed body that are unpacked at once: httpx does so before the size can be checked."""

_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


def _range_length(request: httpx.Request) -> int:
    """Return the length of the requested range in bytes; 0 if the whole content is requested."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    return int(match[2]) - int(match[1]) + 1 if match else 0


class _Response(httpx.Response):
    """A response with limits on the size of its body: one if it is read into memory, another if it is streamed."""

    def __init__(
        self, response: httpx.Response, stream: httpx.SyncByteStream, request: httpx.Request, limits: Limits
    ) -> None:
        super().__init__(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)
        self._origin, self._limits, self._in_memory = request, limits, False

    def read(self) -> bytes:
        self._in_memory = True
        try:
            return super().read()
        finally:
            self._in_memory = False

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        length = self.headers.get("Content-Length", "")
        if self._origin.method == "HEAD" or not length.isdecimal() or len(length) > 18:
            length = ""  # a HEAD response has no body, whatever length it declares
        limit = self._limits.unsized
        if self._in_memory:
            limit = max(self._limits.body, _range_length(self._origin))
            self._check_size(int(length or "0"), limit)
        elif length and "Content-Encoding" not in self.headers:
            limit = int(length)
        size = 0
        for piece in super().iter_bytes(chunk_size):
            size += len(piece)
            self._check_size(size, limit)
            yield piece

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            self.close()
            url = self._origin.url
            raise LargeResponseError(
                f"the response of {url.host} to {self._origin.method} {url.path} has more than {limit:,} bytes",
                request=self._origin,
            )


class _Body(httpx.SyncByteStream):
    """The body of a response; once it is complete, the count of incomplete responses is reset."""

    def __init__(self, stream: httpx.SyncByteStream, silence: Silence, piece: int | None) -> None:
        self._stream, self._silence, self._piece = stream, silence, piece

    def __iter__(self) -> Iterator[bytes]:
        try:
            for data in self._stream:
                size = self._piece or len(data)
                yield from (data[start : start + size] for start in range(0, len(data), size))
        except httpx.TimeoutException:
            self._silence.note()
            raise
        self._silence.requests = 0

    def close(self) -> None:
        self._stream.close()


class _Backend(httpcore.NetworkBackend):
    """Opens connections whose reads are limited."""

    def __init__(self, backend: httpcore.NetworkBackend, limits: Limits) -> None:
        self._backend, self._limits = backend, limits

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_tcp(host, port, timeout, local_address, socket_options), self._limits)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_unix_socket(path, timeout, socket_options), self._limits)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    """A connection that checks how fast a response arrives; only time spent waiting for bytes counts."""

    def __init__(self, stream: httpcore.NetworkStream, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._reset()

    def _reset(self) -> None:
        """Start measuring the response to a new request."""
        self._sent, self._seconds, self._bytes = time.monotonic(), 0.0, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        start, remaining = time.monotonic(), timeout
        if _in_head.get() and timeout is not None:
            remaining = self._sent + timeout - start
            if remaining <= 0:
                raise httpcore.ReadTimeout(f"no complete response head within {timeout:g} s")
        try:
            data = self._stream.read(max_bytes, remaining)
        except httpcore.ReadTimeout:
            raise httpcore.ReadTimeout(f"no data for {timeout:g} s") from None
        if not _in_head.get():
            self._check_speed(len(data), time.monotonic() - start)
        return data

    def _check_speed(self, size: int, seconds: float) -> None:
        self._bytes += size
        self._seconds += seconds
        if self._seconds >= self._limits.window:
            if self._bytes < self._limits.floor * self._seconds:
                speed = self._bytes / self._seconds
                raise httpcore.ReadTimeout(f"{speed:.0f} bytes per second, less than {self._limits.floor:,}")
            self._seconds, self._bytes = 0.0, 0

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)
        self._reset()

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
