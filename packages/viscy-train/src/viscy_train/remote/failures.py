"""Failures: what the errors of an object store or web server mean, in one line with the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from viscy_train.remote.url import Url

_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true if it is public",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or GOOGLE_SKIP_SIGNATURE=true if it is public",
}
_ENDPOINT = {
    "s3": "check the network, AWS_ENDPOINT_URL and AWS_REGION",
    "gs": "check the network",
}
_DENIED = re.compile(r"status code: 40[13]|AccessDenied|Signature|InvalidAccessKeyId|Unauthenticated|PermissionDenied")
# Without credentials, clients ask the services that give them to machines in a cloud.
_NO_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|credential", re.IGNORECASE)
_REGION = re.compile(r"status code: 301|PermanentRedirect|AuthorizationHeaderMalformed|without LOCATION")
_BUCKET = re.compile(r"NoSuchBucket|specified bucket does not exist", re.IGNORECASE)


class AccessDeniedError(UserError):
    """A server refuses to send a file; some do so for a file that does not exist."""


def explain(error: Exception, url: Url) -> UserError:
    """Return the error to show to a user.

    Parameters
    ----------
    error : Exception
        Error of a library.
    url : Url
        What was read.

    Returns
    -------
    UserError
        One line with the URL, the reason and the remedy.
    """
    text = reason(error)
    kind = f"{type(error).__name__} {_without_names(_message(error), url)}"
    if _BUCKET.search(kind):
        return UserError(f"no such bucket: {url.host} of {url}; correct the URL{_or_endpoint(url)}")
    if _NO_CREDENTIALS.search(kind) or _DENIED.search(kind):
        remedy = _CREDENTIALS.get(url.scheme, "name a URL that exists and can be read without a password")
        return AccessDeniedError(f"access denied to {url}; {remedy}")
    if url.scheme == "s3" and _REGION.search(kind):
        return UserError(f"cannot read {url}, because its bucket is in another region; set AWS_REGION ({text})")
    remedy = _ENDPOINT.get(url.scheme, "check the network and the URL")
    return UserError(f"cannot read {url}: {text}; {remedy}, and run the command again")


def reason(error: Exception) -> str:
    """Return the message of an error on one line, without what its library adds for its developers."""
    text = re.sub(r"<(\?xml|Error>).*", "", _message(error), flags=re.DOTALL)  # may contain a key
    return " ".join(text.split()).rstrip(" :") or type(error).__name__


def _message(error: Exception) -> str:
    return str(error).partition("\n\nDebug source")[0].partition(" [tensorstore_spec=")[0]


def _without_names(message: str, url: Url) -> str:
    """Return a message without the name of the object, which could contain the words that state a reason."""
    for name in filter(None, {url.key, quote(url.key)}):
        message = message.replace(name, "")
    return message


def _or_endpoint(url: Url) -> str:
    return ", or AWS_ENDPOINT_URL" if url.scheme == "s3" else ""
