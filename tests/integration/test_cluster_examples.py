"""The examples for clusters, run by the shell that the schedulers would start, with their variables set."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from job_files import contents, run_command, write_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
NAN = float("nan")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What one process publishes of a pipeline, whose output is then removed."""
    (tmp_path / "pipelines").mkdir()
    for number in range(4):
        write_table(tmp_path / f"data/{number}.parquet", {"x": [1.0, NAN, 2.0 + number]})
    (tmp_path / "pipelines/flights.yaml").write_text(
        "version: 1\ninputs: ../data\nclean: [{action: impute, strategy: mean, fields: x}]\noutput: {path: ../out}\n"
    )
    assert run_command("run", "pipelines/flights.yaml", cwd=tmp_path).returncode == 0
    found = contents(tmp_path / "out")
    for name in found:
        (tmp_path / "out" / name).unlink()
    return found


def shell(script: str, folder: Path, **variables: str) -> str:
    # The command of this environment, which need not be on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_slurm_array_publishes_what_one_process_does(tmp_path: Path, expected: dict[str, bytes]) -> None:
    (script,) = blocks("bash")
    options = dict(re.findall(r"^#SBATCH --(\S+?)=(\S+)$", script, re.MULTILINE))
    assert options["array"] == "0-7"
    for index in range(3):
        slurm = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"}
        printed = shell(script, tmp_path, SLURM_CPUS_PER_TASK=options["cpus-per-task"], **slurm)
        assert f"shard {index + 1}/3: " in printed
    (commands,) = [block for block in blocks("console") if "sbatch" in block]
    merge = re.search(r'--wrap "(.*)"', commands)
    assert merge is not None
    assert "published to" in shell(merge[1], tmp_path)
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
def test_an_indexed_job_publishes_what_one_process_does(tmp_path: Path, expected: dict[str, bytes]) -> None:
    (manifests,) = [block for block in blocks("yaml") if "completionMode" in block]
    shards, merge = yaml.safe_load_all(manifests)
    for job in (shards, merge):
        check_job(job)
    spec = shards["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 4)
    for index in range(spec["completions"]):
        shell(command_of(shards), tmp_path, JOB_COMPLETION_INDEX=str(index))
    assert "published to" in shell(command_of(merge), tmp_path)
    assert contents(tmp_path / "out") == expected


def command_of(job: Any) -> str:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "-c"]
    (command,) = container["args"]
    return str(command)


def check_job(job: Any) -> None:
    """A Job that the API server takes, as far as that can be told without one."""
    if importlib.util.find_spec("kubernetes_validate"):
        import kubernetes_validate

        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert set(job["spec"]) <= {
        "completionMode",
        "completions",
        "parallelism",
        "backoffLimit",
        "backoffLimitPerIndex",
        "template",
    }
    pod = job["spec"]["template"]["spec"]
    assert set(pod) <= {"restartPolicy", "securityContext", "containers", "volumes"}
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert set(container) <= {"name", "image", "command", "args", "workingDir", "resources", "volumeMounts"}
    assert {one["name"] for one in container["volumeMounts"]} <= {one["name"] for one in pod["volumes"]}
