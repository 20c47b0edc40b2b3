"""Fixtures that several files of tests use."""

from __future__ import annotations

from s3_server import bucket, s3_endpoint

__all__ = ["bucket", "s3_endpoint"]
