"""How text tables are written, said in the configuration and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacheck.cli.app import main
from datacheck.errors import ConfigurationError
from datacheck.gate.checking import check
from datacheck.gate.configuration import configure


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.csv"
    path.write_text("x;y\n1,5;n.d.\n2,5;7\n3;8\n")
    return path


def test_the_configuration_says_how_text_tables_are_written(table: Path) -> None:
    Path("datacheck.yaml").write_text("reading: {csv_delimiter: ';', csv_decimal: ','}\ncache: false\n")
    assert [finding.code for finding in check([table]).findings] == ["DC007"]
    given = {"reading": {"csv_null_values": ["", "n.d."]}}
    configuration = configure(given)
    assert configuration.settings.reading.csv_delimiter == ";"
    assert [finding.code for finding in check([table], configuration=configuration).findings] == ["DC104"]


def test_options_say_how_text_tables_are_written(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--csv-delimiter", ";", "--csv-decimal", ","]
    assert main(["scan", str(table), "--no-cache", *options]) == 1
    assert "DC007 1 of 3 values in 'y' are not numeric" in capsys.readouterr().out
    assert main(["schema", "infer", str(table), *options, "--csv-null-values", "n.d."]) == 0
    assert "nullable: true" in capsys.readouterr().out


def test_a_wrong_option_is_an_error_that_names_it(table: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"csv_decimal.*expected '\.' or ','"):
        configure({"reading": {"csv_decimal": ";"}})
