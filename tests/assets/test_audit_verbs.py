"""stemma audit on a store without a trained model: every way to name a document, planted faults, what people read."""

import shutil
import textwrap

import pytest

from pipelines.provenance.manifest import Key
from pipelines.provenance.trace import Tracer


def plain(text: str) -> str:
    return " ".join(text.split())


def documents(place, asset, partition):
    return place.store.open(asset, partition).table("documents.arrow").to_pylist()


def kept(stemma, place, n=999):
    """Training documents with their text, as show gives them."""
    return stemma.json(place, "show", "training_documents", "small", "-n", str(n))


# -- document --------------------------------------------------------------------------------------------------------


def test_id_uri_whole_text_and_passage_name_the_same_document(library, stemma):
    uris = {row["doc_id"].hex(): row["uri"] for row in documents(library, "raw_documents", "poems/1")}
    row = next(r for r in kept(stemma, library) if r["partition"] == "poems/1")
    words = row["after"].split()
    ways = [row["doc_id"], uris[row["doc_id"]], row["after"], " ".join(words[5:20])]
    answers = [stemma.json(library, "audit", "document", way) for way in ways]
    assert [[a["doc_id"] for a in answer] for answer in answers[:3]] == [[row["doc_id"]]] * 3
    assert row["doc_id"] in [a["doc_id"] for a in answers[3]]
    assert answers[0] == answers[1] == answers[2]


def test_a_passage_that_was_wrapped_anew_is_found(library, stemma):
    """Copied out of a terminal or a mail, with other line breaks and blanks than the text has."""
    row = kept(stemma, library, 1)[0]
    wrapped = "  " + textwrap.fill(row["after"], 30, subsequent_indent="\t") + "\n"
    assert [a["doc_id"] for a in stemma.json(library, "audit", "document", wrapped)] == [row["doc_id"]]


def test_text_that_cleaning_changed_is_found_before_and_after(library, stemma):
    mail = next(r for r in documents(library, "raw_documents", "letters/1") if r["key"] == "mail")["doc_id"].hex()
    rows = stemma.json(library, "show", "clean_documents", "letters/1", "-n", "99")
    (row,) = (r for r in rows if r["doc_id"] == mail)
    for text in (row["before"], row["after"]):
        tail = " ".join(text.split()[-9:])
        assert [a["doc_id"] for a in stemma.json(library, "audit", "document", tail)] == [mail]


def test_the_answer_tells_source_place_licence_fates_and_readings(library, stemma):
    row = next(r for r in kept(stemma, library) if r["partition"] == "letters/1")
    raw = next(r for r in documents(library, "raw_documents", "letters/1") if r["doc_id"].hex() == row["doc_id"])
    (answer,) = stemma.json(library, "audit", "document", row["doc_id"])
    for name, value in {
        "source": "letters/1",
        "file": "letters.jsonl",
        "licence": "CC-BY-4.0",
        "key": raw["key"],
    }.items():
        assert answer[name] == value
    assert answer["position"] == raw["position"]
    stages = [fate["stage"] for fate in answer["fates"]]
    assert stages[:3] == ["raw_documents", "clean_documents", "signatures"]
    assert stages[-1] == "training_documents"
    assert {fate["fate"] for fate in answer["fates"]} == {"kept"}
    (model,) = answer["read_by"]
    tracer = Tracer(library.store.open("pretrained_model", "demo"))
    reads = tracer.reads(bytes.fromhex(row["doc_id"]))
    assert model["checkpoint"] == "demo"
    assert [(r["step"], r["slot"], r["first_token"], r["tokens"]) for r in model["reads"]] == [
        (r.step, r.slot, r.start, r.length) for r in reads
    ]


