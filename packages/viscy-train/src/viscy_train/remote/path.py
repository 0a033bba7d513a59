"""Remote path: a file or directory at a URL, with those methods of `pathlib.Path` that readers use.

A directory of an object store is what names of objects have in common. Web servers do not list directories, so there a
directory is what has metadata of zarr, or a URL that ends with a slash.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import posixpath
import stat
import time
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from viscy_train.errors import UserError
from viscy_train.remote.copies import copy_directory, copy_object
from viscy_train.remote.failures import AccessDeniedError
from viscy_train.remote.object_store import Listing, ObjectFacts, facts, list_below, list_directory, read
from viscy_train.remote.url import Url, is_url, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_SECONDS = 30  # how long what a directory contains is taken for unchanged


class Status(NamedTuple):
    """The part of `os.stat_result` that readers use."""

    st_mode: int
    st_size: int
    st_mtime_ns: int


class RemotePath:
    """A file or directory at a URL, for reading.

    Parameters
    ----------
    url : str
        The URL, see `viscy_train.remote.url.parse_url`.
    known : ObjectFacts, optional
        What a listing has said of the file.
    """

    def __init__(self, url: str, known: ObjectFacts | None = None) -> None:
        self.url = parse_url(url)
        self._known = known

    def __str__(self) -> str:
        return str(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (str(self), self._known)

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:
        text = os.fspath(name)
        if is_url(text) or os.path.isabs(text):
            return as_path(text)
        key = posixpath.normpath(f"/{self.url.key}/{text}").strip("/")
        return as_path(str(self.url._replace(key=key, is_marked=False)) + ("/" if text.endswith("/") else ""))

    def __fspath__(self) -> str:
        """Return the name of a local copy, for libraries that read files."""
        if not self._known and self.is_dir():
            return copy_directory(self.url)
        return copy_object(self.url, self._known or facts(self.url))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, such as ``.csv``."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket or web server, and the names below it."""
        return (self.url.root, *filter(None, self.url.key.split("/")))

    @property
    def parent(self) -> Path:
        """The directory that contains it."""
        return _path(self.url._replace(key=self.url.key.rpartition("/")[0], is_marked=not self.url.can_list))

    @property
    def parents(self) -> list[Path]:
        """All directories that contain it, the nearest first."""
        keys = self.url.key.split("/") if self.url.key else []
        marked = not self.url.can_list
        return [_path(self.url._replace(key="/".join(keys[:n]), is_marked=marked)) for n in reversed(range(len(keys)))]

    def with_name(self, name: str) -> Path:
        """Return the path with another name."""
        return self.parent / name

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        """Return the path as seen from a directory that contains it."""
        return PurePosixPath("/", self.url.key).relative_to(PurePosixPath("/", other.url.key))

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def absolute(self) -> RemotePath:
        """Return the path itself."""
        return self

    def resolve(self) -> RemotePath:
        """Return the path itself, because there are no symbolic links."""
        return self

    def expanduser(self) -> RemotePath:
        """Return the path itself."""
        return self

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def stat(self) -> Status:
        """Return type and size.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        UserError
            If the server refuses or fails.
        """
        if self._known:
            return Status(stat.S_IFREG, self._known.size, 0)
        if self.url.can_list:
            return self._status_in_bucket()
        if self.url.is_marked or contains_any(cast("Path", self), _ZARR):
            return Status(stat.S_IFDIR, 0, 0)
        return Status(stat.S_IFREG, facts(self.url).size, 0)

    def _status_in_bucket(self) -> Status:
        try:
            return Status(stat.S_IFREG, facts(self.url).size, 0)
        except FileNotFoundError:
            listing = _listing(self.url, _period())
            if not (listing.objects or listing.directories):
                raise
        return Status(stat.S_IFDIR, 0, _period())

    def exists(self) -> bool:
        """Return whether there is a file or directory."""
        return self._mode() != 0

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return stat.S_ISREG(self._mode())

    def is_dir(self) -> bool:
        """Return whether it is a directory."""
        return stat.S_ISDIR(self._mode())

    def _mode(self) -> int:
        try:
            return self.stat().st_mode
        except FileNotFoundError:
            return 0

    def iterdir(self) -> Iterator[Path]:
        """Return what a directory contains, without further requests for the files in it.

        Raises
        ------
        UserError
            If the server fails, or does not list directories.
        """
        listing = _listing(self.url, _period())
        yield from (self / name for name in listing.directories)
        yield from (self._child(name, known) for name, known in listing.objects.items())

    def glob(self, pattern: str) -> Iterator[Path]:
        """Return what a directory contains whose name fits a pattern without slashes."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[Path]:
        """Return the files below a directory whose name fits a pattern without slashes."""
        found = list_below(self.url)
        return (self._child(key, one) for key, one in found.items() if fnmatchcase(posixpath.basename(key), pattern))

    def _child(self, name: str, known: ObjectFacts) -> Path:
        url = self.url._replace(key=f"{self.url.key}/{name}".strip("/"), is_marked=False)
        return cast("Path", RemotePath(str(url), known))

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Open a local copy for reading, with the options of `open`."""
        if set(mode) & set("wax+"):
            raise io.UnsupportedOperation(f"{self} can only be read")
        if not self._known and self.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        return open(self, mode, **options)

    def read_bytes(self) -> bytes:
        """Return the content."""
        return read(self.url)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content as text, with line ends as Python reads them."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding=encoding).read()


def as_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a configuration names.

    Parameters
    ----------
    text : str or path
        Name of a local file or directory, or a URL.

    Returns
    -------
    pathlib.Path
        A `RemotePath` for a URL, which has those methods of `pathlib.Path` that readers use.

    Raises
    ------
    UserError
        If the URL is not supported.
    """
    if isinstance(text, RemotePath):
        return cast("Path", text)
    name = os.fspath(text)
    return cast("Path", RemotePath(name)) if is_url(name) else Path(name)


def local_path(text: str | os.PathLike[str], option: str) -> Path:
    """Return the path of what is written, which must be on a local file system.

    Parameters
    ----------
    text : str or path
        The path.
    option : str
        What the message calls it.

    Raises
    ------
    UserError
        If it is a URL.
    """
    path = as_path(text)
    if is_remote(path):
        raise UserError(f"{option} must be a local path, because only reading is possible at a URL, got {path}")
    return path


def is_remote(path: object) -> bool:
    """Return whether a path is one of a URL."""
    return isinstance(path, RemotePath)


def can_list(path: object) -> bool:
    """Return whether a path is in a file system or object store, which list what a directory contains."""
    return not isinstance(path, RemotePath) or path.url.can_list


def contains_any(path: Path, names: tuple[str, ...]) -> bool:
    """Return whether a directory contains one of some files."""
    if isinstance(path, RemotePath) and not path.url.can_list:
        return any(_exists(path.url, name) for name in names)
    return any((path / name).exists() for name in names)


def _path(url: Url) -> Path:
    return cast("Path", RemotePath(str(url)))


def _exists(url: Url, name: str) -> bool:
    try:
        facts(url._replace(key=f"{url.key}/{name}".strip("/")))
    except (FileNotFoundError, AccessDeniedError):  # what cannot be listed may not say that a file does not exist
        return False
    return True


def _period() -> int:
    return int(time.monotonic() // _SECONDS)


@functools.lru_cache(maxsize=256)
def _listing(url: Url, period: int) -> Listing:
    return list_directory(url)
