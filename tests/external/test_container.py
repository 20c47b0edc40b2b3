"""The Job for Kubernetes: valid, and its command runs as it is there: no home, a read-only file system, signals."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from s3_server import KEYS, Bucket

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs" / "storage.md"
PIPELINE = """\
version: 1
inputs: {train: ../data}
clean:
  - {action: impute, strategy: mean, fields: x, codes: DC101}
  - {action: quarantine, codes: DC102}
output: {path: ../out}
"""
#: Makes every file read-only that is not below the folder for temporary files.
READ_ONLY = """\
import errno, os, sys
def allowed(path):
    inside = os.path.abspath(os.fspath(path)).startswith((os.environ["TMPDIR"], "/dev/", "/proc/"))
    if not inside:
        raise OSError(errno.EROFS, "read-only", os.fspath(path))
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            allowed(os.fsdecode(arguments[0]))
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink"):
        allowed(os.fsdecode(arguments[0]))
sys.addaudithook(hook)
"""


def job() -> dict[str, Any]:
    (block,) = re.findall(r"^```yaml\n(apiVersion: batch/v1\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = job()["spec"]["template"]["spec"]
    return spec


def test_the_job_is_valid_and_has_no_rights() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(job(), "1.30", strict=True)
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {one["value"] for one in container["env"] if one["name"] in ("TMPDIR", "HOME")} == mounted
    assert 'ENTRYPOINT ["datacheck"]' in (REPOSITORY / "Dockerfile").read_text()


@pytest.fixture
def start(bucket: Bucket, tmp_path: Path) -> Any:
    """Start the command of the container, in its environment."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(READ_ONLY)
    (tmp_path / "scratch").mkdir()
    (container,) = pod()["containers"]
    arguments = [one.replace("s3://training", bucket.uri) for one in container["args"]]
    given = {one["name"]: one["value"].replace("/tmp", str(tmp_path / "scratch")) for one in container["env"]}
    environment = {
        **given,
        **KEYS,
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "datacheck", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
        )

    return started


def fill(bucket: Bucket, num_files: int, bad: float = np.nan) -> None:
    for number in range(num_files):
        content = io.BytesIO()
        pq.write_table(pa.table({"x": [1.0 + number, bad, 3.0]}), content)
        bucket.put(f"data/{number:03}.parquet", content.getvalue())
    bucket.put("pipelines/flights.yaml", PIPELINE.encode())


def test_it_publishes_and_ends_with_the_code_of_the_run(bucket: Bucket, start: Any) -> None:
    fill(bucket, 3)
    out, err = (process := start()).communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "out/manifest.json" in bucket.keys
    assert out.count('"code": "DC101"') == 3
    bucket.put("pipelines/flights.yaml", PIPELINE.replace("quarantine, codes: DC102", "mend").encode())
    out, err = (process := start()).communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in err
    assert f"{bucket.uri}/pipelines/flights.yaml: clean[1].action" in err


def test_it_stops_at_sigterm_and_goes_on_in_another_pod(bucket: Bucket, start: Any) -> None:
    fill(bucket, 150)
    process = start()
    limit = time.monotonic() + 60
    while not any(key.startswith("out/.datacheck/units/") for key in bucket.keys) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert "terminated; nothing partial was published. Run the same command again to continue" in err
    assert "Traceback" not in err
    left = bucket.keys
    assert "out/manifest.json" not in left
    assert "out/.datacheck/lock" not in left
    done = [key for key in left if key.startswith("out/.datacheck/parts/")]
    assert done
    before = {key: bucket.client.head_object(Bucket=bucket.name, Key=key)["LastModified"] for key in done}
    out, err = (process := start()).communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert len([key for key in bucket.keys if key.startswith("out/train/")]) == 150
    assert len(before) < 150


def test_the_image_can_be_built_by_the_commands_of_its_first_stage(tmp_path: Path) -> None:
    text = re.sub(r"\\\n", " ", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    first_stage = text.split("FROM ")[1]
    build, installed = tmp_path / "build", tmp_path / "datacheck"
    build.mkdir()
    environment = {**os.environ, "EXTRAS": "cloud", "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    libraries = str(Path(np.__file__).parent.parent)
    for line in first_stage.splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                source = REPOSITORY / name
                if source.is_dir():
                    shutil.copytree(source, build / target, dirs_exist_ok=True)
                else:
                    shutil.copy(source, build / name)
        elif word == "RUN":
            shell = re.sub(r"--mount=\S+", "", rest).replace("/opt/datacheck", str(installed))
            # What it depends on is here already, and takes a minute to install.
            shell = re.sub(r"pip install (?!--no-deps)", "pip install --no-deps ", shell)
            done = subprocess.run(["/bin/sh", "-ec", shell], cwd=build, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{rest}\n{done.stderr}"
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan]))
    command = [str(installed / "bin" / "datacheck"), "scan", str(tmp_path / "x.npy"), "--no-cache"]
    environment["PYTHONPATH"] = libraries
    scan = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (scan.returncode, "DC101" in scan.stdout) == (1, True), scan.stderr
