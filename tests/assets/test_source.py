"""stemma source: nothing is written before the first texts were read, and what is written builds."""

import gzip
import json
import os

import pytest

from pipelines.provenance.manifest import Key

TEXT = "The keeper wrote down in the evening that the lamp was lit before the fog came in from the sea."


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(json.dumps({"id": f"n{n}", "text": f"{n} {TEXT}"}) + "\n" for n in range(5)))
    return path


def test_a_new_source_makes_corpus_and_run_with_the_recipes_of_the_default_run(blank, stemma, notes):
    said = stemma.json(blank, "source", "add", "notes", str(notes), "--license", "MIT")
    assert (said["source"], said["corpus"], said["runs"]) == ("notes/1", "mine", ["mine"])
    assert said["sample"] == [f"{n} {TEXT}" for n in range(3)]
    spec = blank.spec
    assert spec.source("notes/1").model_dump(exclude_defaults=True) == {
        "reader": "jsonl",
        "path": str(notes),
        "license": "MIT",
        "id_field": "id",
        "cleaning": "plain",
    }
    assert spec.run("mine").mixture == spec.run("demo").mixture
    assert spec.run("mine").training == spec.run("demo").training
    assert spec.corpus("mine").heldout == {"ratio": 0.2}


def test_a_source_for_a_corpus_that_is_there_makes_no_second_run(blank, stemma, notes):
    said = stemma.json(blank, "source", "add", "notes/2026-11", str(notes), "--corpus", "small")
    assert said["runs"] == ["demo"]
    spec = blank.spec
    assert spec.sources_of("small") == ["poems/1", "letters/1", "notes/2026-11"]
    assert list(spec.document.runs) == ["demo"]


def test_what_was_added_can_be_taken_in(blank, stemma, notes):
    stemma(blank, "source", "add", "notes", str(notes), "--license", "MIT", "--id-field", "id")
    from assets.builder import build_key

    raw = build_key(blank.spec, blank.store, Key("raw_documents", "notes/1")).artifact
    assert raw.counts["kept"] == 5
    assert raw.facts["license"] == "MIT"


def test_a_path_beside_the_spec_is_written_relative_so_that_a_checkout_can_move(blank, stemma, notes):
    inside = blank.folder / "data" / "notes.jsonl"
    inside.parent.mkdir()
    inside.write_bytes(notes.read_bytes())
    stemma(blank, "source", "add", "inside", str(inside))
    stemma(blank, "source", "add", "outside", str(notes))
    assert blank.spec.source("inside/1").path == "data/notes.jsonl"
    assert blank.spec.source("outside/1").path == str(notes)


def test_a_relative_path_is_that_of_the_shell(blank, stemma, notes, monkeypatch):
    monkeypatch.chdir(notes.parent)
    stemma(blank, "source", "add", "notes", "notes.jsonl")
    assert blank.spec.source("notes/1").path == str(notes)


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("a.jsonl", json.dumps({"text": TEXT}).encode(), "jsonl"),
        ("a.jsonl.gz", gzip.compress(json.dumps({"text": TEXT}).encode(), mtime=0), "jsonl"),
        ("A.JSONL", json.dumps({"text": TEXT}).encode(), "jsonl"),
        ("a.txt", TEXT.encode(), "text"),
        ("a.md", TEXT.encode(), "text"),
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0), "text"),
    ],
)
def test_the_reader_is_told_by_the_suffix(blank, stemma, tmp_path, name, content, reader):
    (tmp_path / name).write_bytes(content)
    stemma(blank, "source", "add", "mine", str(tmp_path / name))
    assert blank.spec.source("mine/1").reader == reader
    assert blank.spec.source("mine/1").passage_bytes == (2000 if reader == "text" else 0)


