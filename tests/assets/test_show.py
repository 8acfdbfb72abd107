"""stemma show: documents that stayed or went, beside what was changed; rows, facts and files of everything else."""

import re

import pytest

from pipelines.provenance.manifest import Key


def test_kept_documents_come_with_their_text(library, stemma):
    rows = stemma.json(library, "show", "clean_documents", "poems/1", "-n", "3")
    assert len(rows) == 3
    assert {row["fate"] for row in rows} == {"kept"}
    for row in rows:
        assert row["partition"] == "poems/1"
        assert re.fullmatch("[0-9a-f]{32}", row["doc_id"])
        assert row["before"] == row["after"], "nothing in these was changed"
        assert row["survivor_text"] is None


def test_a_changed_document_has_both_texts(library, stemma):
    rows = stemma.json(library, "show", "clean_documents", "letters/1", "-n", "100")
    (masked,) = (row for row in rows if row["before"] != row["after"])
    assert "m.clerk@abbey.example.org" in masked["before"]
    assert "m.clerk@abbey.example.org" not in masked["after"]


def test_before_and_after_stand_side_by_side(library, stemma):
    said = stemma(library, "show", "clean_documents", "letters/1", "-n", "100")
    (heads,) = (line for line in said.splitlines() if " before " in line)
    assert " after " in heads
    assert heads.index(" before ") < heads.index(" after ")


def test_an_unchanged_document_stands_alone(library, stemma):
    said = stemma(library, "show", "clean_documents", "poems/1", "-n", "1")
    assert " text " in said
    assert " before " not in said


def test_the_number_of_documents_is_the_limit(library, stemma):
    for limit in (1, 5, 24):
        assert len(stemma.json(library, "show", "raw_documents", "poems/1", "-n", str(limit))) == limit
    assert len(stemma.json(library, "show", "raw_documents", "poems/1", "-n", "999")) == 24
    assert len(stemma.json(library, "show", "raw_documents", "poems/1")) == 5


def test_without_a_partition_all_of_them_are_shown(library, stemma):
    rows = stemma.json(library, "show", "raw_documents", "-n", "999")
    assert {row["partition"] for row in rows} == {"poems/1", "letters/1"}
    assert len(rows) == 44


# -- what went ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asset", "reason", "number"),
    [
        ("clean_documents", "too_short", 1),
        ("clean_documents", "too_", 1),  # its beginning suffices
        ("clean_documents", "dropped", 1),
        ("clean_documents", "any", 1),
        ("raw_documents", "quarantined", 1),
        ("raw_documents", "not JSON", 1),
        ("unique_documents", "merged", 1),
        ("unique_documents", "exact", 1),  # a method is a reason, too
        ("heldout_documents", "held_out", 12),
        ("training_documents", "overlap", 4),
        ("training_documents", "any", 16),
    ],
)
def test_documents_are_found_by_what_became_of_them(library, stemma, asset, reason, number):
    rows = stemma.json(library, "show", asset, "--dropped", reason, "-n", "999")
    assert len(rows) == number
    assert "kept" not in {row["fate"] for row in rows}


def test_a_dropped_document_is_shown_with_the_value_that_broke_the_rule(library, stemma):
    (row,) = stemma.json(library, "show", "clean_documents", "letters/1", "--dropped", "too_short")
    assert (row["fate"], row["reason"], row["value"]) == ("dropped", "too_short", 2.0)
    assert row["before"] == "Too short."
    assert row["after"] is None
    assert "dropped too_short (2)" in stemma(library, "show", "clean_documents", "--dropped", "too_short")


def test_a_twin_is_shown_beside_its_survivor(library, stemma, worlds):
    (row,) = stemma.json(library, "show", "unique_documents", "small", "--dropped", "merged")
    assert (row["partition"], row["jaccard"], row["method"]) == ("letters/1", 1.0, "exact")
    assert row["survivor_text"] == row["before"] == worlds.prose(3)
    said = stemma(library, "show", "unique_documents", "small", "--dropped", "merged")
    assert f"into {row['survivor'][:12]}…, Jaccard 1.00" in " ".join(said.split())
    (heads,) = (line for line in said.splitlines() if "this document" in line)
    assert "survivor" in heads


def test_bytes_that_could_not_be_read_have_no_text_and_say_so(library, stemma):
    (row,) = stemma.json(library, "show", "raw_documents", "letters/1", "--dropped", "quarantined")
    assert (row["before"], row["after"]) == (None, None)
    assert row["reason"].startswith("not JSON: letters.jsonl line 21 (bytes ")
    assert "its bytes could not be read" in stemma(library, "show", "raw_documents", "letters/1", "--dropped", "any")


def test_a_reason_that_nothing_went_for_lists_those_there_are(library, stemma):
    said = " ".join(stemma(library, "show", "training_documents", "--dropped", "too_short", code=1).split())
    assert "training_documents: no document dropped as 'too_short'. There are: held_out (12), dropped: overlap" in said


@pytest.mark.parametrize("asset", ["raw_documents", "clean_documents", "unique_documents", "training_documents"])
def test_every_reason_that_is_listed_can_be_asked_for(library, stemma, asset):
    """A person copies it from the message, number left out."""
    said = " ".join(stemma(library, "show", asset, "--dropped", "nothing", code=1).split())
    listed = re.findall(r"([^,]+?) \((\d+)\)", said.split("There are: ")[1])
    assert listed
    for reason, number in listed:
        rows = stemma.json(library, "show", asset, "--dropped", reason.strip(), "-n", "999")
        assert len(rows) == int(number)


