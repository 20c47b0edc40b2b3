"""The CI examples and the GitHub action: parsed, validated against schemas, and run where possible."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import datacheck
from datacheck.codes import CODES
from datacheck.codes.markdown import main as write_codes
from datacheck.codes.markdown import render_codes

Save = Callable[..., Path]
Write = Callable[[str, str], Path]

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
NAN = float("nan")


def sections() -> dict[str, list[tuple[str, str]]]:
    """The code blocks of the page by heading: language and text."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        found[heading] = re.findall(r"^```(\w+)\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    return found


SECTIONS = sections()
SHELL = re.findall(r"^```sh\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
YAML_BLOCKS = [
    (heading, text) for heading, blocks in SECTIONS.items() for language, text in blocks if language == "yaml"
]
PYTHON_BLOCKS = {
    heading: text for heading, blocks in SECTIONS.items() for language, text in blocks if language == "python"
}


def check_with_schema(path: Path, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def example(heading: str, position: int = 0) -> Any:
    return yaml.safe_load(SECTIONS[heading][position][1])


def test_the_page_links_to_a_section_for_each_tool() -> None:
    assert list(SECTIONS) == [
        "pre-commit",
        "GitHub Actions",
        "GitLab CI",
        "Airflow",
        "Dagster",
        "Prefect",
        "Kubernetes",
        "Argo Workflows",
    ]
    assert re.findall(r"\[([^\]]+)\]\(#", PAGE) == list(SECTIONS)


@pytest.mark.parametrize(("heading", "text"), YAML_BLOCKS)
def test_every_yaml_example_parses(heading: str, text: str) -> None:
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("position", [0, 1])
def test_the_pre_commit_examples_are_valid_and_name_existing_hooks(tmp_path: Path, position: int) -> None:
    path = tmp_path / ".pre-commit-config.yaml"
    path.write_text(SECTIONS["pre-commit"][position][1])
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(path)]
    assert subprocess.run(command, check=False).returncode == 0
    offered = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (repository,) = example("pre-commit", position)["repos"]
    assert {hook["id"] for hook in repository["hooks"]} <= offered


def test_the_github_example_is_a_valid_workflow_with_existing_inputs(tmp_path: Path) -> None:
    path = tmp_path / "data.yml"
    path.write_text(SECTIONS["GitHub Actions"][0][1])
    check_with_schema(path, "vendor.github-workflows")
    steps = example("GitHub Actions")["jobs"]["datacheck"]["steps"]
    (ours,) = (step for step in steps if "/datacheck@" in step["uses"])
    assert ours["with"].keys() <= action()["inputs"].keys()


def test_the_gitlab_example_is_a_valid_pipeline(tmp_path: Path) -> None:
    path = tmp_path / ".gitlab-ci.yml"
    path.write_text(SECTIONS["GitLab CI"][0][1])
    check_with_schema(path, "vendor.gitlab-ci")


def commands() -> Iterator[list[str]]:
    """The datacheck commands in the examples, as lists."""
    for line in (*example("GitLab CI")["datacheck"]["script"], *SHELL):
        yield line.split()[1:]
    yield example("Kubernetes")["spec"]["template"]["spec"]["containers"][0]["args"]
    for template in example("Argo Workflows")["spec"]["templates"]:
        if "args" in template.get("container", {}):
            yield template["container"]["args"]


@pytest.mark.parametrize("arguments", list(commands()), ids=lambda arguments: arguments[1])
def test_the_commands_in_the_examples_run(
    save: Save, write: Write, run: Callable[..., Any], arguments: list[str]
) -> None:
    save("data/train/a.npy", [NAN])
    write("config/flights.yaml", "fields: {x: {}}\n")
    here = [re.sub(r"^/(data|config|tmp)", lambda match: f"{Path.cwd()}/{match[1]}", part) for part in arguments]
    Path("tmp").mkdir()
    done = run(*here)
    assert (done.code, done.err) == (1, "")
    assert "DC101" in done.out


def test_the_kubernetes_job_and_the_workflow_mount_the_paths_that_they_use() -> None:
    job, workflow = example("Kubernetes"), example("Argo Workflows")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert (workflow["apiVersion"], workflow["kind"]) == ("argoproj.io/v1alpha1", "Workflow")
    templates = {template["name"]: template for template in workflow["spec"]["templates"]}
    assert workflow["spec"]["entrypoint"] in templates
    for task in templates["main"]["dag"]["tasks"]:
        assert task["template"] in templates
    for spec, containers in (
        (job["spec"]["template"]["spec"], job["spec"]["template"]["spec"]["containers"]),
        (workflow["spec"], [template["container"] for template in templates.values() if "container" in template]),
    ):
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for container in containers for mount in container["volumeMounts"]} <= volumes