def test_a_parquet_file_is_read_by_its_column(blank, stemma, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"verse": [TEXT, TEXT + " Again."], "number": [1, 2]}), path)
    said = " ".join(stemma(blank, "source", "add", "mine", str(path), "--text-field", "prose", code=2).split())
    assert "a.parquet: has no column 'prose'; it has verse, number." in said
    assert "--text-field" in said
    stemma(blank, "source", "add", "mine", str(path), "--text-field", "verse")
    source = blank.spec.source("mine/1")
    assert (source.reader, source.text_field) == ("parquet", "verse")


def test_a_directory_is_read_by_the_files_in_it(blank, stemma, tmp_path):
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text(TEXT)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    said = stemma.json(blank, "source", "add", "mine", str(folder))
    assert said["sample"] == [TEXT]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["notes", "{notes}", "--license", "Nonsense"],
            "--license 'Nonsense' names no licence; give an SPDX expression",
        ),
        (["notes", "{notes}", "--license", "BSD"], "--license 'BSD' names no licence"),
        (["poems/1", "{notes}"], "source 'poems/1' exists already; give the new snapshot another name, NAME/SNAPSHOT."),
        (["notes", "{folder}/none.jsonl"], "none.jsonl does not exist."),
        (["notes", "{notes}", "--reader", "xlsx"], "--reader 'xlsx': Input should be 'installed-docs', 'jsonl', 'csv'"),
        (
            ["notes", "{notes}", "--text-field", "body"],
            "none of the first 5 records has a text (no text: notes.jsonl line 1",
        ),
        (["notes", "{folder}/empty.jsonl"], "none of the first 0 records has a text (there is no record)"),
        (["notes", "{folder}/table.xlsx"], "no file with a suffix that is known (.jsonl"),
        (["notes", "{notes}", "--corpus", "a|b"], "partition key 'a|b' is not allowed"),
        (["../notes", "{notes}"], "partition key '../notes' is not allowed"),
        (["notes", "{folder}/empty"], "no file with a suffix that is known"),
    ],
)
def test_wrong_use_is_told_and_the_spec_stays_as_it_was(blank, stemma, notes, arguments, told):
    folder = notes.parent
    (folder / "empty.jsonl").write_text("")
    (folder / "table.xlsx").write_bytes(b"PK\x03\x04\x14\x00\xff\xfe")
    (folder / "empty").mkdir()
    before = blank.spec_path.read_bytes()
    said = stemma(blank, "source", "add", *(a.format(notes=notes, folder=folder) for a in arguments), code=2)
    assert told in " ".join(said.split())
    assert len(said.splitlines()) == 1
    assert blank.spec_path.read_bytes() == before
    assert sorted(os.listdir(blank.folder)) == ["letters.jsonl", "poems.jsonl", "stemma.toml"], (
        "nothing is left beside it"
    )


def test_a_licence_of_several_is_an_expression(blank, stemma, notes):
    stemma(blank, "source", "add", "notes", str(notes), "--license", "MIT OR Apache-2.0")
    assert blank.spec.source("notes/1").license == "MIT OR Apache-2.0"


@pytest.mark.parametrize("licence", ["LicenseRef-ours", "LicenseRef-unstated", "mit", "GPLv3+"])
def test_a_licence_of_ones_own_and_the_names_that_people_write_are_taken(blank, stemma, notes, licence):
    stemma(blank, "source", "add", "notes", str(notes), "--license", licence)
    assert blank.spec.source("notes/1").license == licence


def test_comments_stay_above_the_tables_that_they_head(blank, stemma, notes):
    """A comment under the last line of a table is its own; one after a blank line heads what comes next."""
    blank.edit("[cleaning.plain]", "# -- cleaning: Gopher,\n#    for verse\n\n[cleaning.plain]  # ours")
    blank.edit('license = "CC-BY-4.0"', 'license = "CC-BY-4.0"  # asked for')
    blank.edit("max_steps = 10\n", "max_steps = 10\n# not more\n\n# the end\n")
    before = blank.spec_path.read_text()
    stemma(blank, "source", "add", "notes", str(notes), "--corpus", "mine")
    after = blank.spec_path.read_text()
    assert '\n\n[sources."notes/1"]\n' in after
    assert after.index('[sources."notes/1"]') < after.index("# -- cleaning")
    assert "# -- cleaning: Gopher,\n#    for verse\n\n[cleaning.plain]  # ours\n" in after
    assert "max_steps = 10\n# not more\n" in after
    lines = before.splitlines()
    positions = [after.splitlines().index(line) for line in lines if lines.count(line) == 1]
    assert positions == sorted(positions), "what was there stays in its order"


