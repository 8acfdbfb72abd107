"""The audit bundle in the hands of somebody who trusts nobody: what is changed, missing or made up is found."""

import json
import shutil

import pyarrow as pa
import pytest
from released import LENGTHS, ids, part, sealed, small_run

from evals.bundle import Bundle, BundleRecipe, audit_bundle, fates_by_stage, pretrained
from pipelines.provenance.manifest import Key, ManifestError, file_entry
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.store import Store
from pipelines.provenance.tables import read_table, write_table


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("run"))


def bundled(store, model, folder, name="demo"):
    """A bundle copied out of the store."""
    made = audit_bundle(model, BundleRecipe(), store.draft(Key("audit_bundle", name), "1", {}, [model]))
    for file in made.names():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.local(file), folder / file)
    return Bundle(folder)


@pytest.fixture
def bundle(trained, tmp_path):
    store, _, model = trained
    return bundled(store, model, tmp_path / "bundle")


def edited(bundle, change):
    """``bundle.json`` changed by hand, in the form in which it was written."""
    path = bundle.directory / "bundle.json"
    about = json.loads(path.read_bytes())
    change(about)
    path.write_bytes(canonical_json(about))
    return Bundle(bundle.directory)


# -- what is there ---------------------------------------------------------------------------------------------


def test_a_bundle_holds_nothing_but_order_places_and_manifests(bundle):
    names = sorted(p.relative_to(bundle.directory).as_posix() for p in bundle.directory.rglob("*") if p.is_file())
    others = [name for name in names if not name.startswith("manifests/")]
    assert others == ["bundle.json", "documents/00000.arrow", "documents/00001.arrow", "parts.arrow", "plan.json"]
    assert sorted(bundle.about["files"]) == others[1:]


def test_a_bundle_is_read_wherever_it_lies(bundle, tmp_path):
    before = bundle.documents(3)
    moved = tmp_path / "elsewhere"
    shutil.move(bundle.directory, moved)
    assert Bundle(moved).documents(3) == before
    assert Bundle(moved).verify() == 8


def test_every_document_stands_in_the_index_at_its_place_in_the_stream(bundle):
    for number, (name, lengths) in enumerate(LENGTHS.items()):
        rows = read_table(bundle.directory / f"documents/{number:05d}.arrow").to_pylist()
        assert [row["doc_id"] for row in rows] == ids(name)
        assert [row["length"] for row in rows] == lengths
        assert [row["start"] for row in rows] == [sum(lengths[:i]) for i in range(len(lengths))]
    assert read_table(bundle.directory / "parts.arrow").to_pylist()[1] == {
        "part": "docs.b/1", "file": "documents/00001.arrow", "tokens": 122, "sequences": 15
    }  # fmt: skip


def test_all_steps_together_read_every_slot_once(bundle, trained):
    _, plan, _ = trained
    slots = [read.slot for step in range(1, 7) for read in bundle.documents(step)]
    assert sorted(set(slots)) == list(range(plan.num_slots))
    for step in range(1, 7):
        lengths = {}
        for read in bundle.documents(step):
            lengths[read.slot] = lengths.get(read.slot, 0) + read.length
        assert set(lengths.values()) == {9}  # T + 1 tokens of every sequence, whichever documents they are of


# -- what was changed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["plan.json", "parts.arrow", "documents/00000.arrow", "documents/00001.arrow"])
def test_a_removed_file_is_named(bundle, victim):
    (bundle.directory / victim).unlink()
    with pytest.raises(ManifestError, match=rf"{victim} is missing, or is not the file that was bundled"):
        bundle.verify()


def test_a_file_cut_in_half_is_named(bundle):
    path = bundle.directory / "documents/00001.arrow"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ManifestError, match=r"documents/00001\.arrow is missing, or is not the file"):
        bundle.verify()


def test_a_manifest_under_another_name_is_named(bundle):
    path = min((bundle.directory / "manifests").iterdir())
    path.rename(path.with_stem("f" * 64))
    with pytest.raises(ManifestError, match=rf"{'f' * 64}\.json: has blake3 .*; the file was changed"):
        bundle.verify()


def test_a_manifest_that_was_written_anew_is_missing_where_it_was(bundle):
    """Changed and renamed to its new digest: whoever was made from it still names the old one."""
    for path in (bundle.directory / "manifests").iterdir():
        fields = json.loads(path.read_bytes())
        if fields["asset"] == "mixture":
            fields["recipe"]["learning_rate"] = 0.5
            data = canonical_json(fields)
            path.unlink()
            (path.parent / f"{digest(data)}.json").write_bytes(data)
    with pytest.raises(ManifestError, match=r"was made from .*, whose manifest is missing"):
        bundle.verify()


def test_the_checkpoints_own_manifest_must_be_there(bundle):
    root = bundle.about["checkpoint"]["digest"]
    (bundle.directory / "manifests" / f"{root}.json").unlink()
    with pytest.raises(ManifestError, match=rf"the manifest of the checkpoint, {root[:12]}…, is missing or another's"):
        bundle.verify()


def test_another_content_of_the_checkpoint_is_noticed(bundle):
    found = edited(bundle, lambda about: about["checkpoint"].update(content="0" * 64))
    with pytest.raises(ManifestError, match="the manifest of the checkpoint"):
        found.verify()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda about: about["facts"].update(heldout_bpb=0.9), "facts"),
        (lambda about: about["facts"].pop("unigram_bpb"), "facts"),
        (lambda about: about.update(step=5), "step"),
        (lambda about: about.update(step=None), "step"),
        (lambda about: about["fates"][0].update(dropped=0, kept=14), "fates"),
        (lambda about: about["fates"].clear(), "fates"),
        (lambda about: about["checkpoint"].update(partition="other"), "checkpoint"),
        (lambda about: about["checkpoint"].update(asset="finetuned_model"), "checkpoint"),
    ],
)
def test_what_bundle_json_says_is_what_the_manifests_say(bundle, change, field):
    """It is the file that people read first: figures in it that no manifest has would be believed."""
    found = edited(bundle, change)
    with pytest.raises(
        ManifestError, match=rf"bundle\.json: its {field} .* not those of the manifests; it was changed"
    ):
        found.verify()


