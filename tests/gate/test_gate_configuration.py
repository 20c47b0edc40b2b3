"""The order of configuration layers, and errors that name the place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datacheck.codes import CODES
from datacheck.errors import ConfigurationError
from datacheck.gate.configuration import Configuration, configure
from datacheck.gate.environment import unknown_variables
from datacheck.gate.settings import Settings
from datacheck.profile.compare.thresholds import Thresholds

Save = Callable[..., Path]
Write = Callable[[str, str], Path]
Run = Callable[..., Any]

PYPROJECT = """
[tool.datacheck]
select = ["DC1"]
schema = "schemas/x.yaml"
[tool.datacheck.severity]
DC101 = "info"
DC104 = "warning"
"""


def configured(given: dict[str, Any] | None = None, **environment: str) -> Configuration:
    return configure(given, environment=environment)


def test_each_layer_overrides_the_one_below(write: Write) -> None:
    write("pyproject.toml", PYPROJECT)
    held = configured({"severity": {"DC104": "error"}, "ignore": ["DC9"]}, DATACHECK_SELECT="DC2, DC3")
    settings = held.settings
    assert settings.select == ("DC2", "DC3")
    assert settings.ignore == ("DC9",)
    assert settings.schema_ == "schemas/x.yaml"
    assert {code: level.value for code, level in settings.severity.items()} == {"DC101": "info", "DC104": "error"}
    assert held.origins == {
        "select": "DATACHECK_SELECT",
        "ignore": "--ignore",
        "schema": "pyproject.toml: tool.datacheck",
        "severity.DC101": "pyproject.toml: tool.datacheck",
        "severity.DC104": "--severity",
    }
    assert held.origin("workers") == "default"


def test_the_nearest_file_is_used_and_its_paths_are_relative_to_it(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("pyproject.toml", PYPROJECT)
    write("sub/datacheck.yaml", "paths: [data]\nschema: x.yaml\n")
    (folder / "sub" / "deep").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert configured().settings.paths == ("data",)
    monkeypatch.chdir(folder / "sub" / "deep")
    held = configured()
    assert held.settings.schema_ == str(folder / "sub" / "x.yaml")
    assert held.root == folder / "sub"
    assert held.settings.select == ("DC",)


def test_a_pyproject_without_a_datacheck_table_is_skipped(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("pyproject.toml", PYPROJECT)
    write("sub/pyproject.toml", '[project]\nname = "uses-datacheck"\n')
    monkeypatch.chdir(folder / "sub")
    assert configured().settings.select == ("DC1",)


def test_files_above_the_root_of_the_repository_are_not_used(folder: Path) -> None:
    (folder.parent / "datacheck.yaml").write_text("ignore: [DC1]\n")
    assert configured().settings == Settings()


def test_an_option_or_a_variable_chooses_the_file(write: Write) -> None:
    write("datacheck.yaml", "ignore: [DC1]\n")
    write("ci/strict.yaml", "ignore: [DC2]\n")
    write("ci/strict.toml", '[tool.datacheck]\nignore = ["DC3"]\n')
    assert configured().settings.ignore == ("DC1",)
    assert configured(DATACHECK_CONFIG="ci/strict.yaml").settings.ignore == ("DC2",)
    environment = {"DATACHECK_CONFIG": "ci/strict.yaml"}
    assert configure(config="ci/strict.toml", environment=environment).settings.ignore == ("DC3",)


def test_a_schema_option_applies_to_every_file(write: Write) -> None:
    write("datacheck.yaml", "schemas: {'*.npy': a.yaml}\n")
    assert configured({"schema": "b.yaml"}).settings.schemas == {}
    assert configured(DATACHECK_SCHEMA="b.yaml").settings.schemas == {}


def test_two_configuration_files_in_one_folder_are_an_error(write: Write) -> None:
    write("pyproject.toml", PYPROJECT)
    write("datacheck.yaml", "ignore: [DC1]\n")
    with pytest.raises(ConfigurationError, match=r"datacheck\.yaml is in the same folder"):
        configured()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slect: [DC1]", "slect: unknown key 'slect'; did you mean 'select'?"),
        ("cache_dir: x", "cache_dir: unknown key 'cache_dir'; write 'cache-dir'"),
        ("select: [nan]", "select[0]: write DC101 instead of 'nan'"),
        ("ignore: [DC999]", "ignore[0]: unknown code 'DC999'; did you mean 'DC909'?"),
        ("ignore: [E501]", "ignore[0]: unknown code 'E501'; expected a code such as DC101"),
        ("severity: {DC104: warn}", "severity.DC104: must be 'error', 'warning' or 'info', got 'warn'"),
        (
            "tolerances: {x: 0.05}",
            "tolerances.x: must be a number of violations such as 3, or a percentage such as '0.5%'",
        ),
        (
            "tolerances: {x: 101%}",
            "tolerances.x: must be a number of violations such as 3, or a percentage such as '0.5%'",
        ),
        ("tolerances: {x: {DC0: 3}}", "tolerances.x.DC0: DC0 does not count values"),
        ("tolerances: {x: {DC1: -1}}", "tolerances.x.DC1: must be a number of violations"),
        ("tolerances: [x]", "tolerances: must be a mapping of fields to limits"),
        ("format: sariff", "format: unknown report format 'sariff'; did you mean 'sarif'?"),
        ("color: sometimes", "color: must be 'auto', 'always' or 'never', got 'sometimes'"),
        ("workers: 0", "workers: must be greater than or equal to 1, got 0"),
        ("schemas: [x]", "schemas: expected a mapping, got a list"),
    ],
)
def test_an_error_in_a_file_names_the_file_and_the_key(write: Write, text: str, message: str) -> None:
    write("datacheck.yaml", f"{text}\n")
    with pytest.raises(ConfigurationError) as caught:
        configured()
    assert str(caught.value).startswith(f"datacheck.yaml: {message}")


def test_every_error_in_a_file_is_reported(write: Write) -> None:
    write("datacheck.yaml", "slect: [DC1]\nworkers: 0\n")
    with pytest.raises(ConfigurationError) as caught:
        configured()
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CACHE", "maybe", "expected true or false, got 'maybe'"),
        ("SELECT", "DC1,X", "unknown code 'X'"),
        ("SEVERITY", "DC104", "expected CODE=LEVEL such as DC104=warning, got 'DC104'"),
        ("WORKERS", "many", "expected an integer, got 'many'"),
        ("FORMAT", "jason", "unknown report format 'jason'; did you mean 'json'?"),
        ("CONFIG", "nowhere.yaml", "no such configuration file"),
    ],
)
def test_an_error_in_a_variable_names_the_variable(folder: Path, variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(**{f"DATACHECK_{variable}": value})
    assert message in str(caught.value)
    assert variable in str(caught.value) or value in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[tool.datacheck\n", "is not valid TOML"),
        ("[tool]\ndatacheck = 3\n", "must be a table"),
        ("[tool.datacheck]\nselect = 3\n", "expected a list, got 3"),
    ],
)
def test_an_error_in_a_pyproject_names_the_file(write: Write, content: str, message: str) -> None:
    write("pyproject.toml", content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        configured()
    assert str(caught.value).startswith("pyproject.toml: ")


def test_unknown_variables_are_reported_unless_kubernetes_sets_them(folder: Path) -> None:
    environment = {"DATACHECK_SELCT": "DC1", "PATH": "/bin"}
    # Kubernetes sets these in every pod next to a service called datacheck.
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
        environment[f"DATACHECK_{name}"] = "10.0.0.1"
    assert configured(**environment).settings == Settings()
    (line,) = unknown_variables(environment)
    assert line == "unknown variable DATACHECK_SELCT; did you mean 'DATACHECK_SELECT'?"


@pytest.mark.parametrize("command", ["scan", "config"])
def test_commands_report_a_misspelled_variable(
    save: Save, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    save("x.npy")
    monkeypatch.setenv("DATACHECK_SELCT", "DC1")
    done = run(command, "x.npy")
    assert done.code == 0
    assert done.err == "datacheck: unknown variable DATACHECK_SELCT; did you mean 'DATACHECK_SELECT'?\n"


@pytest.mark.parametrize(
    ("text", "expected"), [("0", False), ("no", False), ("OFF", False), ("1", True), ("true", True), ("Yes", True)]
)
def test_boolean_variables_accept_common_spellings(folder: Path, text: str, expected: bool) -> None:
    assert configured(DATACHECK_CACHE=text).settings.cache is expected


def test_the_default_baseline_is_used_if_it_exists(write: Write) -> None:
    assert configured().baseline is None
    write("datacheck-baseline.json", "{}")
    assert configured().baseline == "datacheck-baseline.json"
    assert configured({"baseline": False}).baseline is None
    assert configured(DATACHECK_BASELINE="no").baseline is None
    assert configured({"baseline": "other.json"}).baseline == "other.json"


# The command


def test_config_prints_every_setting_with_its_origin(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("pyproject.toml", PYPROJECT)
    monkeypatch.setenv("DATACHECK_WORKERS", "2")
    done = run("config", "--ignore", "DC9,DC306", "--no-cache")
    assert done.code == 0, done.err
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.out.splitlines()}
    assert rows["select"].split() == ["DC1", "pyproject.toml:", "tool.datacheck"]
    assert rows["ignore"].split() == ["DC9,", "DC306", "--ignore"]
    assert rows["workers"].split() == ["2", "DATACHECK_WORKERS"]
    assert rows["cache"].split() == ["false", "--no-cache"]
    assert rows["severity.DC104"].split() == ["warning", "pyproject.toml:", "tool.datacheck"]
    assert rows["color"].split() == ["auto", "default"]
    keys = {info.alias or name for name, info in Settings.model_fields.items()}
    assert {name.partition(".")[0] for name in rows} == keys


def test_config_shows_the_schema_of_a_file(write: Write, run: Run) -> None:
    write("datacheck.yaml", "exclude: [raw/]\nschemas: {'train/*.npy': t.yaml, '*.npy': o.yaml}\n")
    done = run("config", "train/a.npy", "other/a.npy", "raw/a.npy", "a.csv")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["train/a.npy", "t.yaml"],
        ["other/a.npy", "o.yaml"],
        ["raw/a.npy", "excluded"],
        ["a.csv", "none"],
    ]


@pytest.mark.parametrize("arguments", [["config"], ["scan", "x.npy"], ["baseline", "write", "x.npy"]])
def test_a_wrong_configuration_exits_with_2_and_no_traceback(write: Write, run: Run, arguments: list[str]) -> None:
    write("datacheck.yaml", "slect: [DC1]\n")
    message = "datacheck: datacheck.yaml: slect: unknown key 'slect'; did you mean 'select'?\n"
    assert run(*arguments) == (2, "", message)


# The documentation


def test_the_page_names_the_codes_that_are_tolerated() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8").split())
    named = re.findall(r"`(DC\d+)`", text.partition("counts values or rows (")[2].partition(")")[0])
    listed = {code for code in CODES if code.startswith(tuple(named))}
    # Of the families that are named whole, some codes are about files.
    assert {code for code, one in CODES.items() if one.tolerable} == {code for code in listed if CODES[code].tolerable}
    assert all(CODES[code].tolerable for code in named if code in CODES)


def blocks(page: Path, language: str) -> list[str]:
    parts = page.read_text(encoding="utf-8").split(f"```{language}\n")[1:]
    return [part.partition("```")[0] for part in parts]


def test_the_toml_and_yaml_examples_are_equal(repository: Path) -> None:
    page = repository / "docs" / "configuration.md"
    toml, compare = (tomllib.loads(block)["tool"]["datacheck"] for block in blocks(page, "toml"))
    (from_yaml,) = (yaml.safe_load(block) for block in blocks(page, "yaml"))
    assert Settings.model_validate(toml) == Settings.model_validate(from_yaml)
    thresholds = Settings.model_validate(compare).compare
    assert compare["compare"].keys() == {info.alias or name for name, info in Thresholds.model_fields.items()}
    numbers = {name: value for name, value in compare["compare"].items() if isinstance(value, float)}
    assert numbers == {name: getattr(Thresholds(), name) for name in numbers}
    assert thresholds.key == (("patient_id",), ("site", "visit"))


def test_every_key_is_documented(repository: Path) -> None:
    rows = [
        line.split("|")[1]
        for line in (repository / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    documented = {word.strip(" `") for row in rows for word in row.split(",")}
    assert documented == {info.alias or name for name, info in Settings.model_fields.items()}


@pytest.mark.parametrize("pattern", ["!", "\\", "a\\", "[", "[z-a]", "", "#"])
@pytest.mark.parametrize("key", ["exclude", "schemas"])
def test_a_pattern_that_can_match_nothing_is_an_error(folder: Path, key: str, pattern: str) -> None:
    value = [pattern] if key == "exclude" else {pattern: "x.yaml"}
    with pytest.raises(ConfigurationError, match=r"is not a valid \.gitignore pattern, or matches nothing"):
        configure({key: value})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--select", ""],
        ["--select", ","],
        ["--schema", ""],
        ["--baseline", ""],
        ["--cache-dir", " "],
        ["--config", ""],
        ["--config", "x" * 300],
        ["--schema", "x" * 300],
        ["--schema", "x" * 300 + ":Model"],
        ["--baseline", "x" * 300],
        ["--cache-dir", "x" * 300],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_an_empty_option_value_is_an_error(save: Save, run: Run, arguments: list[str]) -> None:
    save("a.npy", [float("nan")])
    done = run("scan", "a.npy", *arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1


def test_a_pattern_may_be_absolute(save: Save, write: Write, run: Run) -> None:
    save("data/a.npy", [5])
    save("data/b.npy", [float("nan")])
    write("s.yaml", "fields: {x: {le: 1}}\n")
    here = Path.cwd()
    write("datacheck.yaml", f"schemas: {{'{here}/data/*.npy': s.yaml}}\nexclude: ['{here}/data/b*']\n")
    done = run("scan", "data")
    assert done.out.startswith("DC202")
    assert "b.npy" not in done.out
