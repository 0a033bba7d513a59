"""Object store: requests for the content, the size and the names of objects, repeated within bounds.

Credentials, region and endpoint come from the environment, with the names that the tools of each cloud use. obstore is
imported when the first URL is read.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from viscy_train.errors import UserError
from viscy_train.remote.failures import explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from viscy_train.remote.url import Url

SECONDS = "VISCY_TRAIN_REMOTE_SECONDS"
"""Variable of the environment with the seconds that a server may take to answer, and to send the next bytes."""
N_RETRIES = 4
"""How often a request that failed is repeated."""
_DEFAULT_SECONDS = 30.0
_N_ATTEMPTS = 3  # of a transfer that cannot continue where it was cut
_VARIABLES = ("AWS_", "GOOGLE_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", SECONDS)
_clients_made = False
_is_forked = False


class ObjectFacts(NamedTuple):
    """What is known of an object without its content."""

    size: int
    version: str


class Listing(NamedTuple):
    """The objects directly below a path by name, and the names of the directories there."""

    objects: dict[str, ObjectFacts]
    directories: list[str]


def seconds() -> float:
    """Return how long a server may take to answer.

    Raises
    ------
    UserError
        If the variable of the environment is not a number above 0.
    """
    text = os.environ.get(SECONDS, "")
    try:
        value = float(text or _DEFAULT_SECONDS)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UserError(f"{SECONDS} must be a number of seconds above 0, got {text!r}")
    return value


def client(url: Url) -> Any:
    """Return the client of obstore for what a URL is below of; it is shared by all threads of a process.

    Raises
    ------
    UserError
        If obstore is not installed, or this process was forked from one that has used it.
    """
    if _is_forked:
        raise UserError(
            f"{url} cannot be read in a process that was forked from one that had read from a server; set "
            "data.start_method to forkserver or spawn"
        )
    settings = tuple(sorted((key, value) for key, value in os.environ.items() if key.upper().startswith(_VARIABLES)))
    return _client(url.root, url.scheme, settings)


@functools.lru_cache(maxsize=64)
def _client(root: str, scheme: str, settings: tuple[tuple[str, str], ...]) -> Any:
    try:
        from obstore.store import GCSStore, HTTPStore, S3Store
    except ImportError as error:
        raise UserError(f"{root} needs the package obstore; install viscy-train[remote]") from error
    global _clients_made
    _clients_made = True
    limit = timedelta(seconds=seconds())
    is_plain = root.startswith("http:") or endpoint().startswith("http:") or scheme == "gs"
    options: dict[str, Any] = {
        # A transfer takes as long as it needs, if only bytes arrive.
        "client_options": {
            "allow_http": is_plain,
            "connect_timeout": limit,
            "read_timeout": limit,
            "timeout": timedelta(days=1),
        },
        "retry_config": {"max_retries": N_RETRIES, "retry_timeout": 2 * limit},
    }
    try:
        if scheme == "s3":
            return S3Store(root.removeprefix("s3://"), **options)
        return GCSStore(root.removeprefix("gs://"), **options) if scheme == "gs" else HTTPStore(root, **options)
    except Exception as error:  # many types, for variables of the environment
        raise UserError(f"cannot read {root}: {' '.join(str(error).split())}; correct the environment") from error


def endpoint() -> str:
    """Return the address of the S3 service that the environment states, or an empty text for that of Amazon."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def is_anonymous() -> bool:
    """Return whether the environment states that requests to S3 are not signed."""
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("true", "1", "yes", "on")


def facts(url: Url) -> ObjectFacts:
    """Return what is known of an object.

    Raises
    ------
    FileNotFoundError
        If there is none.
    UserError
        If the server refuses or fails.
    """
    import_of(url)
    import obstore

    if not url.key and url.can_list:
        raise FileNotFoundError(str(url))
    return _facts(_repeat(lambda: obstore.head(client(url), url.key), url))


