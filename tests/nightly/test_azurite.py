"""Containers of Azure Blob Storage give what folders give, against Azurite. ``make test-nightly`` installs it."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table
from local_servers import free_port, serving

import datacheck
from datacheck.errors import OutputError, UsageError
from datacheck.storage import storage_of

#: The account that every Azurite has; the key is public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of blobs."""
    program = os.environ.get("AZURITE")
    if program is None:
        pytest.skip("AZURITE names no program; run 'make test-nightly'")
    port = free_port()
    options = {
        "--blobHost": "127.0.0.1",
        "--blobPort": str(port),
        "--location": str(tmp_path_factory.mktemp("azurite")),
    }
    command = [program, *(text for option in options.items() for text in option)]
    with serving([*command, "--skipApiVersionCheck", "--disableTelemetry", "--silent"], port) as url:
        yield url


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty container."""
    environment = {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": azurite,
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"container-{uuid.uuid4().hex[:8]}"
    create_container(azurite, name)
    return f"az://{name}"


def create_container(url: str, name: str) -> None:
    import base64
    import hashlib
    import hmac
    import urllib.request
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}"
    signed = "PUT" + "\n" * 12 + f"{headers}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"{url}/{ACCOUNT}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {ACCOUNT}:{signature}",
            "Content-Length": "0",
        },
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def files_of(uri: str) -> dict[str, bytes]:
    """Every file below a folder, by its path from there."""
    storage, found = storage_of(uri), dict[str, bytes]()
    for entry in storage.list(uri):
        inner = f"{uri}/{entry.name}"
        if entry.is_folder:
            found |= {f"{entry.name}/{name}": content for name, content in files_of(inner).items()}
        else:
            with storage.open(inner) as file:
                found[entry.name] = file.read()
    return found


def test_a_run_reads_and_publishes_the_same_bytes_as_folders(tmp_path: Path, container: str) -> None:
    storage = storage_of(container)
    for number in range(3):
        path = write_table(tmp_path / "in" / f"{number}.parquet", {"x": np.array([1.0 + number, np.nan, np.inf] * 40)})
        storage.put(f"{container}/in/{path.name}", path.read_bytes())
    assert len(datacheck.scan(f"{container}/in").findings) == len(datacheck.scan(tmp_path / "in").findings) == 6
    rules = [{"action": "impute", "strategy": "mean", "fields": "x", "codes": "DC101"}, {"action": "quarantine"}]
    datacheck.run(write_pipeline(tmp_path, "in", rules))
    path = write_pipeline(tmp_path, "in", rules, output={"path": f"{container}/out"})
    assert datacheck.run(path).is_new
    assert files_of(f"{container}/out") == contents(tmp_path / "out")
    assert not datacheck.run(path).is_new
    remote = write_pipeline(tmp_path, f"{container}/in", rules, output={"path": f"{container}/remote"})
    assert datacheck.run(remote).totals() == datacheck.run(path).totals()


def test_of_many_that_create_a_blob_one_wins_and_a_changed_one_is_noticed(container: str) -> None:
    storage, won = storage_of(container), list[int]()

    def create(number: int) -> None:
        try:
            storage.put(f"{container}/one", str(number).encode(), if_absent=True)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    storage.put(f"{container}/large", bytes(200_000))
    with storage.open(f"{container}/large") as file:
        storage.put(f"{container}/large", bytes(199_999) + b"1")
        with pytest.raises(OSError, match="it has changed"):
            file.read()


def test_a_lock_is_held_and_given_back(tmp_path: Path, container: str) -> None:
    write_table(tmp_path / "in.parquet", {"x": np.ones(3)})
    path = write_pipeline(tmp_path, "in.parquet", output={"path": f"{container}/out"})
    held = storage_of(container).lock(f"{container}/out/.datacheck/lock")
    with pytest.raises(OutputError, match="is writing there"):
        datacheck.run(path)
    held.release()
    assert datacheck.run(path).is_new


def test_a_missing_container_and_a_wrong_key_are_clear_errors(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the container 'no-such-container' does not exist"):
        datacheck.scan("az://no-such-container/x.npy")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    with pytest.raises(UsageError, match="access denied"):
        datacheck.scan("az://other-container/x.npy")