@pytest.mark.parametrize(
    ("key", "last", "because"),
    [
        ("twin", ("unique_documents", "merged"), "Jaccard 1.00, exact"),
        ("short", ("clean_documents", "dropped"), "too_short (2)"),
    ],
)
def test_a_document_that_went_was_read_by_nobody_and_the_reason_is_told(library, stemma, key, last, because):
    doc_id = next(r for r in documents(library, "raw_documents", "letters/1") if r["key"] == key)["doc_id"].hex()
    (answer,) = stemma.json(library, "audit", "document", doc_id)
    assert (answer["fates"][-1]["stage"], answer["fates"][-1]["fate"]) == last
    assert answer["read_by"] == [{"checkpoint": "demo", "reads": []}]
    said = plain(stemma(library, "audit", "document", doc_id))
    assert because in said
    assert "read by demo in 0 sequences, steps: never" in said


def test_a_document_that_was_merged_stands_beside_the_one_that_stays(library, stemma, monkeypatch):
    from assets import cli_audit_document

    doc_id = next(r for r in documents(library, "raw_documents", "letters/1") if r["key"] == "twin")["doc_id"].hex()
    (answer,) = stemma.json(library, "audit", "document", doc_id)
    (survivor,) = answer["survivors"]
    assert survivor["text"] == answer["text"] != ""
    assert next(f for f in answer["fates"] if f["fate"] == "merged")["survivor"] == survivor["doc_id"]
    assert f"the same {len(answer['text']):,} characters" in plain(stemma(library, "audit", "document", doc_id))

    def altered(artifacts, ids):
        return {one: "The same line.\nOnly [red]here[/]." if one.hex() == doc_id else "The same line." for one in ids}

    monkeypatch.setattr(cli_audit_document, "texts_of", altered)
    said = stemma(library, "audit", "document", doc_id)
    assert "which stays" in plain(said)
    (line,) = (line for line in said.splitlines() if "≠" in line)
    assert "Only [red]here[/]." in line


def test_a_record_that_could_not_be_read_is_found_by_its_id_alone(library, stemma):
    (row,) = stemma.json(library, "show", "raw_documents", "letters/1", "--dropped", "any")
    (answer,) = stemma.json(library, "audit", "document", row["doc_id"])
    assert [fate["fate"] for fate in answer["fates"]] == ["quarantined"]
    assert "uri" not in answer
    assert "not JSON: letters.jsonl line 21" in plain(stemma(library, "audit", "document", row["doc_id"]))


def test_text_that_looks_like_markup_is_no_markup_in_the_answer(library, stemma):
    passage = "The sign said [bold]no entry[/] and [/red] | nothing else"
    (answer,) = stemma.json(library, "audit", "document", passage)
    assert answer["key"] == "markup"
    assert answer["doc_id"] in stemma(library, "audit", "document", passage)


@pytest.mark.parametrize("needle", ["0" * 32, "letters.jsonl#L999", "no such words stand anywhere in this whole store"])
def test_what_is_not_there_is_wrong_use_with_the_ways_to_ask(library, stemma, needle):
    said = plain(stemma(library, "audit", "document", needle, code=2))
    assert f"no document {needle!r} in" in said
    assert "an id of 32 hexadecimal digits, a uri, or a passage of at least eight words" in said


def test_seven_words_of_a_longer_text_are_too_few(library, stemma):
    words = kept(stemma, library, 1)[0]["after"].split()
    assert "at least eight words" in plain(stemma(library, "audit", "document", " ".join(words[:7]), code=2))
    assert stemma.json(library, "audit", "document", " ".join(words[:14]))


def test_a_whole_text_may_be_shorter_than_a_passage(library, stemma):
    (answer,) = stemma.json(library, "audit", "document", "Too short.")
    assert answer["key"] == "short"


# -- step ----------------------------------------------------------------------------------------------------------


def test_every_step_lists_what_the_plan_gives_it(library, stemma):
    tracer = Tracer(library.store.open("pretrained_model", "demo"))
    for step in (1, 12):
        answer = stemma.json(library, "audit", "step", "demo", str(step))
        assert (answer["step"], answer["slots"]) == (step, 4)
        assert [(r["slot"], r["doc_id"], r["first_token"], r["tokens"]) for r in answer["documents"]] == [
            (r.slot, r.doc_id.hex(), r.start, r.length) for r in tracer.documents(step)
        ]
        assert sum(r["tokens"] for r in answer["documents"]) == 4 * 17, "a sequence of 16 targets reads 17 tokens"


