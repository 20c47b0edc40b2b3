"""A server of S3 on loopback, for the tests of object stores."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_servers import free_port, serving

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


class Bucket:
    """A bucket of its own, seen past datacheck."""

    def __init__(self, client: Any, name: str, endpoint: str) -> None:
        self.client, self.name, self.endpoint = client, name, endpoint
        client.create_bucket(Bucket=name)

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    @property
    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    @property
    def objects(self) -> dict[str, bytes]:
        return {key: self.get(key) for key in self.keys}

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def below(self, prefix: str) -> dict[str, bytes]:
        """The objects below a prefix, which their names are without."""
        return {key.removeprefix(prefix): self.get(key) for key in self.keys if key.startswith(prefix)}

    def replace(self, prefix: str, objects: dict[str, bytes]) -> None:
        """Put these objects below a prefix, instead of what is there."""
        if old := [{"Key": key} for key in self.keys if key.startswith(prefix)]:
            self.client.delete_objects(Bucket=self.name, Delete={"Objects": old})
        for name, content in objects.items():
            self.put(f"{prefix}{name}", content)

    def upload(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of a server of S3."""
    pytest.importorskip("moto")
    port = free_port()
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, port) as url:
        yield url


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, with the environment that opens it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    import boto3

    return Bucket(boto3.client("s3", endpoint_url=s3_endpoint), f"bucket-{uuid.uuid4().hex[:12]}", s3_endpoint)
