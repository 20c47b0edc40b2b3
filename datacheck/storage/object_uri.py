"""URIs of objects, and the secrets in them: signed URLs are read, and never printed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from datacheck.errors import UsageError
from datacheck.text import HIDDEN, redacted

_SERVICES = {
    "s3": ("bucket", "S3"),
    "gs": ("bucket", "Google Cloud Storage"),
    "az": ("container", "Azure Blob Storage"),
    "http": ("server", "the web server"),
    "https": ("server", "the web server"),
}
#: The schemes of object stores and web servers.
OBJECT_SCHEMES = tuple(_SERVICES)

#: URIs with secrets by the URI without: a variable of the environment, which worker processes inherit.
_VARIABLE = "_DATACHECK_SIGNED_URLS"


def hide_secrets(uri: str) -> str:
    """A URI as it may be printed. In this process it still opens what the given one opens."""
    shown = redacted(uri)
    if shown != uri:
        os.environ[_VARIABLE] = json.dumps({**_signed(), shown: uri})
    return shown


def _signed() -> dict[str, str]:
    signed: dict[str, str] = json.loads(os.environ.get(_VARIABLE) or "{}")
    return signed


@dataclass(frozen=True, slots=True)
class ObjectUri:
    """Where objects are: a bucket, a container or a web server. ``bucket`` of a server is its URL."""

    scheme: str
    bucket: str

    @property
    def is_web(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def is_file(self) -> bool:
        """Whether it is the URL of one file, with a query."""
        return self.is_web and "?" in self.bucket

    @property
    def what(self) -> str:
        """``bucket``, ``container`` or ``server``."""
        return _SERVICES[self.scheme][0]

    @property
    def service(self) -> str:
        """The name of the service, for messages."""
        name = _SERVICES[self.scheme][1]
        return f"{name} {redacted(self.bucket)}" if self.is_web else name

    def uri_of(self, key: str) -> str:
        """The URI of an object, without secrets."""
        if self.is_web:
            return redacted(f"{self.bucket}/{key}" if key else self.bucket)
        return f"{self.scheme}://{self.bucket}/{key}"


def split_uri(uri: str) -> tuple[ObjectUri, str]:
    """Where an object is, and its key; raises ``UsageError`` for a URI without a bucket, or with credentials."""
    scheme, _, rest = uri.partition("://")
    if scheme not in ("http", "https"):
        bucket, _, key = rest.partition("/")
        if "@" in bucket:
            problem = "credentials do not belong in a URI, which is printed; set them in the environment"
            raise UsageError(f"{redacted(uri)}: {problem}")
        if not bucket:
            raise UsageError(f"{uri}: expected {scheme}://{_SERVICES[scheme][0]}/key")
        return ObjectUri(scheme, bucket), key.strip("/")
    if HIDDEN in uri:
        uri = _signed().get(uri, uri)
    parts = urlsplit(uri)
    if not parts.netloc:
        raise UsageError(f"{redacted(uri)}: expected {scheme}://host/path")
    if parts.query:
        return ObjectUri(scheme, uri), ""
    return ObjectUri(scheme, f"{scheme}://{parts.netloc}"), unquote(parts.path).strip("/")
