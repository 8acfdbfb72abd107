"""Model card and audit bundle: what leaves the house speaks the truth, and stands alone."""

import hashlib
import shutil

import numpy as np
import pyarrow as pa
import pytest

from evals.bundle import Bundle, BundleRecipe, audit_bundle
from evals.card import CardRecipe, model_card
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.store import Store

LENGTHS = {"docs.a/1": [7, 30, 5, 18, 40, 11, 3, 26], "docs.b/1": [50, 9, 22, 8, 33]}  # tokens of every document
LICENCES = {"docs.a/1": "MIT", "docs.b/1": "Apache-2.0"}
T = 8


def sealed(store, asset, partition, write, inputs=(), **seal):
    draft = store.draft(Key(asset, partition), "1", {"learning_rate": 0.003}, list(inputs))
    parts = write(draft)
    return draft.seal(parts=parts or (), **seal)


def part(draft, name, inputs, write, **seal):
    inner = draft.store.draft(Key(draft.key.asset, draft.key.partition, name), "1", {}, list(inputs))
    write(inner)
    return inner.seal(**seal)


def ids(name):
    return sorted(hashlib.sha256(f"{name}/{i}".encode()).digest()[:16] for i in range(len(LENGTHS[name])))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Documents, shards, mixture and checkpoint of a run of six steps, with the tokens' document as the token."""
    store = Store(tmp_path_factory.mktemp("release"))

    def documents(draft):
        def write(name):
            def rows(inner):
                found = ids(name)
                inner.write(
                    "documents.arrow",
                    pa.table(
                        {
                            "doc_id": pa.array(found, pa.binary(16)),
                            "uri": [f"pkg:{name}#{i}" for i in range(len(found))],
                            "file": ["f.py"] * len(found),
                            "licence": [LICENCES[name]] * len(found),
                        }
                    ),
                )
                inner.write(fates.FILE, fates.all_kept(pa.array(found, pa.binary(16))))

            return rows

        return [part(draft, name, [], write(name)) for name in LENGTHS]

    counts = {"seen": 15, "kept": 13, "held_out": 1, "dropped": 1, "merged": 0, "quarantined": 0}
    training = sealed(store, "training_documents", "small", documents, counts=counts)

    def shards(draft):
        def write(name):
            def rows(inner):
                tokens = [[n] * length for n, length in enumerate(LENGTHS[name])]
                half = len(tokens) // 2
                for number, piece in enumerate((slice(0, half), slice(half, None))):
                    inner.write(
                        f"shard-{number:05d}.arrow",
                        pa.table(
                            {
                                "doc_id": pa.array(ids(name)[piece], pa.binary(16)),
                                "tokens": pa.array(tokens[piece], pa.large_list(pa.uint16())),
                            }
                        ),
                    )

            return rows

        return [part(draft, name, [], write(name), counts={"tokens": sum(LENGTHS[name])}) for name in LENGTHS]

    tokens = sealed(store, "token_shards", "small", shards, [training])
    sizes = {name: (sum(lengths) - 1) // T for name, lengths in LENGTHS.items()}
    plan = Plan(
        seed=3,
        sequence_length=T,
        parts=[PlanPart(name=n, num_sequences=s) for n, s in sizes.items()],
        phases=[PlanPhase(slots=[14, 10])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=4)],
    )

    def mixture(draft):
        draft.write_json("plan.json", plan.model_dump(mode="json"))
        draft.write(
            "sources.arrow",
            pa.table(
                {
                    "part": list(LENGTHS),
                    "licence": list(LICENCES.values()),
                    "docs": [8, 5],
                    "tokens": [sum(v) for v in LENGTHS.values()],
                    "sequences": list(sizes.values()),
                    "slots": [14, 10],
                    "epochs": [14 / sizes["docs.a/1"], 10 / sizes["docs.b/1"]],
                    "tail_tokens": [0, 0],
                }
            ),
        )

    mixed = sealed(store, "mixture", "demo", mixture, [tokens])
    facts = {"step": 6, "tokens": 192, "parameters": 1234, "heldout_bpb": 1.5, "unigram_bpb": 2.9, "bigram_bpb": 1.8}
    model = sealed(
        store,
        "pretrained_model",
        "demo",
        lambda d: d.path("model.safetensors").write_bytes(b"w") and None,
        [mixed],
        facts=facts,
    )
    return store, plan, model


@pytest.fixture
def bundle(trained, tmp_path):
    """A bundle copied out of the store: nothing else can be reached from there."""
    store, _, model = trained
    recipe = BundleRecipe()
    made = audit_bundle(model, recipe, store.draft(Key("audit_bundle", "demo"), "1", recipe.identity(), [model]))
    for name in made.names():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.local(name), tmp_path / name)
    return Bundle(tmp_path)


def test_every_step_is_answered_from_the_bundle_alone(bundle, trained):
    """Against the token streams themselves: each token says which document it belongs to."""
    _, plan, _ = trained
    streams = {name: np.repeat(np.arange(len(v)), v) for name, v in LENGTHS.items()}
    for step in range(1, plan.num_steps + 1):
        parts, sequences = plan.sequences(plan.slots(step))
        wanted = []
        for slot, index, sequence in zip(plan.slots(step), parts, sequences, strict=True):
            name = plan.parts[index].name
            tokens = streams[name][sequence * T : sequence * T + T + 1]
            wanted += [(slot, ids(name)[n], int((tokens == n).sum())) for n in dict.fromkeys(tokens.tolist())]
        assert [(r.slot, r.doc_id, r.length) for r in bundle.documents(step)] == wanted
    read = bundle.documents(1)[0]
    assert read.uri == f"pkg:{read.part}#{ids(read.part).index(read.doc_id)}"
    assert read.licence == LICENCES[read.part]


