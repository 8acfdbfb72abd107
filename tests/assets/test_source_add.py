"""stemma source add: finds out what the data are, shows them as data, and writes only what was agreed to."""

import json
import tomllib

import pytest
from typer.testing import CliRunner

from assets import cli_source
from assets.cli import CHECKOUT, app
from pipelines.spec import SpecError

ROWS = [{"uid": n, "body": f"document {n} " * 30, "link": f"http://a.b/{n}", "rights": "MIT"} for n in range(4)]


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "stemma.toml"
    path.write_text((CHECKOUT / "stemma.toml").read_text())
    return path


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "data.jsonl"


def add(spec, path, *flags):
    done = CliRunner().invoke(app, ["source", "add", "mine", str(path), "--spec", str(spec), *flags])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def source(spec):
    return tomllib.loads(spec.read_text())["sources"].get("mine/1")


def test_what_is_found_is_shown_and_written(spec, data):
    shown = add(spec, data)
    assert "found: jsonl, text_field 'body', url_field 'link', license_field 'rights'" in shown.replace("\n", " ")
    assert "'uid'" in shown
    assert shown.count("document ") > 10
    written = {k: v for k, v in source(spec).items() if k != "cleaning"}
    assert written == {
        "reader": "jsonl",
        "path": "data.jsonl",
        "text_field": "body",
        "url_field": "link",
        "license_field": "rights",
    }


def test_flags_overrule_what_was_found(spec, data):
    add(spec, data, "--id-field", "uid", "--text-field", "link", "--license", "CC0-1.0")
    assert (source(spec)["id_field"], source(spec)["text_field"]) == ("uid", "link")
    assert source(spec)["license"] == "CC0-1.0"
    assert "license_field" not in source(spec)


def test_a_dry_run_and_a_refusal_write_nothing(spec, data, monkeypatch):
    before = spec.read_text()
    assert "nothing was written" in add(spec, data, "--dry-run").replace("\n", " ")
    monkeypatch.setattr(cli_source, "_agreed", lambda: False)
    assert "nothing was written" in add(spec, data).replace("\n", " ")
    assert spec.read_text() == before
    add(spec, data, "--yes")
    assert source(spec)


def test_a_person_at_a_terminal_is_asked_and_a_script_is_not(spec, data, monkeypatch):
    asked = []
    monkeypatch.setattr(cli_source.typer, "confirm", lambda question: asked.append(question) or False)
    assert cli_source._agreed() is (not asked)
    monkeypatch.setattr(cli_source.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    assert cli_source._agreed() is False
    assert asked == ["Write it into the spec?"]


def test_data_are_never_markup_and_control_characters_never_reach_the_terminal(spec, tmp_path):
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "[red]not markup[/] \x1b[31mnor colour\x07 \u202ereversed"}))
    shown = add(spec, tmp_path / "d.jsonl")
    assert "[red]not markup[/]" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_json_tells_what_was_found(spec, data):
    told = json.loads(add(spec, data, "--json", "--dry-run"))
    assert (told["reader"], told["written"], told["columns"]) == ("jsonl", False, ["uid", "body", "link", "rights"])
    assert told["fields"]["text_field"] == "body"
    assert len(told["sample"]) == 3


def test_what_cannot_be_told_says_what_to_do(spec, tmp_path):
    with pytest.raises(SpecError, match=r"does not exist\. A data set of the hub needs --reader hub"):
        add(spec, "user/name")
    (tmp_path / "x.bin").write_bytes(b"\0\1")
    with pytest.raises(SpecError, match="Name the reader with --reader"):
        add(spec, tmp_path / "x.bin")
    (tmp_path / "n.jsonl").write_text('{"n": 1}\n')
    with pytest.raises(SpecError, match=r"none of the first 1 records has a text .*--text-field"):
        add(spec, tmp_path / "n.jsonl")


def test_a_csv_file_is_written_with_its_delimiter(spec, tmp_path):
    (tmp_path / "d.csv").write_text("id;text\n1;eins zwei\n2;drei vier\n")
    add(spec, tmp_path / "d.csv")
    assert (source(spec)["reader"], source(spec)["delimiter"], source(spec)["id_field"]) == ("csv", ";", "id")
