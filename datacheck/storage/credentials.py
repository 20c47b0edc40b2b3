"""How each store is opened: with the environment variables that its own tools use, and never with a secret in a message."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacheck.errors import UsageError
from datacheck.storage.object_uri import ObjectUri

if TYPE_CHECKING:
    from obstore.store import ObjectStore


_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to open a store, and where its credentials come from."""

    open: Callable[[Mapping[str, Any], Mapping[str, Any]], ObjectStore]
    credentials_hint: str


def store_options(place: ObjectUri) -> StoreOptions:
    """How to open the store of a bucket; raises ``UsageError`` where obstore is not installed."""
    return {"s3": _s3, "gs": _gs, "az": _az, "http": _web, "https": _web}[place.scheme](place)


def _stores() -> Any:
    try:
        import obstore.store
    except ImportError:
        raise UsageError(
            "obstore is required for object stores, and is not installed; install it with: pip install 'datacheck-ml[cloud]'"
        ) from None
    return obstore.store


def _opener(
    place: ObjectUri,
    kind: str,
    is_plain: Callable[[], bool] = lambda: True,
    more: Callable[[], Mapping[str, str]] = dict,
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], ObjectStore]:
    """Opens a store of a class of obstore. ``is_plain``: whether it may be reached by http, as stand-ins are."""

    def open_store(client: Mapping[str, Any], retries: Mapping[str, Any]) -> ObjectStore:
        options = {**client, "allow_http": True} if is_plain() else {**client}
        opened: ObjectStore = getattr(_stores(), kind)(
            place.bucket, client_options=options, retry_config=retries, **more()
        )
        return opened

    return open_store


def _first_of(*names: str) -> str:
    """The first of some environment variables that is set."""
    return next((os.environ[name] for name in names if name in os.environ), "")


def _s3(place: ObjectUri) -> StoreOptions:
    def is_plain() -> bool:
        return _first_of(*_S3_ENDPOINTS).startswith("http://")

    hint = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role of the machine;"
        " for a public bucket AWS_SKIP_SIGNATURE=true; check AWS_REGION"
    )
    return StoreOptions(_opener(place, "S3Store", is_plain, lambda: _aws_profile(os.environ)), hint)


def _aws_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """Keys and region of a profile in ~/.aws, which obstore does not read, where the environment has no keys."""
    sources = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if any(environment.get(name) for name in sources):
        return {}
    profile = environment.get("AWS_PROFILE", "default")
    home = Path(environment.get("HOME", "~")).expanduser() / ".aws"
    found: dict[str, str] = {}
    for variable, name, section in (
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile),
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}"),
    ):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(environment.get(variable) or home / name, encoding="utf-8")
        except (configparser.Error, OSError, ValueError):
            continue
        if parser.has_section(section):
            found = {**dict(parser.items(section)), **found}
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
        "endpoint_url": "endpoint",
    }
    if "AWS_PROFILE" in environment and "aws_access_key_id" not in found:
        raise UsageError(
            f"the profile {profile!r} (AWS_PROFILE) has no access key in ~/.aws/credentials; export its credentials with"
            f" 'aws configure export-credentials --profile {profile} --format env'"
        )
    has_region = "AWS_REGION" in environment or "AWS_DEFAULT_REGION" in environment
    has_endpoint = any(name in environment for name in _S3_ENDPOINTS)
    known = {"region": has_region, "endpoint_url": has_endpoint}
    return {new: found[old] for old, new in names.items() if old in found and not known.get(old)}


def _gs(place: ObjectUri) -> StoreOptions:
    hint = (
        "set GOOGLE_APPLICATION_CREDENTIALS, log in with 'gcloud auth application-default login', or give the machine a"
        " service account; for a public bucket set GOOGLE_SKIP_SIGNATURE=true"
    )
    # Google's own address is https in any case.
    return StoreOptions(_opener(place, "GCSStore"), hint)


def _az(place: ObjectUri) -> StoreOptions:
    def is_plain() -> bool:
        is_emulator = os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true")
        return is_emulator or _first_of("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT").startswith("http://")

    hint = (
        "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID with"
        " AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or the identity of the machine)"
    )
    return StoreOptions(_opener(place, "AzureStore", is_plain), hint)


def _web(place: ObjectUri) -> StoreOptions:
    return StoreOptions(_opener(place, "HTTPStore"), "check that the URL is open to you, and has not expired")
