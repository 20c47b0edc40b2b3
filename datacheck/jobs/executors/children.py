"""Child processes that do work on files which can crash a library. They end with their parent."""

from __future__ import annotations

import atexit
import io
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import IO, Any, cast

from datacheck.jobs.executors.interrupts import without_interrupts
from datacheck.sources.steps import num_steps
from datacheck.storage.os_calls import run_in_forks

_READY = b"ready\n"
#: A child that has nothing to do ends after this long; it is given nothing more some seconds before.
_IDLE_SECONDS, _USABLE_SECONDS = 20.0, 15.0
#: One that reads nothing for this long hangs in its library. It says now and then that it is at work.
_HUNG_SECONDS, _REPORTS = 300.0, 10
#: Starting one takes about a second: for this long, the next one to be free is waited for.
_PATIENCE_SECONDS = 1.0


class LostError(Exception):
    """A child ended before it answered."""


class HungError(LostError):
    """A child did nothing for too long, and was ended."""


class Child:
    """A child process that calls one function at a time."""

    def __init__(self) -> None:
        # Python ignores what is no text there.
        path = [folder for folder in sys.path if isinstance(folder, str)]
        code = f"import sys; sys.path[:] = {path!r}; from {__name__} import serve; serve()"
        with without_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        # Unbuffered, the pipe is a raw stream.
        self._answers = io.BufferedReader(cast(io.RawIOBase, self._process.stdout))
        self._function: bytes | None = None
        self.last_used = time.monotonic()

    def is_ready(self) -> bool:
        """Wait until it can be used; end it where it cannot. What is printed when Python starts comes before that."""
        is_ready = False
        try:
            is_ready = any(line.endswith(_READY) for line in self._answers)
        finally:
            if not is_ready:
                self.end()
        return is_ready

    def call(self, function: bytes, item: bytes) -> tuple[str, Any]:
        """How the call of a pickled function ended, and with what; raises ``LostError`` if the process ended."""
        assert self._process.stdin is not None
        # It still has the function of its last call.
        sent = None if function is self._function else function
        request = memoryview(pickle.dumps((sent, item, _Surroundings.now(), _HUNG_SECONDS / _REPORTS)))
        hung = threading.Event()
        try:
            while request:
                request = request[self._process.stdin.write(request) :]
            answer = self._next_answer(hung)
            while answer[0] == "at work":
                answer = self._next_answer(hung)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.end()
            raise (HungError if hung.is_set() else LostError) from None
        except BaseException:
            self.end()
            raise
        self._function, self.last_used = function, time.monotonic()
        return answer

    def _next_answer(self, hung: threading.Event) -> tuple[str, Any]:
        """What it says next; raises ``EOFError`` where it ended, or says nothing and is ended."""
        answered = threading.Event()

        def end_if_hung() -> None:
            # In short waits: time in which this process was stopped, as by Ctrl-Z, is not the child's.
            if not any(answered.wait(_HUNG_SECONDS / _REPORTS) for _ in range(_REPORTS)):
                hung.set()
                self._process.kill()

        threading.Thread(target=end_if_hung, daemon=True).start()
        try:
            answer: tuple[str, Any] = pickle.load(self._answers)  # noqa: S301 - it comes from our own process
        finally:
            answered.set()
        return answer

    def kill(self) -> None:
        """End the process while another thread waits for its answer."""
        self._process.kill()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        for stream in (self._process.stdin, self._answers):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        self._process.wait()

    def disown(self) -> None:
        """Leave the process to another process, the parent of this one."""
        self._process.returncode = 0