def test_a_step_says_how_many_sequences_and_targets_it_had(library, stemma):
    said = plain(stemma(library, "audit", "step", "demo", "3"))
    assert "pretrained_model[demo] step 3 of 12: 4 sequences, 64 targets," in said


@pytest.mark.parametrize("step", ["13", "999"])
def test_a_step_that_was_never_made_is_wrong_use(library, stemma, step):
    assert f"read steps 1 to 12, not {step}" in plain(stemma(library, "audit", "step", "demo", step, code=2))


def test_steps_are_counted_from_one(library, stemma):
    assert "0 is not in the range x>=1" in stemma(library, "audit", "step", "demo", "0", code=2)


# -- checkpoint ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_told_with_sources_licences_and_lineage(library, stemma):
    answer = stemma.json(library, "audit", "checkpoint", "demo")
    model = library.store.open("pretrained_model", "demo")
    assert answer["checkpoint"] == {**model.key._asdict(), "digest": model.digest, "content": model.content}
    assert answer["consumption_recomputed"] == model.facts["consumption"]
    assert {(s["part"], s["licence"]) for s in answer["sources"]} == {
        ("poems/1", "CC0-1.0"),
        ("letters/1", "CC-BY-4.0"),
    }
    assert sum(s["slots"] for s in answer["sources"]) == 48
    named = {(a["asset"], a["partition"]) for a in answer["lineage"] if not a["part"]}
    made = {(key.asset, key.partition) for key in library.store.keys() if not key.part}
    assert named == {key for key in made if key[0] != "source_profile"}, "nothing is built on a profile"


def test_the_head_names_asset_and_partition(library, stemma):
    """Brackets would be markup to the terminal: pretrained_model[demo] must not lose its name."""
    digest = library.store.open("pretrained_model", "demo").digest
    assert f"pretrained_model[demo] manifest {digest}" in plain(stemma(library, "audit", "checkpoint", "demo"))
    assert "mixture[demo] " in plain(stemma(library, "show", "mixture", "demo"))


def test_shares_by_licence_add_up(library, stemma):
    lines = [line.split() for line in stemma(library, "audit", "checkpoint", "demo").splitlines()]
    rows = {
        line[1]: (int(line[3]), line[5])
        for line in lines
        if line[1:2] in (["CC0-1.0"], ["CC-BY-4.0"]) and "%" in line[5]
    }
    assert sum(number for number, _ in rows.values()) == 48
    for number, share in rows.values():
        assert share == f"{number / 48:.1%}"


def test_a_checkpoint_that_was_fed_something_else_is_exit_code_4(own_library, stemma):
    """The trainer says one thing, the shards and the plan another: the digests differ, and both are told."""
    true = own_library.store.open("pretrained_model", "demo").facts["consumption"]
    mixed = own_library.store.open("mixture", "demo")
    own_library.seal(
        Key("pretrained_model", "demo"),
        lambda draft: draft.path("model.safetensors").write_bytes(b"other") and None,
        [mixed],
        facts={"step": 12, "consumption": "f" * 64},
    )
    said = plain(stemma(own_library, "audit", "checkpoint", "demo", code=4))
    assert f"consumption {true}: recomputed from the shards, but the trainer fed {'f' * 64}" in said
    answer = stemma.json(own_library, "audit", "checkpoint", "demo", code=4)
    assert (answer["consumption_recomputed"], answer["facts"]["consumption"]) == (true, "f" * 64)


def test_a_bare_file_is_known_by_its_bytes(library, stemma, tmp_path):
    model = library.store.open("pretrained_model", "demo")
    bare = tmp_path / "renamed.safetensors"
    shutil.copyfile(model.local("model.safetensors"), bare)
    assert stemma.json(library, "audit", "checkpoint", str(bare))["checkpoint"]["digest"] == model.digest
    assert stemma.json(library, "audit", "step", str(bare), "1")["checkpoint"]["digest"] == model.digest