def test_tables_are_parted_by_a_blank_line(blank, stemma, notes):
    stemma(blank, "source", "add", "notes", str(notes), "--corpus", "mine")
    lines = blank.spec_path.read_text().splitlines()
    new = {
        '[sources."notes/1"]',
        "[corpora.mine]",
        "[vocabularies.mine-vocabulary]",
        "[suites.mine-suite]",
        "[runs.mine]",
    }
    assert new <= set(lines)
    assert [line for line in new if lines[lines.index(line) - 1]] == []


def test_a_spec_of_windows_keeps_its_line_ends(blank, stemma, notes):
    blank.spec_path.write_bytes(blank.spec_path.read_bytes().replace(b"\n", b"\r\n"))
    stemma(blank, "source", "add", "notes", str(notes))
    data = blank.spec_path.read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") > 60


def test_the_sample_is_shown_as_data(blank, stemma, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"text": "[bold]not[/] [red]markup[/red] \x1b[31mnor colour\x1b[0m"}) + "\n")
    said = stemma(blank, "source", "add", "odd", str(path))
    assert "[bold]not[/] [red]markup[/red]" in " ".join(said.split())
    assert "\x1b[31m" not in said, "an escape of the data must not reach the terminal"


def test_records_without_text_are_passed_over_in_the_sample(blank, stemma, tmp_path):
    path = tmp_path / "gaps.jsonl"
    path.write_text('{"body": 1}\nnot json\n' + json.dumps({"text": "  "}) + "\n" + json.dumps({"text": TEXT}) + "\n")
    assert stemma.json(blank, "source", "add", "gaps", str(path))["sample"] == [TEXT]


# -- list ---------------------------------------------------------------------------------------------------------------


def test_every_source_is_listed_with_what_was_taken_in(library, stemma):
    rows = stemma.json(library, "source", "list")
    assert rows == [
        {"source": "poems/1", "reader": "jsonl", "path": "poems.jsonl", "license": "CC0-1.0", "corpora": ["small"], "documents": 24},
        {"source": "letters/1", "reader": "jsonl", "path": "letters.jsonl", "license": "CC-BY-4.0", "corpora": ["small"], "documents": 20},
    ]  # fmt: skip


def test_a_source_that_was_not_taken_in_has_no_number(blank, stemma, notes):
    stemma(blank, "source", "add", "notes", str(notes))
    rows = {row["source"]: row for row in stemma.json(blank, "source", "list")}
    assert rows["notes/1"]["documents"] is None
    assert (rows["notes/1"]["corpora"], rows["notes/1"]["license"]) == (["mine"], "")
    assert "not taken in" in stemma(blank, "source", "list")


def test_a_licence_that_only_the_data_state_is_told_once_they_were_read(blank, stemma):
    blank.edit('license = "CC0-1.0"', 'license_field = "rights"')
    lines = [
        json.dumps({"id": "a", "text": TEXT, "rights": "MIT"}),
        json.dumps({"id": "b", "text": TEXT, "rights": "0BSD"}),
    ]
    (blank.folder / "poems.jsonl").write_text("\n".join(lines) + "\n")
    from assets.builder import build_key

    assert stemma.json(blank, "source", "list")[0]["license"] == ""
    build_key(blank.spec, blank.store, Key("raw_documents", "poems/1"))
    assert stemma.json(blank, "source", "list")[0]["license"] == "0BSD AND MIT"