def test_the_kubernetes_job_and_the_pods_of_the_workflow_are_valid() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="no schemas of Kubernetes are installed")
    spec = example("Argo Workflows")["spec"]
    containers = [{"name": part["name"], **part["container"]} for part in spec["templates"] if "container" in part]
    # Argo turns the workflow into pods with these containers and volumes.
    pod = {"volumes": spec["volumes"], "containers": containers}
    for resource in (
        example("Kubernetes"),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod},
    ):
        validator.validate(resource, validator.latest_version(), strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**example("Kubernetes"), "spec": {"templat": {}}}, validator.latest_version(), strict=True)


# The Python examples, with stubs for their frameworks


class FailError(Exception):
    """The exception of an orchestrator for a failure without retry."""


def decorator(*arguments: Any, **options: Any) -> Any:
    """A decorator that returns its function unchanged, with arguments or without."""
    if len(arguments) == 1 and callable(arguments[0]) and not options:
        return arguments[0]
    return lambda function: function


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def flights(save: Save, write: Write) -> Callable[[float], None]:
    """Writes the data for the examples."""
    write("schemas/flights.yaml", "fields: {x: {}}\n")
    return lambda value: save("data/flights/train/a.npy", [1, value]) and None


def run_example(heading: str) -> dict[str, Any]:
    content: dict[str, Any] = {"__name__": "example"}
    exec(compile(PYTHON_BLOCKS[heading], f"docs/ci.md: {heading}", "exec"), content)
    return content


def test_the_airflow_example_fails_without_retry_on_a_nan(
    flights: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "airflow")
    stand_in(monkeypatch, "airflow.sdk", dag=decorator, task=decorator)
    stand_in(monkeypatch, "airflow.sdk.exceptions", AirflowFailException=FailError)
    flights(2)
    run_example("Airflow")
    flights(NAN)
    with pytest.raises(FailError, match="DC101 1 of 2 values are NaN"):
        run_example("Airflow")


def test_the_dagster_example_fails_on_a_nan(flights: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        "dagster",
        AssetCheckResult=lambda **result: result,
        MetadataValue=types.SimpleNamespace(md=lambda text: text),
        asset=decorator,
        asset_check=decorator,
    )
    check = run_example("Dagster")["flights_are_clean"]
    flights(2)
    assert check()["passed"] is True
    flights(NAN)
    result = check()
    assert (result["passed"], result["metadata"]["rows"]) == (False, 2)
    assert "| DC101 nan |" in result["metadata"]["findings"]


def test_the_prefect_example_fails_on_a_nan(flights: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "prefect", flow=decorator, task=decorator)
    nightly = run_example("Prefect")["nightly"]
    flights(2)
    assert nightly() == 2
    flights(NAN)
    with pytest.raises(ValueError, match="DC101"):
        nightly()


# The action


def action() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return content


def test_the_action_is_valid() -> None:
    check_with_schema(ROOT / "action.yml", "vendor.github-actions")