def test_a_superseded_checkpoint_is_known_by_its_bytes_too(own_library, stemma, tmp_path):
    """Somebody deployed it before the run was made again; its file still tells what it is."""
    old = own_library.store.open("pretrained_model", "demo")
    bare = tmp_path / "old.safetensors"
    shutil.copyfile(old.local("model.safetensors"), bare)
    own_library.seal(
        Key("pretrained_model", "demo"),
        lambda draft: draft.path("model.safetensors").write_bytes(b"newer") and None,
        [own_library.store.open("mixture", "demo")],
        facts=old.facts,
    )
    assert stemma.json(own_library, "audit", "checkpoint", str(bare))["checkpoint"]["digest"] == old.digest


def test_of_several_with_the_same_weights_the_published_one_is_meant(own_library, stemma, tmp_path):
    """Made again with another evaluation: the same weights, other facts."""
    old = own_library.store.open("pretrained_model", "demo")
    bare = tmp_path / "model.safetensors"
    shutil.copyfile(old.local("model.safetensors"), bare)
    for bpb in (2.25, 2.0, 1.75):
        new = own_library.seal(
            Key("pretrained_model", "demo"),
            lambda draft: shutil.copyfile(bare, draft.path("model.safetensors")) and None,
            [own_library.store.open("mixture", "demo")],
            facts=old.facts | {"heldout_bpb": bpb},
        )
        answer = stemma.json(own_library, "audit", "checkpoint", str(bare))
        assert answer["checkpoint"]["digest"] == new.digest != old.digest


def test_a_file_of_another_store_or_that_was_changed_is_told(library, stemma, tmp_path):
    bare = tmp_path / "model.safetensors"
    bare.write_bytes(b"no weight")
    said = plain(stemma(library, "audit", "checkpoint", str(bare), code=1))
    assert "it is from another store, or it was changed" in said


@pytest.mark.parametrize("verb", [("checkpoint", "large"), ("step", "large", "1")])
def test_an_unknown_checkpoint_is_wrong_use(library, stemma, verb):
    said = plain(stemma(library, "audit", *verb, code=2))
    assert "large" in said
    assert "demo" in said, "those that there are"


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_sound_store_is_counted(library, stemma):
    answer = stemma.json(library, "audit", "verify")
    assert (answer["sound"], answer["problems"], answer["unfinished"]) == (True, [], [])
    files = list(library.store.files.walk("artifacts"))
    assert 0 < answer["files"] <= len(files)
    assert 0 < answer["bytes"] <= sum(library.store.files.size(path) for path in files)
    assert "verified" in stemma(library, "audit", "verify")


@pytest.mark.parametrize("file", ["tokenizer.json", "plan.json", "texts.arrow"])
def test_one_bit_is_found_and_the_file_named(own_library, stemma, file):
    path = next(path for path in sorted((own_library.url / "artifacts").rglob(file)))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    answer = stemma.json(own_library, "audit", "verify", code=4)
    assert not answer["sound"]
    assert any(file in problem for problem in answer["problems"])
    assert f"{len(answer['problems'])} problems" in stemma(own_library, "audit", "verify", code=4)


def test_an_attempt_that_never_ended_is_told_and_is_no_problem(own_library, stemma):
    draft = own_library.store.draft(Key("vocabulary", "words"), "1", {}, [])
    draft.path("half.txt").write_text("half")
    answer = stemma.json(own_library, "audit", "verify")
    assert answer["sound"]
    assert any(draft.prefix in line for line in answer["unfinished"])
    assert "unfinished, no evidence" in stemma(own_library, "audit", "verify")


def test_a_removed_artifact_is_a_problem(own_library, stemma):
    shutil.rmtree(own_library.url / "artifacts" / "vocabulary")
    answer = stemma.json(own_library, "audit", "verify", code=4)
    assert any("vocabulary" in problem for problem in answer["problems"])