def read(url: Url, start: int = 0, length: int | None = None) -> bytes:
    """Return the bytes of an object, or a range of them; raises like `facts`."""
    import_of(url)
    import obstore

    if length is None:
        return _repeat(lambda: bytes(obstore.get(client(url), url.key).bytes()), url)
    return _repeat(lambda: bytes(obstore.get_range(client(url), url.key, start=start, length=length)), url)


def save(url: Url, path: str) -> None:
    """Write an object to a local file; raises like `facts`, and `OSError` if the file cannot be written."""
    import_of(url)
    import obstore

    def transfer() -> None:
        with open(path, "wb") as file:
            for part in obstore.get(client(url), url.key).stream(min_chunk_size=2**23):
                file.write(part)

    _repeat(transfer, url)


def list_directory(url: Url) -> Listing:
    """Return what is directly below a path; nothing if the path does not exist.

    Raises
    ------
    UserError
        If the server fails, or cannot list.
    """
    import_of(url)
    import obstore

    _require_listing(url)
    found = _repeat(lambda: obstore.list_with_delimiter(client(url), url.key or None), url)
    objects = {_name(one["path"]): _facts(one) for one in found["objects"] if one["path"] != url.key}
    return Listing(objects, [_name(path) for path in found["common_prefixes"]])


def list_below(url: Url) -> dict[str, ObjectFacts]:
    """Return all objects below a path, by their path relative to it; raises like `list_directory`."""
    import_of(url)
    import obstore

    _require_listing(url)

    def collect() -> Iterator[Any]:
        for batch in obstore.list(client(url), f"{url.key}/" if url.key else None):
            yield from batch

    below = f"{url.key}/" if url.key else ""
    found = {one["path"].removeprefix(below): _facts(one) for one in _repeat(lambda: list(collect()), url)}
    # Consoles of clouds mark a directory with an empty object, whose name ends with a slash that the client removes.
    empty = {name for name, one in found.items() if not one.size}
    if empty:
        directories = {name[: at.start()] for name in found for at in re.finditer("/", name)} | {url.key}
        for name in empty & directories:
            del found[name]
    return found


def import_of(url: Url) -> None:
    """Import obstore, or say how to install it."""
    client(url)


def _require_listing(url: Url) -> None:
    if not url.can_list:
        raise UserError(
            f"a web server does not list its directories, got {url}; name a plate or image with metadata of its own, "
            "or one file with the tracks of all positions"
        )


def _facts(found: Any) -> ObjectFacts:
    return ObjectFacts(found["size"], f"{found['e_tag']} {found['last_modified']}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


async def repeat_async[T](transfer: Callable[[], Awaitable[T]], url: Url) -> T:
    """Return the result of a transfer, which starts again like those of the functions above.

    Raises
    ------
    UserError
        If the server refuses or fails.
    """
    for attempt in range(1, _N_ATTEMPTS + 1):
        try:
            return await transfer()
        except (OSError, UserError):
            raise
        except Exception as error:
            if attempt == _N_ATTEMPTS or not _may_repeat(error):
                raise explain(error, url) from error
            await asyncio.sleep(_pause(attempt))
    raise AssertionError("unreachable")


def _repeat[T](transfer: Callable[[], T], url: Url) -> T:
    """Return the result of a transfer, which starts again if it was cut where the client cannot continue it."""
    for attempt in range(1, _N_ATTEMPTS + 1):
        try:
            return transfer()
        except (OSError, UserError):
            raise
        except Exception as error:
            if attempt == _N_ATTEMPTS or not _may_repeat(error):
                raise explain(error, url) from error
            time.sleep(_pause(attempt))
    raise AssertionError("unreachable")


def _pause(attempt: int) -> float:
    return 0.1 * 2**attempt


def _may_repeat(error: Exception) -> bool:
    """Return whether a transfer may succeed if it starts again: not if its request was refused, or repeated before."""
    return type(error).__name__ == "GenericError" and "max_retries" not in str(error).partition("\n\nDebug source")[0]


def _after_fork() -> None:
    global _is_forked
    _is_forked = _is_forked or _clients_made


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