@pytest.mark.parametrize("victim", ["plan.json", "parts.arrow", "documents/00001.arrow"])
def test_a_file_is_not_got_rid_of_by_striking_it_off_the_list(bundle, victim):
    found = edited(bundle, lambda about: about["files"].pop(victim))
    (bundle.directory / victim).unlink()
    with pytest.raises(ManifestError, match=rf"{victim}"):
        found.verify()


def test_a_plan_of_another_run_is_noticed_though_the_list_agrees(bundle):
    """The digest in bundle.json was changed along with it; the mixture's manifest names the right one."""
    path = bundle.directory / "plan.json"
    plan = json.loads(path.read_bytes())
    plan["seed"] += 1
    path.write_bytes(canonical_json(plan))
    found = edited(
        bundle, lambda about: about["files"].update({"plan.json": file_entry(bundle.directory, "plan.json").blake3})
    )
    with pytest.raises(ManifestError, match=r"plan\.json is not the plan of the mixture in this family tree"):
        found.verify()


def test_an_index_that_leaves_out_a_document_is_noticed_though_the_list_agrees(bundle):
    """The tokens of every part are counted in its manifest: an index of fewer hides somebody's text."""
    name = "documents/00001.arrow"
    shorter = read_table(bundle.directory / name).slice(1)
    write_table(bundle.directory / "shorter", shorter)  # the old file is still mapped
    (bundle.directory / "shorter").replace(bundle.directory / name)
    found = edited(bundle, lambda about: about["files"].update({name: file_entry(bundle.directory, name).blake3}))
    with pytest.raises(ManifestError, match=r"documents/00001\.arrow: .* 122 tokens"):
        found.verify()


def test_a_directory_that_is_no_bundle_is_told(tmp_path):
    with pytest.raises(ManifestError, match=r"no audit bundle; bundle\.json is missing"):
        Bundle(tmp_path)


# -- models from elsewhere, and fine-tunes ---------------------------------------------------------------------


def test_a_model_from_elsewhere_has_a_bundle_without_an_order(tmp_path):
    store = Store(tmp_path / "store")
    model = sealed(
        store, "pretrained_model", "hub", lambda d: d.path("w").write_bytes(b"w") and None, facts={"step": 3}
    )
    found = bundled(store, model, tmp_path / "bundle")
    assert found.verify() == 1
    assert found.about["files"] == {}
    with pytest.raises(ManifestError, match="has no order of ours; it was not trained here"):
        found.documents(1)


def test_the_bundle_of_a_fine_tune_answers_for_the_steps_of_its_base(trained, tmp_path):
    store, _, model = trained
    tuned = sealed(store, "finetuned_model", "cls", lambda d: None, [model], facts={"task": "classifier", "step": 99})
    found = bundled(store, tuned, tmp_path / "bundle", "cls")
    assert pretrained(tuned).digest == model.digest
    assert (found.about["step"], found.about["facts"]["step"]) == (6, 99)
    assert found.verify() == 9
    assert found.documents(6)
    with pytest.raises(ValueError, match="has read steps 1 to 6, not 7"):
        found.documents(7)


def test_shards_whose_rows_are_not_those_of_the_documents_make_no_bundle(trained, tmp_path):
    """One document more on one side: every place behind it would name the wrong text."""
    store, plan, _ = trained
    name = "docs.b/1"

    def documents(draft):
        def rows(inner):
            found = ids(name)[1:]
            table = {"doc_id": pa.array(found, pa.binary(16))} | {c: ["x"] * 4 for c in ("uri", "file", "licence")}
            inner.write("documents.arrow", pa.table(table))

        return [part(draft, name, [], rows)]

    def shards(draft):
        def rows(inner):
            tokens = pa.array([[0] * n for n in LENGTHS[name]], pa.large_list(pa.uint16()))
            inner.write("shard-00000.arrow", pa.table({"doc_id": pa.array(ids(name), pa.binary(16)), "tokens": tokens}))

        return [part(draft, name, [], rows, counts={"tokens": 122})]

    training = sealed(store, "training_documents", "torn", documents)
    only_b = plan.model_copy(
        update={"parts": plan.parts[1:], "phases": [plan.phases[0].model_copy(update={"slots": [24]})]}
    )
    mixture = sealed(
        store, "mixture", "torn", lambda d: d.write_json("plan.json", only_b.model_dump(mode="json")),
        [sealed(store, "token_shards", "torn", shards, [training])],
    )  # fmt: skip
    model = sealed(store, "pretrained_model", "torn", lambda d: None, [mixture])
    with pytest.raises(ManifestError, match=r"its rows are not those of training_documents.*; remake token_shards"):
        bundled(store, model, tmp_path / "bundle", "torn")


def test_fates_are_those_of_whole_artifacts_that_decide(trained):
    store, _, model = trained
    counts = {"seen": 3, "kept": 1, "held_out": 0, "dropped": 2, "merged": 0, "quarantined": 0}
    later = sealed(store, "clean_documents", "b", lambda d: None, counts=counts)
    earlier = sealed(store, "clean_documents", "a", lambda d: None, counts=counts)
    found = fates_by_stage([later, model, earlier])
    assert [(row["asset"], row["partition"], row["dropped"]) for row in found] == [
        ("clean_documents", "a", 2), ("clean_documents", "b", 2)
    ]  # fmt: skip
