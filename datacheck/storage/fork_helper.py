"""A process that makes requests to object stores for a forked process, in which obstore does not work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

from datacheck.storage.base import StoreError
from datacheck.storage.object_client import ObjectClient, ObjectMeta
from datacheck.storage.object_uri import ObjectUri
from datacheck.storage.os_calls import run_in_forks

_START = "import sys; from datacheck.storage.fork_helper import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"


class _Helper:
    """The helper of this process, which ends when this process does."""

    def __init__(self) -> None:
        requests_read, requests_write = os.pipe()
        answers_read, answers_write = os.pipe()
        self._lock = threading.Lock()
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)  # noqa: PTH109
        # Never waited for: it ends when its pipe does, and init reaps it.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(requests_read), str(answers_write)],
            pass_fds=(requests_read, answers_write),
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(requests_read)
        os.close(answers_write)
        self._requests = Connection(requests_write, readable=False)
        self._answers = Connection(answers_read, writable=False)

    def ask(self, place: ObjectUri, name: str, *arguments: Any, **keywords: Any) -> Any:
        with self._lock:
            try:
                self._requests.send((place, name, arguments, keywords))
                is_error, value = self._answers.recv()
            except (EOFError, OSError) as error:
                raise StoreError(None, f"the helper process for object stores ended ({error})") from None
        if is_error:
            raise value
        return value

    def leave(self) -> None:
        """Close the ends of the pipes that a fork of this process has inherited."""
        self._requests.close()
        self._answers.close()


_helper: _Helper | None = None
_start_lock = threading.Lock()


class _Forwarding:
    """An ``ObjectClient`` whose requests are made by the helper."""

    def __init__(self, place: ObjectUri) -> None:
        self.place = place

    def __getattr__(self, name: str) -> Any:
        return partial(_ask, self.place, name)

    def put(self, key: str, content: Any, *arguments: Any, **keywords: Any) -> ObjectMeta:
        whole = content if isinstance(content, bytes) else content.read()
        return cast(ObjectMeta, _ask(self.place, "put", key, whole, *arguments, **keywords))


def helper_client(place: ObjectUri) -> ObjectClient:
    """The client of a bucket for this forked process; its first request starts the helper."""
    return cast(ObjectClient, _Forwarding(place))


def _ask(place: ObjectUri, name: str, *arguments: Any, **keywords: Any) -> Any:
    global _helper
    with _start_lock:
        if _helper is None:
            _helper = _Helper()
    return _helper.ask(place, name, *arguments, **keywords)


def serve(requests: int, answers: int) -> None:
    """Answer requests until the process that makes them ends."""
    received, sent = Connection(requests, writable=False), Connection(answers, readable=False)
    clients: dict[ObjectUri, ObjectClient] = {}
    while True:
        try:
            place, name, arguments, keywords = received.recv()
        except EOFError:
            return
        try:
            client = clients.get(place) or clients.setdefault(place, ObjectClient(place))
            answer = False, getattr(client, name)(*arguments, **keywords)
        except Exception as error:
            answer = True, error
        try:
            sent.send(answer)
        except BrokenPipeError:
            return


def _after_fork() -> None:
    global _helper, _start_lock
    _start_lock = threading.Lock()
    if _helper is not None:
        _helper.leave()
        _helper = None


run_in_forks(_after_fork)