def test_where_nothing_went_it_says_so(library, stemma):
    said = " ".join(stemma(library, "show", "clean_documents", "poems/1", "--dropped", "any", code=1).split())
    assert "There are: none that went." in said


# -- data is never markup -------------------------------------------------------------------------------------------


def test_text_that_looks_like_markup_is_shown_letter_by_letter(library, stemma):
    said = stemma(library, "show", "clean_documents", "letters/1", "-n", "100")
    flat = re.sub(r"[│\s]+", " ", said)
    assert "The sign said [bold]no entry[/] and [/red] | nothing else | at all." in flat


def test_a_reason_that_looks_like_markup_is_told_as_it_is(blank, stemma):
    import pyarrow as pa

    from pipelines.provenance import fates

    def write(draft):
        rows = fates.FateRows()
        rows.add(b"x" * 16, fates.DROPPED, "overlap:[/red]quiz[bold]", 0.5)
        draft.write(fates.FILE, rows.table())
        draft.write(
            "texts.arrow", pa.table({"doc_id": pa.array([], pa.binary(16)), "text": pa.array([], pa.large_string())})
        )

    blank.seal(Key("training_documents", "small"), write)
    said = stemma(blank, "show", "training_documents", "--dropped", "any")
    assert "dropped overlap:[/red]quiz[bold] (0.5)" in said
    assert "[/red]quiz[bold]" in stemma(blank, "show", "training_documents", "--dropped", "nothing", code=1)


def test_a_long_text_is_cut_in_the_terminal_and_whole_in_json(blank, stemma):
    import json

    (blank.folder / "poems.jsonl").write_text(json.dumps({"id": "long", "text": "word " * 600}) + "\n")
    from assets.builder import build_key

    build_key(blank.spec, blank.store, Key("raw_documents", "poems/1"))
    (row,) = stemma.json(blank, "show", "raw_documents", "poems/1")
    assert len(row["after"]) == 3000
    said = stemma(blank, "show", "raw_documents", "poems/1")
    assert "(3,000 characters)" in said
    assert said.count("word") == 240


# -- everything else --------------------------------------------------------------------------------------------------


def test_an_asset_without_documents_shows_facts_files_and_first_rows(library, stemma):
    found = stemma.json(library, "show", "mixture", "demo", "-n", "1")
    mixed = library.store.open("mixture", "demo")
    assert (found["asset"], found["partition"], found["digest"]) == ("mixture", "demo", mixed.digest)
    assert found["counts"] == mixed.counts
    assert found["facts"] == mixed.facts
    assert found["files"] == ["plan.json", "sources.arrow"]
    assert [row["part"] for row in found["rows"]["sources.arrow"]] == ["poems/1"]
    two = stemma.json(library, "show", "mixture", "demo")
    assert [row["licence"] for row in two["rows"]["sources.arrow"]] == ["CC0-1.0", "CC-BY-4.0"]


def test_ids_are_hexadecimal_in_json_and_in_tables(library, stemma):
    items = stemma.json(library, "show", "benchmark_prompts", "quiz")["rows"]["items.arrow"]
    assert items
    assert all(re.fullmatch("[0-9a-f]{32}", item["doc_id"]) for item in items)
    assert items[0]["item_id"][:8] in stemma(library, "show", "benchmark_prompts", "quiz")


def test_parquet_rows_are_shown_like_others(blank, stemma):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(draft):
        pq.write_table(pa.table({"answer": [f"a{n}" for n in range(9)]}), draft.path("bpb.parquet"))

    blank.seal(Key("benchmark_samples", "demo"), write)
    found = stemma.json(blank, "show", "benchmark_samples", "demo", "-n", "2")
    assert found["rows"] == {"bpb.parquet": [{"answer": "a0"}, {"answer": "a1"}]}


def test_a_model_card_is_rendered(blank, stemma):
    text = "# The card\n\n| source | licence |\n|---|---|\n| poems/1 | MIT |\n"
    blank.seal(Key("model_card", "demo"), lambda draft: draft.path("card.md").write_text(text) and None)
    said = stemma(blank, "show", "model_card", "demo")
    assert "The card" in said
    assert "# The card" not in said
    assert "poems/1" in said


def test_an_empty_table_has_no_rows_and_is_no_error(blank, stemma):
    import pyarrow as pa

    blank.seal(
        Key("mixture", "demo"),
        lambda draft: draft.write("sources.arrow", pa.table({"part": pa.array([], pa.string())})),
    )
    assert stemma.json(blank, "show", "mixture", "demo")["rows"] == {"sources.arrow": []}
    assert "files: sources.arrow" in stemma(blank, "show", "mixture", "demo")


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["clean_docs"], "clean_docs is not in"),
        (["clean_docs"], "there are benchmark_prompts, clean_documents, duplicate_clusters"),
        (["clean_documents", "poems/2"], "its partitions are letters/1, poems/1."),
        (["clean_documents", "poems"], "clean_documents poems is not in"),
        (["clean_documents", "-n", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_use_lists_what_there_is(library, stemma, arguments, told):
    assert told in " ".join(re.sub("[│╭╰─]+", " ", stemma(library, "show", *arguments, code=2)).split())


def test_an_empty_store_says_that_there_is_nothing(blank, stemma):
    assert "there are none" in " ".join(stemma(blank, "show", "clean_documents", code=2).split())
