"""The client of each bucket; in a forked process, one in a process of its own.

obstore runs threads of its own, and a fork does not have them: a forked process that uses it waits for ever. The workers of
a PyTorch ``DataLoader`` are forked. Where the parent has used obstore, such a process therefore starts a helper, a new
process that makes its requests.
"""

from __future__ import annotations

import functools
import sys
import threading

from datacheck.storage.object_client import ObjectClient
from datacheck.storage.object_uri import ObjectUri, split_uri
from datacheck.storage.os_calls import run_in_forks

_lock = threading.Lock()
_is_fork = False


def client_of(uri: str) -> tuple[ObjectClient, str]:
    """The client of the bucket that holds an object, and the object's key."""
    place, key = split_uri(uri)
    if _is_fork:
        from datacheck.storage.fork_helper import helper_client

        return helper_client(place), key
    with _lock:
        return _client(place), key


@functools.lru_cache(maxsize=256)
def _client(place: ObjectUri) -> ObjectClient:
    return ObjectClient(place)


def _after_fork() -> None:
    global _is_fork, _lock
    _lock = threading.Lock()
    # Where the parent did not use obstore, the fork may.
    _is_fork = _is_fork or "obstore" in sys.modules


run_in_forks(_after_fork)