def test_the_bundle_says_what_the_tracer_of_the_store_says(bundle, trained):
    from pipelines.provenance.trace import Tracer

    store, plan, model = trained
    del store
    tracer = Tracer(model)
    for step in range(1, plan.num_steps + 1):
        ours = [(r.slot, r.part, r.doc_id, r.start, r.length) for r in bundle.documents(step)]
        assert ours == [(r.slot, r.part, r.doc_id, r.start, r.length) for r in tracer.documents(step)]


def test_steps_beyond_the_checkpoint_are_refused(bundle):
    for step in (0, 7):
        with pytest.raises(ValueError, match="has read steps 1 to 6"):
            bundle.documents(step)


def test_a_bundle_holds_the_whole_family_and_no_text(bundle):
    assert bundle.verify() == 8  # model, mixture, shards and documents with two parts each
    assert bundle.about["fates"] == [
        {
            "asset": "training_documents",
            "partition": "small",
            "seen": 15,
            "kept": 13,
            "held_out": 1,
            "dropped": 1,
            "merged": 0,
            "quarantined": 0,
        }
    ]
    assert not [p for p in bundle.directory.rglob("*") if "text" in p.name or "shard" in p.name]


@pytest.mark.parametrize("victim", ["manifests/*", "plan.json", "parts.arrow", "documents/00001.arrow"])
def test_any_changed_byte_of_a_bundle_is_named(bundle, victim):
    path = min(bundle.directory.glob(victim))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=path.name):
        Bundle(bundle.directory).verify()


def test_a_missing_manifest_is_named(bundle):
    root = bundle.about["checkpoint"]["digest"]
    others = [p for p in (bundle.directory / "manifests").iterdir() if p.stem != root]
    others[0].unlink()
    with pytest.raises(ManifestError, match=rf"was made from {others[0].stem[:12]}"):
        bundle.verify()


def test_a_bundle_is_the_same_every_time(trained):
    store, _, model = trained
    made = [audit_bundle(model, BundleRecipe(), store.draft(Key("audit_bundle", n), "1", {}, [model])) for n in "ab"]
    assert made[0].content == made[1].content
    with pytest.raises(ManifestError, match="no audit bundle"):
        Bundle(store.scratch)


ROW = {
    "metric": "acc",
    "subset": "all",
    "headline": True,
    "stderr": 0.03,
    "n": 200,
    "clusters": 90,
    "higher_is_better": True,
    "baseline": 0.25,
}


def carded(trained, rows, content=None, **choices):
    store, _, model = trained
    draft = store.draft(Key("benchmark_scores", "demo"), "1", {}, [model])
    draft.write_json("scores.json", {"checkpoint": content or model.content, "samples": "", "scores": rows})
    scores, recipe = draft.seal(), CardRecipe(**choices)
    draft = store.draft(Key("model_card", "demo"), "1", recipe.identity(), [model, scores])
    return model_card(model, scores, recipe, draft).local("card.md").read_text(encoding="utf-8")


def test_the_card_tells_data_scores_baselines_and_lineage(trained):
    rows = [
        {**ROW, "task": "continuation", "value": 0.5, "low": 0.44, "high": 0.56},
        {**ROW, "task": "lastword", "value": 0.26, "low": 0.2, "high": 0.32},
    ]
    card = carded(trained, rows)
    assert "1,234 parameters, 192 tokens read in 6 steps" in card
    assert "| docs.a/1 | MIT | 8 | 140 | 112 | 58.3% | 0.82 |" in card
    assert "| Apache-2.0 | 1 | 5 | 122 | 80 | 41.7% |" in card
    assert "| training_documents[small] | 15 | 13 | 1 | 1 | 0 | 0 |" in card
    assert "| `learning_rate` | 0.003 |" in card
    assert "| continuation | acc | all | 0.5000 | 0.4400 to 0.5600 | 200 | 90 | 0.2500 |" in card
    assert "| token bigram | 1.8000 |" in card
    assert "No better than guessing, within the error: lastword (acc)." in card
    assert "was not measured" in card
    _, _, model = trained
    for asset in ("pretrained_model", "mixture", "token_shards", "training_documents"):
        assert f"`{asset}[" in card
    assert card.count(model.digest) == 2
    assert carded(trained, rows) == card


def test_the_card_of_a_fine_tune_tells_what_it_began_from(trained):
    store, plan, model = trained
    tuned = sealed(
        store, "finetuned_model", "classifier", lambda d: None, [model], facts={"task": "classifier", "step": 9}
    )
    card = carded((store, plan, tuned), [])
    assert "A fine-tune (classifier) of `pretrained_model[demo]` by Stemma: 1,234 parameters, 192 tokens" in card
    assert "then 9 steps of fine-tuning" in card
    assert "| docs.a/1 | MIT |" in card


def test_many_sources_are_summed_up(trained):
    card = carded(trained, [{**ROW, "task": "t", "value": 0.5, "low": None, "high": None}], max_sources=1)
    assert "| 1 more | various | 5 | 122 | 80 | 41.7% | 0.67 |" in card
    assert "| unknown |" in card


def test_the_scores_of_another_model_make_no_card(trained):
    with pytest.raises(ValueError, match="are the scores of 00000"):
        carded(trained, [], content="0" * 64)
