"""URL: the address of a file or directory in an object store or on a web server."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from viscy_train.errors import UserError

SCHEMES = ("s3", "gs", "http", "https")
_URL = re.compile(r"(\w[\w+.-]*)://(.*)", re.DOTALL)
_SECRETS = re.compile(r"(?<=://)[^/]*@|(?<=[?#]).*", re.DOTALL)  # a password, and a query, which can be a signature


class Url(NamedTuple):
    """The parts of a URL.

    Parameters
    ----------
    root : str
        What one connection serves, such as ``s3://bucket`` or ``https://example.org``.
    key : str
        Path below it, without slashes at its ends. Names of web servers are not quoted here.
    is_marked : bool
        Whether the URL ends with a slash, by which a directory of a web server is recognized.
    """

    root: str
    key: str
    is_marked: bool

    @property
    def scheme(self) -> str:
        """The scheme, one of `SCHEMES`."""
        return self.root.partition(":")[0]

    @property
    def host(self) -> str:
        """The bucket, or the host and port of a web server."""
        return self.root.partition("://")[2]

    @property
    def can_list(self) -> bool:
        """Whether it can be asked what a directory contains."""
        return self.scheme in ("s3", "gs")

    def __str__(self) -> str:
        key = self.key if self.can_list else re.sub("[%?#]", lambda found: quote(found[0]), self.key)
        return f"{self.root}/{key}".rstrip("/") + ("/" if self.is_marked else "")


def is_url(text: str) -> bool:
    """Return whether a text is a URL, of whatever scheme."""
    return _URL.match(text) is not None


def parse_url(text: str) -> Url:
    """Return the parts of a URL.

    Raises
    ------
    UserError
        If its scheme is not supported, or it has no bucket or host, or it has a query.
    """
    match = _URL.fullmatch(text)
    shown = _SECRETS.sub("...", text)
    scheme, rest = (match[1].lower(), match[2]) if match else ("", "")
    if scheme not in SCHEMES:
        raise UserError(f"a URL must begin with {', '.join(f'{one}://' for one in SCHEMES)}, got {shown}")
    host, _, key = rest.partition("/")
    if not host or "@" in host:
        raise UserError(f"a URL must have a bucket or a host, and no password, got {shown}")
    is_web = scheme.startswith("http")
    if is_web and re.search("[?#]", key):
        raise UserError(f"a URL must have no query, because names are appended to it, got {shown}")
    parts = posixpath.normpath("/" + (unquote(key) if is_web else key)).strip("/")
    return Url(f"{scheme}://{host}", parts, is_marked=is_web and (not parts or key.endswith("/")))
