"""The cache returns a stored value or nothing, whatever happens to its file, and processes can share it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacheck.errors import OutputError
from datacheck.gate.cache import STORE_NAME, Cache, default_folder


def put(folder: Path, **values: object) -> None:
    with Cache(folder) as cache:
        for key, value in values.items():
            cache.put(key, value)


def got(folder: Path, *keys: str) -> dict[str, object]:
    with Cache(folder) as cache:
        return cache.get(keys)


def test_values_are_there_for_the_next_process(tmp_path: Path) -> None:
    put(tmp_path, a={"n": [1, None, "\udc80"]}, b=2)
    assert got(tmp_path, "a", "b", "c", "a") == {"a": {"n": [1, None, "\udc80"]}, "b": 2}
    put(tmp_path, b=3)
    assert got(tmp_path, "b") == {"b": 3}


def test_more_keys_than_fit_in_one_query(tmp_path: Path) -> None:
    values = {f"key{number}": number for number in range(1201)}
    put(tmp_path, **values)
    assert got(tmp_path, *values) == values


@pytest.mark.parametrize(
    "content", [b"", b"not a database", b"SQLite format 3\0" + b"\xff" * 4096, b"\0" * 8192], ids=["0", "1", "2", "3"]
)
def test_a_file_that_is_not_a_store_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STORE_NAME).write_bytes(content)
    assert got(tmp_path, "a") == {}
    put(tmp_path, a=1)
    assert got(tmp_path, "a") == {"a": 1}


def test_a_store_with_other_tables_is_replaced(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / STORE_NAME) as store:
        store.execute("CREATE TABLE entries (name TEXT)")
    store.close()
    assert got(tmp_path, "a") == {}
    put(tmp_path, a=1)
    assert got(tmp_path, "a") == {"a": 1}


@pytest.mark.parametrize(
    "change",
    ["value = '2'", "key = 'b'", "proof = ''", "proof = zeroblob(32)", "value = x'ff'", "value = CAST(x'ff' AS TEXT)"],
)
def test_a_tampered_entry_is_ignored(tmp_path: Path, change: str) -> None:
    put(tmp_path, a=1)
    with sqlite3.connect(tmp_path / STORE_NAME) as store:
        store.execute(f"UPDATE entries SET {change}")
    store.close()
    assert got(tmp_path, "a", "b") == {}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_the_file_changes_a_value(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / STORE_NAME
    path.unlink(missing_ok=True)
    values = {f"key{number}": {"number": number, "text": "x" * 40} for number in range(60)}
    put(tmp_path, **values)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content)), "at") :]
    for _ in range(data.draw(st.integers(1, 40), "changes")):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found = got(tmp_path, *values)
    assert {key: values[key] for key in found} == found
    put(tmp_path, again=1)
    assert got(tmp_path, "again") == {"again": 1}


def test_a_store_with_a_corrupt_schema_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, a=1)
    path = tmp_path / STORE_NAME
    # The error message of SQLite is then not valid text either.
    path.write_bytes(path.read_bytes().replace(b"key TEXT PRIMARY", b"k\xf4y TEXT(PRIMARY"))
    assert got(tmp_path, "a") == {}
    put(tmp_path, b=2)
    assert got(tmp_path, "b") == {"b": 2}


def test_a_locked_store_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.gate.cache._LOCK_SECONDS", 0.05)
    put(tmp_path, a=1)
    with sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert got(tmp_path, "a") == {}
        put(tmp_path, b=2)
        other.execute("ROLLBACK")
    other.close()
    assert got(tmp_path, "a", "b") == {"a": 1}


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=put, args=(tmp_path,), kwargs={f"k{n}": n}) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got(tmp_path, *(f"k{n}" for n in range(12))) == {f"k{n}": n for n in range(12)}


WRITER = """
import sys
from datacheck.gate.cache import Cache
number = 0
while True:
    with Cache(sys.argv[1]) as cache:
        for key in range(50):
            cache.put(f"{key}", {"key": key, "number": number})
    number += 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3])
def test_a_killed_writer_leaves_only_valid_entries(tmp_path: Path, lines: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(lines):
        writer.stdout.readline()
    writer.kill()
    writer.wait()
    writer.stdout.close()
    found = got(tmp_path, *(f"{key}" for key in range(50)))
    assert all(isinstance(value, dict) and str(value["key"]) == key for key, value in found.items())
    assert len({value["number"] for value in found.values() if isinstance(value, dict)}) == 1


def test_unused_entries_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86400.0
    monkeypatch.setattr("datacheck.gate.cache.time.time", lambda: 1000 * day)
    put(tmp_path, used=1, unused=2)
    monkeypatch.setattr("datacheck.gate.cache.time.time", lambda: 1060 * day)
    assert got(tmp_path, "used") == {"used": 1}
    monkeypatch.setattr("datacheck.gate.cache.time.time", lambda: 1095 * day)
    put(tmp_path, other=3)
    assert got(tmp_path, "used", "unused") == {"used": 1}


def test_without_a_cache_folder_nothing_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with Cache() as cache:
        cache.put("a", 1)
    with Cache() as cache:
        assert cache.get(["a"]) == {}


def test_a_given_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold the cache: Not a directory; choose another folder"):
        Cache(tmp_path / "file" / "inside")


@pytest.mark.parametrize(
    ("xdg", "home", "expected"),
    [
        ("/c", "/home/u", "/c/datacheck"),
        ("c", "/home/u", "/home/u/.cache/datacheck"),
        (None, "/h", "/h/.cache/datacheck"),
    ],
)
def test_the_default_folder_follows_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, xdg: str | None, home: str, expected: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("sys.platform", "linux")
    assert default_folder() == Path(expected)


def test_the_store_holds_only_json(tmp_path: Path) -> None:
    put(tmp_path, a={"x": 1})
    with sqlite3.connect(tmp_path / STORE_NAME) as store:
        ((value,),) = store.execute("SELECT value FROM entries").fetchall()
    store.close()
    assert json.loads(value) == {"x": 1}


def test_entries_of_a_folder_that_others_can_write_to_are_believed_only_if_this_user_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    put(shared, a=1)
    assert got(shared, "a") == {"a": 1}
    assert (tmp_path / "mine" / "datacheck" / "cache-key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "someone else's"))
    assert got(shared, "a") == {}


def test_a_folder_of_this_user_alone_needs_no_key_so_that_it_can_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    put(own, a=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert got(own, "a") == {"a": 1}
    own.chmod(0o777)
    assert got(own, "a") == {}


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    put(shared, a=1)
    (tmp_path / "mine" / "datacheck" / "cache-key").chmod(0o644)
    assert got(shared, "a") == {}
