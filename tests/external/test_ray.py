"""Units as tasks of Ray on a cluster of three nodes on loopback: the same bytes, and nothing that ends stops a job for ever."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Of the nodes, too, which inherit them: every address stays on loopback, and no token is written to the home folder.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
}
ray = pytest.importorskip("ray")
from job_files import contents, write_faulty_job  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

import datacheck  # noqa: E402
from datacheck.cli.app import main  # noqa: E402
from datacheck.errors import WorkerLostError  # noqa: E402
from datacheck.jobs.execution import Execution  # noqa: E402
from datacheck.jobs.executors import ray_cluster  # noqa: E402
from datacheck.jobs.executors.ray_cluster import RayExecutor  # noqa: E402
from datacheck.jobs.sharding.merge import Merge  # noqa: E402
from datacheck.jobs.sharding.shards import Shard  # noqa: E402
from datacheck.jobs.stage import Stage  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
#: Enough for results, which are small.
STORE = 80 << 20


def start_cluster(num_nodes: int, head_cpus: int = 1) -> Cluster:
    options = {"object_store_memory": STORE}
    cluster = Cluster(True, head_node_args={"num_cpus": head_cpus, "include_dashboard": False, **options})
    for _ in range(num_nodes - 1):
        cluster.add_node(num_cpus=1, **options)
    ray.init(address=cluster.address, log_to_driver=False)
    return cluster


def stop(cluster: Cluster) -> None:
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = start_cluster(3)
    yield started
    stop(started)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_faulty_job(tmp_path, 6).relative_to(tmp_path)


def outputs(pipeline: Path, name: str, *executors: Any) -> dict[str, bytes]:
    """What a job publishes, without what names its folder."""
    text = pipeline.read_text().replace("path: out", f"path: {name}")
    Path(f"{name}.yaml").write_text(text)
    for executor in executors:
        try:
            datacheck.run(f"{name}.yaml", executor=executor, workers=2)
        except datacheck.errors.ShardFinished:
            assert isinstance(executor, Shard)
    return contents(Path(name))


def test_every_executor_publishes_the_same_bytes(cluster: Cluster, pipeline: Path) -> None:
    expected = outputs(pipeline, "one", "threads")
    assert len(expected) > 12
    executor = RayExecutor()
    assert outputs(pipeline, "ray", executor) == expected
    # How many nodes get to work depends on how fast their first workers start.
    assert executor.units_by_node
    assert outputs(pipeline, "processes", "processes") == expected
    assert outputs(pipeline, "shards", Shard(1, 3), Shard(2, 3), Shard(3, 3), Merge()) == expected


def test_the_command_runs_on_a_cluster(cluster: Cluster, pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(pipeline), "--executor", "ray", "--address", cluster.address]) == 1
    assert "published to out" in capfd.readouterr().out
    assert main(["run", str(pipeline), "--address", "auto"]) == 2
    assert main(["run", str(pipeline), "--executor", "ray", "--shard", "1/2"]) == 2


def test_commands_that_publish_nothing_run_on_a_cluster(
    cluster: Cluster, pipeline: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where hashes go to a folder, in which nothing is left."""

    def printed(command: list[str], *options: str) -> Any:
        code = main([*command, *options])
        return code, re.sub(r"[\d.]+ m?s\b|\(.*/s\)", "", capfd.readouterr().out)

    Path("data/broken.parquet").unlink()
    Path("other").mkdir()
    Path("data/5.parquet").rename("other/5.parquet")
    on_ray = ["--executor", "ray", "--address", cluster.address]
    for command in (
        ["scan", "data", "--no-cache", "--schema", "own.yaml"],
        ["schema", "infer", "data"],
        ["compare", "data", "other", "--key", "id", "--no-drift"],
    ):
        Path("own.yaml").write_text("fields: {}\nunique: [[id]]\n")
        expected = printed(command)
        assert printed(command, *on_ray) == expected
        assert printed(command, *on_ray, "--results", "exchange") == expected
        assert [path for path in Path("exchange").rglob("*") if path.is_file()] == []


def run(function: Any, items: Any, executor: RayExecutor | None = None, **options: Any) -> list[Any]:
    return list(Execution(executor=executor or RayExecutor()).map(function, items, stage=Stage("test"), **options))


def test_results_come_in_order_and_a_large_one_by_a_file(cluster: Cluster, tmp_path: Path) -> None:
    def slower_first(number: int) -> Any:
        time.sleep(0.3 if number == 0 else 0)
        return np.full(20_000 if number % 2 else 1, number)

    with RayExecutor().job("run", None, str(tmp_path / "large")):
        pass
    executor = RayExecutor(exchange=str(tmp_path / "large"))
    found = run(slower_first, range(9), executor)
    assert [one[0] for one in found] == list(range(9))
    assert list((tmp_path / "large").iterdir()) == []


def test_a_worker_that_ends_once_costs_nothing_and_one_that_always_ends_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    def die(number: int, how_often: dict[int, int]) -> int:
        marks = [tmp_path / f"{number}-{attempt}" for attempt in range(how_often.get(number, 0))]
        for mark in marks:
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return number

    found = run(partial(die, how_often={2: 1, 4: 2, 5: 3}), range(7), lost=lambda number: -number)
    assert found == [0, 1, 2, 3, 4, -5, 6]
    with pytest.raises(WorkerLostError, match="a worker ended 1 times at 3"):
        run(partial(die, how_often={3: 9}), range(7), RayExecutor(attempts=1))


