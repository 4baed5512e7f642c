"""Calls of the Hub's client: which errors may pass, how long to wait, and the one line that a person reads."""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from huggingface_hub import HfApi, get_token, utils
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from medmnist_hf.errors import HubError, first_line

MAIN: Final = "main"
_TRIES: Final = 5
_FIRST_WAIT: Final = 0.5
"""Seconds before the second try; each further one waits twice as long."""

_LONGEST_WAIT: Final = 60.0
"""Seconds; where the Hub asks for more, the call fails and the person may come back later."""
_TRANSIENT: Final = {429, 500, 502, 503, 504}
_Result = TypeVar("_Result")


def _http() -> Any:
    return utils.httpx  # type: ignore[attr-defined]


def client_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: errors of its own, of the HTTP library and of the Xet library."""
    return (OSError, ValueError, RuntimeError, _http().HTTPError)


_ADVICE: Final = {
    401: "the token is unknown or has expired: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: use one with write access to the namespace",
    404: "no such repository or revision, or the token may not see it: check the name and the token",
    409: "it is there already or in conflict: look at the repository and run again",
    412: "the repository has changed meanwhile: run again",
    413: "the request is too large: build with a smaller --max-shard-size",
    429: "too many requests: run again later, what is up there is not sent again",
}


def to_hub_error(what: str, error: Exception) -> HubError:
    """One line for an error of the Hub's client, without any token."""
    response = getattr(error, "response", None)
    status = response.status_code if isinstance(error, HfHubHTTPError) and response is not None else 0
    if status:
        answer = getattr(error, "server_message", None) or f"HTTP {status}"
        advice = _ADVICE.get(status, "run again" if status >= 500 else "check the arguments and run again")
        reason = f"HTTP {status}, {first_line(answer)}" if answer != f"HTTP {status}" else answer
    else:
        advice, reason = "check the network and run again, what is up there is not sent again", first_line(error)
    return HubError(f"cannot {what} ({reason}): {advice}", status)


def is_transient(error: Exception) -> bool:
    """The same call may succeed later: the network failed, or the Hub is busy or broken."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code in _TRANSIENT
    if isinstance(error, OfflineModeIsEnabled):
        return False
    return isinstance(error, (_http().TransportError, ConnectionError, TimeoutError))


def wait_before(error: Exception, attempt: int) -> bool:
    """Sleep as the Hub asks by Retry-After, or twice as long each time; False if it asks for too long."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    seconds = float(asked) if asked.isdecimal() else _FIRST_WAIT * 2**attempt
    if seconds > _LONGEST_WAIT:
        return False
    time.sleep(seconds)
    return True


def patiently(
    what: str, call: Callable[[], _Result], tries: int = _TRIES, passing: tuple[type[Exception], ...] = ()
) -> _Result:
    """Call the Hub, again where it is busy or the network fails; only for calls that may be repeated.

    Args:
        what: What is tried, to follow "cannot" in an error.
        call: The call.
        tries: At most so often.
        passing: Errors that are raised as they are.

    Raises:
        HubError: It was refused, or all tries failed.
    """
    for attempt in range(tries):
        try:
            return call()
        except passing:
            raise
        except client_errors() as error:
            if attempt + 1 < tries and is_transient(error) and wait_before(error, attempt):
                continue
            raise to_hub_error(what, error) from None
    raise AssertionError("unreachable")


def hub_api() -> HfApi:
    """The client, which names this project to the Hub."""
    return HfApi(library_name="medmnist-hf")


def require_token(api: HfApi) -> None:
    """Raise `HubError` where there is no token to write with."""
    if not api.token and get_token() is None:
        raise HubError("no token for the Hub: log in with `hf auth login`, or set HF_TOKEN")