def test_no_action_input_becomes_script_text() -> None:
    scripts = [step["run"] for step in action()["runs"]["steps"] if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


@pytest.fixture
def act(folder: Path, tmp_path: Path) -> Callable[..., tuple[int, str, dict[str, str], str]]:
    """Runs the check step of the action; returns exit code, log, outputs and summary."""
    runner = tmp_path / "runner"
    script = runner / "datacheck-venv" / "bin" / "datacheck"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m datacheck "$@"\n')
    script.chmod(0o755)
    (step,) = (step for step in action()["runs"]["steps"] if step.get("id") == "scan")

    def with_inputs(**inputs: str) -> tuple[int, str, dict[str, str], str]:
        values = {name: str(about.get("default", "")) for name, about in action()["inputs"].items()} | inputs
        outputs, summary = tmp_path / "outputs", tmp_path / "summary"
        outputs.write_text("")
        summary.write_text("")
        environment = {
            **os.environ,
            "RUNNER_TEMP": str(runner),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(summary),
            **{
                name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)
                for name, text in step["env"].items()
            },
        }
        bash = shutil.which("bash")
        assert bash is not None
        command = [bash, "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        pairs = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return done.returncode, done.stdout + done.stderr, pairs, summary.read_text()

    return with_inputs


def test_the_action_writes_all_reports_and_fails_on_a_finding(save: Save, act: Callable[..., Any]) -> None:
    save("data/a.npy", [NAN])
    save("data/b.npy")
    code, log, outputs, summary = act(paths="data/a.npy\ndata/b.npy", sarif="x.sarif")
    assert code == 1
    assert log.startswith("::error file=data/a.npy,title=DC101 nan::")
    assert outputs == {"ok": "false", "sarif": "x.sarif"}
    assert summary.startswith("**datacheck:** 1 error in 2 files")
    assert Path("x.sarif").is_file()


@pytest.mark.slow
def test_the_action_passes_and_caches_verdicts(save: Save, act: Callable[..., Any]) -> None:
    save("data/a.npy")
    assert act(paths="*/a.npy", args="--ignore DC104 --severity DC9=warning", summary="false")[::2] == (
        0,
        {"ok": "true", "sarif": ""},
    )
    code, log, _, summary = act(paths="data", schema="", summary="false")
    assert (code, summary) == (0, "")
    assert "1 file unchanged since the last check" in log
    assert "unchanged" not in act(paths="data", cache="false")[1]


@pytest.mark.slow
def test_paths_are_separated_by_lines_or_spaces(save: Save, act: Callable[..., Any]) -> None:
    for name in ("a b.npy", "c.npy", "-d.npy"):
        save(name, [NAN])
    assert "3 errors in 3 files" in act(paths="a b.npy\n\nc.npy\n-d.npy\n")[1]
    assert "2 errors in 2 files" in act(paths=" c.npy  -d.npy ")[1]
    assert "1 error in 1 file" in act(paths="a b.npy\n")[1]


def test_an_input_cannot_set_another_output(save: Save, act: Callable[..., Any]) -> None:
    save("a.npy", [NAN])
    assert act(paths="a.npy", sarif="x.sarif\nok=true")[2] == {"ok": "false", "sarif": "x.sarifok=true"}


@pytest.mark.parametrize("inputs", [{"EXTRAS": "torch] @ https://example.com/x.zip #"}, {"VERSION": "1 --index-url=x"}])
def test_the_action_installs_only_datacheck(tmp_path: Path, inputs: dict[str, str]) -> None:
    (script,) = (step["run"] for step in action()["runs"]["steps"] if step["name"] == "Install datacheck")
    environment = {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path),
        "EXTRAS": "",
        "VERSION": "",
        "ACTION_PATH": "x",
        **inputs,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:9]) == (2, "::error::")
    assert not list(tmp_path.iterdir())


def test_the_action_never_executes_an_input(save: Save, act: Callable[..., Any]) -> None:
    save("data/a.npy")
    code, _, outputs, _ = act(paths="data $(touch pwned) ; touch pwned", schema="`touch pwned`")
    assert code == 2
    assert outputs["ok"] == "false"
    assert not Path("pwned").exists()


# The codes page


def test_the_codes_page_is_up_to_date(tmp_path: Path) -> None:
    page = ROOT / "docs" / "codes.md"
    remedy = "make it again: python -m datacheck.codes.markdown docs/codes.md"
    assert page.read_text(encoding="utf-8") == render_codes(), remedy
    assert write_codes([str(tmp_path / "codes.md")]) == 0
    assert (tmp_path / "codes.md").read_text(encoding="utf-8") == render_codes()


def test_the_table_links_to_one_section_per_code() -> None:
    page = render_codes()
    headings = re.findall(r"^## (\S+) (\S+)$", page, re.MULTILINE)
    # Checks of their own that other tests have registered have no page.
    assert headings == [(code.code, code.name) for code in CODES.values() if not code.code.startswith("X")]
    anchors = re.findall(r"\]\(#(\S+)\)", page)
    assert anchors == [f"{code.lower()}-{name}" for code, name in headings]
    assert "||" not in re.sub(r"\s", "", page.partition("## ")[0].replace("|\n|", "\n"))


def test_explain_and_the_codes_page_agree(run: Callable[..., Any]) -> None:
    printed = run("explain", "DC101").out
    assert CODES["DC101"].finds in printed
    assert CODES["DC101"].finds in render_codes()


def test_the_function_in_the_examples_is_public() -> None:
    assert "check" in datacheck.__all__
