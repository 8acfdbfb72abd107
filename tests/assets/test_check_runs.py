"""Asset checks as Dagster runs them: what blocks, what warns, and the evidence that reaches the UI."""

import dagster as dg
import pyarrow as pa
import pytest

from assets.checks import CHECKS
from assets.definitions import defs
from assets.partitions import mirror
from assets.workspace import Workspace
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build


def evaluated(place, asset, name, partition):
    """One check behind a stand-in of its asset, run as Dagster runs it; returns the evaluation that the UI gets."""
    (check,) = (c for c in CHECKS if [(k.asset_key.path[-1], k.name) for k in c.check_keys] == [(asset, name)])
    partitions_def = defs.resolve_asset_graph().get(dg.AssetKey(asset)).partitions_def

    @dg.asset(name=asset, partitions_def=partitions_def)
    def stand_in() -> None:
        """Made already; only the check is of interest."""

    workspace = Workspace(store=str(place.url), spec=str(place.spec_path))
    with dg.DagsterInstance.ephemeral() as instance:
        mirror(place.spec, instance)
        result = dg.materialize(
            [stand_in, check],
            instance=instance,
            partition_key=partition,
            resources={"workspace": workspace},
            raise_on_error=False,
        )
        (evaluation,) = result.get_asset_check_evaluations()
        blocked = not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
        assert result.success is not blocked, "what a blocking check refuses fails its run"
        return evaluation


def test_every_check_blocks_but_the_gate_and_what_only_tells():
    """What a blocking check refuses nothing may stand on; a candidate that is refused is a fact, not a fault."""
    blocking = {spec.key.name: spec.blocking for check in CHECKS for spec in check.check_specs}
    assert blocking == {
        "conserved": True,
        "exact_duplicates": True,
        "no_undecided_leak": True,
        "round_trip": True,
        "totals": True,
        "no_item_in_tokens": False,
        "finite_loss": True,
        "better_than_unigrams": True,
        "better_than_chance": False,
        "gate": False,
    }


def test_every_asset_that_gives_documents_a_fate_is_checked_for_it(library):
    """seen == kept + held_out + dropped + merged + quarantined, at every stage."""
    checked = {k.asset_key.path[-1] for check in CHECKS for k in check.check_keys if k.name == "conserved"}
    counting = {key.asset for key in library.store.keys() if "seen" in library.store.open(*key).counts}
    assert checked == {*counting, "finetuning_shards"}


def test_every_check_says_what_must_be_true():
    for check in CHECKS:
        for spec in check.check_specs:
            assert len(spec.description or "") > 20, spec.key


def cleaned(place, **counts):
    """Three documents that were kept and two that went, and what the manifest says of them."""
    rows = pa.array(["kept"] * 3 + ["dropped"] * 2, pa.string())
    table = fates.from_columns(pa.array([bytes([n]) * 16 for n in range(5)], pa.binary(16)), rows)
    counts = fates.counted(table) | counts
    return place.seal(Key("clean_documents", "poems/1"), lambda draft: draft.write(fates.FILE, table), counts=counts)


def test_a_failed_check_reaches_the_ui_as_an_error_with_its_evidence(blank):
    artifact = cleaned(blank, seen=6)
    found = evaluated(blank, "clean_documents", "conserved", "poems/1")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.metadata["manifest"].value == artifact.digest
    assert "6 came in" in found.metadata["problem"].value


def test_a_passed_check_names_the_manifest_that_it_read(blank):
    artifact = cleaned(blank)
    found = evaluated(blank, "clean_documents", "conserved", "poems/1")
    assert found.passed
    assert (found.metadata["manifest"].value, found.metadata["dropped"].value) == (artifact.digest, 2)


def scored(place, losses, heldout_bpb=1.5):
    """A checkpoint with samples and scores of the shape that the gate reads."""
    from evals.records import records, write_records
    from evals.scores import ScoreRecipe, score

    facts = {"heldout_bpb": heldout_bpb, "bigram_bpb": 3.0}
    table = pa.table({"loss": pa.array(losses, pa.float64())})
    checkpoint = place.seal(
        Key("pretrained_model", "demo"), lambda draft: draft.write("losses.arrow", table), facts=facts
    )
    rows = [
        {"item_id": str(n), "cluster": f"f{n}", "prompt_hash": str(n), "logliks": [-1.5], "num_bytes": [100],
         "metric.bits_per_byte": -1.5, "weight.bits_per_byte": 100.0}
        for n in range(8)
    ]  # fmt: skip
    task = records("bpb", {"output": "loglikelihood_rolling", "suite": "s" * 64, "config": "c" * 64}, rows)
    at = task.table.schema.get_field_index("checkpoint")
    object.__setattr__(
        task, "table", task.table.set_column(at, "checkpoint", pa.array([checkpoint.content] * len(task)))
    )
    samples = place.seal(
        Key("benchmark_samples", "demo"), lambda draft: write_records(draft, [task], checkpoint.content), [checkpoint]
    )
    key, recipe = Key("benchmark_scores", "demo"), ScoreRecipe()
    build(place.store, key, "1", recipe, [samples], lambda draft: score(samples, recipe, draft), force=True)
    return checkpoint


def test_the_gate_passes_a_first_candidate_and_tells_why(blank):
    checkpoint = scored(blank, (3.0, 2.0))
    found = evaluated(blank, "benchmark_scores", "gate", "demo")
    assert found.passed
    assert found.metadata["verdict"].value == "PROMOTE"
    assert "there is no incumbent" in found.metadata["reasons"].value
    assert found.metadata["checkpoint"].value == checkpoint.content


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ({"losses": (3.0, float("nan"))}, "1 of 2 training losses are not finite"),
        ({"losses": (3.0, 2.0), "heldout_bpb": 3.5}, "held-out bits per byte 3.500 are not below 3.000"),
    ],
)
def test_the_gate_warns_of_a_candidate_that_it_would_refuse(blank, planted, reason):
    scored(blank, **planted)
    found = evaluated(blank, "benchmark_scores", "gate", "demo")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["verdict"].value == "REJECT"
    assert reason in found.metadata["reasons"].value


def test_a_fine_tune_is_no_candidate(blank):
    found = evaluated(blank, "benchmark_scores", "gate", "demo-source")
    assert found.passed
    assert "no candidate" in found.metadata["verdict"].value