def test_many_small_units_share_tasks_and_the_cluster_is_not_asked_for_each(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_at_77(number: int) -> int:
        if number == 77:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    asked, tasks = [], []
    nodes, remote = ray.nodes, ray.remote_function.RemoteFunction._remote
    monkeypatch.setattr(ray, "nodes", lambda: asked.append(1) or nodes())
    monkeypatch.setattr(
        ray.remote_function.RemoteFunction, "_remote", lambda *given, **more: tasks.append(1) or remote(*given, **more)
    )
    monkeypatch.setattr(ray_cluster, "_NOTICE_SECONDS", 1)
    started = time.monotonic()
    found = run(die_at_77, range(400), lost=lambda number: -number)
    assert found == [*range(77), -77, *range(78, 400)]
    assert len(asked) <= 2 + time.monotonic() - started
    assert len(tasks) < 120


def test_an_exception_is_raised_as_it_is(cluster: Cluster) -> None:
    def fail_at_one(number: int) -> int:
        if number == 1:
            raise datacheck.errors.CleaningError("not this one")
        return number

    with pytest.raises(datacheck.errors.CleaningError, match="not this one"):
        run(fail_at_one, range(3))


def test_a_file_that_ends_every_worker_is_a_finding(cluster: Cluster, pipeline: Path) -> None:
    def end_at_three(tasks: Any, plan: Any) -> Any:
        from datacheck.jobs.units.process_groups import process_group

        if "3.parquet" in tasks[0].unit.uri:
            os.kill(os.getpid(), signal.SIGKILL)
        return process_group(tasks, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_cluster, "_NOTICE_SECONDS", 1)
        patch.setattr("datacheck.jobs.process_inputs.process_group", end_at_three)
        report = datacheck.run(pipeline, executor=RayExecutor())
    lost = [one for one in report.findings if one.code == "DC910"]
    assert [one.uri for one in lost] == ["data/3.parquet"]
    assert report.totals()["num_read"] == 10_000


def test_without_an_address_no_cluster_is_joined_that_happens_to_run_here(cluster: Cluster) -> None:
    program = (
        "import ray; from datacheck.jobs.executors import ray_cluster as c; c._connected(None); print(len(ray.nodes()))"
    )
    for address, num_nodes in ((None, 1), (cluster.address, 3)):
        given = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=given if address is None else {**given, "RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.split() == [str(num_nodes)], done.stderr


DRIVER = """
import sys, ray, datacheck, time
from datacheck.jobs.executors.ray_cluster import RayExecutor
from datacheck.jobs.progress import NullProgress

class Slow(NullProgress):
    def advance(self, num_units, num_rows, num_bytes):
        print("advanced", flush=True)
        time.sleep(0.2)

ray.init(address=sys.argv[1], log_to_driver=False)
datacheck.run(sys.argv[2], executor=RayExecutor(), workers=1, progress=Slow())
"""


def test_a_killed_driver_goes_on_from_where_it_was(cluster: Cluster, pipeline: Path) -> None:
    expected = outputs(pipeline, "one", "threads")
    outputs(pipeline, "again")
    arguments = [sys.executable, "-c", DRIVER, cluster.address, "again.yaml"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        records = Path("again/.datacheck/units")
        while driver.poll() is None and len(list(records.glob("*.json"))) < 3:
            time.sleep(0.02)
        driver.kill()
    assert len(list(records.glob("*.json"))) >= 3
    assert outputs(pipeline, "again", RayExecutor()) == expected


WITHOUT_HEAD = """
import os, signal, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster
from datacheck.cli.app import main
from datacheck.jobs import process_inputs
from datacheck.jobs.executors import ray_cluster

ray_cluster._HEAD_SECONDS = 3
head = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20})

def kill(report, *arguments):
    for one in head.head_node.all_processes["gcs_server"]:
        os.kill(one.process.pid, signal.SIGKILL)
    return merge_units(report, *arguments)

def slow(tasks, plan):
    import time
    from datacheck.jobs.units.groups import process_group

    time.sleep(0.5)
    return process_group(tasks, plan)

merge_units, process_inputs.process_group = process_inputs.merge_units, slow
process_inputs.merge_units = kill
code = main(["run", sys.argv[1], "--executor", "ray", "--address", head.address])
sys.stderr.flush()
os._exit(code)
"""


def test_a_head_that_does_not_answer_ends_the_job_with_an_error(pipeline: Path) -> None:
    """Ray itself would wait for a minute, and then end the process with an exit code that means findings."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAD, str(pipeline)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "the head of the Ray cluster has not answered for 3 s; start it and run again" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dead_node_costs_what_it_was_doing_and_without_nodes_the_job_ends(cluster: Cluster) -> None:
    def slow(number: int) -> int:
        time.sleep(0.4)
        return number

    ray.shutdown()
    own = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE})
    nodes = [own.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
    ray.init(address=own.address, log_to_driver=False)
    try:
        results = Execution(executor=RayExecutor(attempts=1)).map(slow, range(12), stage=Stage("test"))
        found = [next(results)]
        own.remove_node(nodes[0], allow_graceful=False)
        assert found + list(results) == list(range(12))
        results = Execution(executor=RayExecutor(patience=2)).map(slow, range(12), stage=Stage("test"))
        assert next(results) == 0
        own.remove_node(nodes[1], allow_graceful=False)
        with pytest.raises(WorkerLostError, match="the Ray cluster has had no node for 2 s; add nodes and run again"):
            list(results)
    finally:
        stop(own)