class _Children:
    """The child processes that were started and have nothing to do."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[Child] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._num_busy = 0
        # A program that was frozen starts itself, not an interpreter.
        self._is_possible = bool(sys.executable) and not getattr(sys, "frozen", False)

    def call(
        self, function: bytes, item: bytes, begun: Callable[[Child], AbstractContextManager[None]]
    ) -> tuple[str, Any]:
        """How a call in one of them ended, and with what; ``"unsent"`` where there is none. Raises ``LostError``."""
        child = self._take()
        if child is None:
            return "unsent", None
        try:
            with begun(child):
                answer = child.call(function, item)
            self._idle.put(child)
            return answer
        finally:
            with self._lock:
                self._num_busy -= 1

    def _take(self) -> Child | None:
        while True:
            try:
                child = self._idle.get(timeout=_PATIENCE_SECONDS if self._num_busy else 1e-3)
            except queue.Empty:
                return self._start()
            if time.monotonic() - child.last_used < _USABLE_SECONDS:
                with self._lock:
                    self._num_busy += 1
                return child
            child.end()

    def _start(self) -> Child | None:
        if not self._is_possible:
            return None
        with self._lock:
            self._num_busy += 1
        is_ready = False
        try:
            with suppress(OSError):
                child = Child()
                is_ready = child.is_ready()
                if is_ready:
                    return child
        finally:
            if not is_ready:
                with self._lock:
                    self._num_busy -= 1
        self._is_possible = False
        return None

    def end(self) -> None:
        """End all."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()

    def disown(self) -> None:
        """Leave all to the process that this one was forked from."""
        for child in self._idle.queue:
            child.disown()


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a child must have as its parent has it now, since paths are relative, and keys of stores in the environment."""

    folder: str
    environment: dict[str, str]
    path: list[str]

    @classmethod
    def now(cls) -> _Surroundings:
        try:
            folder = os.getcwd()  # noqa: PTH109 - it stays text
        except OSError:
            folder = ""
        return cls(folder, dict(os.environ), list(sys.path))

    def apply(self) -> None:
        if self.folder:
            os.chdir(self.folder)
        if self.environment != dict(os.environ):
            os.environ.clear()
            os.environ.update(self.environment)
        sys.path[:] = self.path


def serve() -> None:
    """Call the functions that the parent sends, until it ends or sends nothing for a while."""
    requests: queue.SimpleQueue[tuple[bytes | None, bytes, _Surroundings, float]] = queue.SimpleQueue()
    answers = _Answers(_take_output())
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    threading.Thread(target=answers.report, daemon=True).start()
    answers.write(_READY)
    function: bytes | None = None
    while True:
        try:
            sent, item, surroundings, answers.seconds = requests.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            os._exit(0)
        function = sent or function
        assert function is not None
        answers.write(_answer(function, item, surroundings))


class _Answers:
    """What a child says: its answers and, every few ``seconds`` in which something was read, that it is at work."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._lock = stream, threading.Lock()
        self.seconds = 1.0

    def write(self, answer: bytes) -> None:
        with self._lock:
            self._stream.write(answer)
            self._stream.flush()

    def report(self) -> None:
        before = num_steps()
        while True:
            time.sleep(self.seconds)
            if (now := num_steps()) != before:
                before = now
                self.write(pickle.dumps(("at work", None)))


def _take_output() -> IO[bytes]:
    """Standard output, for answers alone, and what libraries print about damaged files nowhere; Python may still warn."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere == 2:  # which was closed, and is no place for anything else
        nowhere = os.dup(nowhere)
    answers, errors = os.fdopen(os.dup(1), "wb"), os.dup(2)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.stderr = os.fdopen(errors, "w", buffering=1, errors="backslashreplace")
    return answers


def _receive(stream: IO[bytes], requests: queue.SimpleQueue[Any]) -> None:
    """Receive requests, and end this process with its parent, whatever it is doing."""
    try:
        while True:
            requests.put(pickle.load(stream))  # noqa: S301 - it comes from our own process
    finally:
        os._exit(1)


def _answer(function: bytes, item: bytes, surroundings: _Surroundings) -> bytes:
    try:
        surroundings.apply()
        call, argument = map(pickle.loads, (function, item))
    except Exception:  # of a module that only the parent can import: it does the work itself
        return pickle.dumps(("unsent", None))
    try:
        answer = "returned", call(argument)
    except Exception as error:  # it is the parent's to handle
        answer = "raised", error
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception:  # of a result that cannot travel
        return pickle.dumps(("unsent", None))


_children = _Children()


def call_in_child(
    function: bytes, item: bytes, begun: Callable[[Child], AbstractContextManager[None]]
) -> tuple[str, Any]:
    """How a pickled call ended in a child process, and with what; ``"unsent"`` where there is none. Raises ``LostError``."""
    return _children.call(function, item, begun)


def _forget() -> None:
    global _children, _disowned
    _children.disown()
    # Kept, or else it would be said of each that it is still running.
    _disowned, _children = _children, _Children()


_disowned: _Children | None = None
run_in_forks(_forget)
atexit.register(lambda: _children.end())
