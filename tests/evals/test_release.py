"""Model card and audit bundle: what leaves the house speaks the truth, and stands alone."""

import shutil

import numpy as np
import pytest
from released import LENGTHS, LICENCES, T, ids, sealed, small_run

from evals.bundle import Bundle, BundleRecipe, audit_bundle
from evals.card import CardRecipe, model_card
from pipelines.provenance.manifest import Key, ManifestError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Store, plan and checkpoint."""
    return small_run(tmp_path_factory.mktemp("release"))


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
