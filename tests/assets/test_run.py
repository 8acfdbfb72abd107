"""stemma run: what is built, what is not built again, and why."""

import json
import os
import signal
import subprocess
import sys
import time

from pipelines.provenance.manifest import Key

ASSETS = {
    "raw_documents",
    "clean_documents",
    "source_profile",
    "signatures",
    "duplicate_clusters",
    "unique_documents",
    "heldout_documents",
    "benchmark_prompts",
    "training_documents",
    "vocabulary",
    "token_shards",
    "heldout_shards",
    "mixture",
    "pretrained_model",
    "finetuning_shards",
    "finetuned_model",
    "benchmark_samples",
    "benchmark_scores",
    "champion",
    "model_card",
    "audit_bundle",
}


def digests(workplace) -> dict[tuple[str, str], str]:
    return {(row["asset"], row["partition"]): row["digest"] for row in workplace.json("artifacts")}


def due(workplace, *arguments) -> list[tuple[str, str, str]]:
    rows = workplace.json("run", *arguments, "--dry-run")
    return [(r["asset"], r["partition"], r["because"]) for r in rows if r["state"] in ("stale", "missing")]


def test_one_command_makes_every_asset_of_the_graph(finished):
    assert {row["asset"] for row in finished.json("artifacts")} == ASSETS


def test_a_second_run_computes_nothing_and_makes_no_artifact_and_no_dagster_run(workplace):
    before = digests(workplace)
    attempts = sorted(path for path in workplace.store.files.walk("artifacts"))
    runs = (
        sorted(os.listdir(workplace.url / "dagster" / "storage"))
        if (workplace.url / "dagster/storage").exists()
        else []
    )
    answer = workplace.json("run")
    assert answer["built"] == 0
    assert digests(workplace) == before
    assert sorted(path for path in workplace.store.files.walk("artifacts")) == attempts
    after = (
        sorted(os.listdir(workplace.url / "dagster" / "storage"))
        if (workplace.url / "dagster/storage").exists()
        else []
    )
    assert after == runs


def test_changing_one_recipe_field_rebuilds_only_what_stands_downstream(workplace):
    workplace.edit("warmup_steps = 5", "warmup_steps = 6")
    changed = {asset for asset, _, _ in due(workplace)}
    assert changed == {
        "pretrained_model",
        "finetuned_model",
        "benchmark_samples",
        "benchmark_scores",
        "champion",
        "model_card",
        "audit_bundle",
    }
    reason = next(because for asset, _, because in due(workplace) if asset == "pretrained_model")
    assert reason == "recipe: warmup_steps 5 -> 6"


def test_a_changed_cleaning_recipe_leaves_the_raw_documents_alone(workplace):
    workplace.edit("min_words = 20", "min_words = 30")
    changed = {asset for asset, _, _ in due(workplace)}
    assert "raw_documents" not in changed
    assert "clean_documents" in changed
    assert "vocabulary" not in changed, "a vocabulary is frozen under its name"


def test_a_changed_stage_version_with_equal_bytes_stops_at_the_early_cut_off(workplace, monkeypatch):
    from assets.builder import build_key
    from assets.planner import Planner
    from pipelines import clean

    reason = f"stage version {clean.CLEAN_VERSION} -> 99"
    monkeypatch.setattr(clean, "CLEAN_VERSION", "99")
    spec, store = workplace.spec, workplace.store
    planner = Planner(spec, store)
    steps = [step for step in planner.steps("demo") if step.due]
    assert {step.because for step in steps if step.key.asset == "clean_documents"} == {reason}
    for step in steps:
        if step.key.asset == "clean_documents":
            assert build_key(spec, store, step.key).computed
    assert [step.key for step in Planner(spec, store).steps("demo") if step.due] == []


def test_a_new_source_rebuilds_its_own_parts_and_neither_vocabulary_nor_suite_nor_run(workplace, tmp_path):
    text = tmp_path / "more.jsonl"
    text.write_text(
        "\n".join(
            json.dumps(
                {
                    "id": str(n),
                    "text": f"The keeper of tower number {n} wrote down in the "
                    f"year {1500 + n} that the lamp was lit before the fog came in from the sea and that nobody had "
                    f"asked for it since the old harbour was closed to all ships.",
                }
            )
            for n in range(6)
        )
    )
    workplace.stemma("source", "add", "more", str(text), "--license", "MIT", "--corpus", "small")
    before = digests(workplace)
    workplace.stemma("run")
    after = digests(workplace)
    same = {key for key in before if after.get(key) == before[key]}
    for asset in ("vocabulary", "benchmark_prompts", "mixture", "pretrained_model", "finetuned_model"):
        assert all(key in same for key in before if key[0] == asset), asset
    assert ("raw_documents", "more/1") in after
    old = workplace.store.artifact(Key("token_shards", "small"), before["token_shards", "small"])
    new = workplace.store.open("token_shards", "small")
    shared = {p.part: p.manifest for p in old.manifest.parts}
    kept = [p.part for p in new.manifest.parts if shared.get(p.part) == p.manifest]
    assert len(kept) >= len(shared) - 1
    assert {p.part for p in new.manifest.parts} == {*shared, "more/1"}


def test_force_remakes_the_selected_asset_with_the_same_digest(workplace):
    before = digests(workplace)
    workplace.stemma("run", "--select", "vocabulary", "--force")
    assert digests(workplace)["vocabulary", "docs-2048"] == before["vocabulary", "docs-2048"]


def test_two_places_give_the_same_digests_up_to_the_checkpoint(finished, empty):
    empty.stemma("run", "--select", "pretrained_model")
    here, there = digests(empty), digests(finished)
    assert ("pretrained_model", "demo") in here
    assert {key: there[key] for key in here} == here


def test_killed_in_the_middle_of_training_it_goes_on_and_ends_with_the_same_digest(finished, empty):
    empty.stemma("run", "--select", "mixture")
    command = [sys.executable, "-m", "assets", "run", "--select", "pretrained_model"]
    environment = {**os.environ, "STEMMA_STORE": str(empty.url), "STEMMA_SPEC": str(empty.spec_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((empty.url / "scratch").rglob("state.json")) and process.poll() is None:
        assert time.monotonic() < deadline, "no rolling checkpoint appeared"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ("pretrained_model", "demo") not in digests(empty), "killed too late for this test to mean anything"
    empty.stemma("run", "--select", "pretrained_model")
    assert digests(empty)["pretrained_model", "demo"] == digests(finished)["pretrained_model", "demo"]


HOLDER = """
import sys
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
with Store(sys.argv[1]).lease(Key("raw_documents", "notes/1")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_at_once_waits_for_the_lease_and_says_whose_it_is(empty, tmp_path):
    """The lease is let go as soon as the other one has said that it waits."""
    environment = {**os.environ, "STEMMA_STORE": str(empty.url), "STEMMA_SPEC": str(empty.spec_path)}
    command = [sys.executable, "-m", "assets", "run", "--select", "raw_documents"]
    pipe, said = subprocess.PIPE, tmp_path / "said"
    with (
        said.open("w") as output,
        subprocess.Popen([sys.executable, "-c", HOLDER, str(empty.url)], stdin=pipe, stdout=pipe, text=True) as holder,
    ):
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline().strip() == "held"
        with subprocess.Popen(command, env=environment, stdout=output, stderr=output) as second:
            deadline = time.monotonic() + 300
            while "waiting for the lease of" not in said.read_text():
                assert second.poll() is None, said.read_text()
                assert time.monotonic() < deadline, "nobody said that it waits"
                time.sleep(0.05)
            holder.stdin.close()
            assert second.wait(300) == 0
        assert f"pid {holder.pid}" in said.read_text()
    assert ("raw_documents", "notes/1") in digests(empty)


def test_dry_run_builds_nothing(empty):
    assert len(due(empty)) > 20
    assert not (empty.url / "artifacts").exists()


def test_the_summary_holds_funnel_model_scores_champion_and_the_report(finished):
    answer = finished.json("run")
    assert [row["stage"] for row in answer["funnel"]] == [
        "raw_documents",
        "clean_documents",
        "unique_documents",
        "heldout_documents",
        "training_documents",
    ]
    for row in answer["funnel"]:
        assert row["seen"] == sum(row[f] for f in ("kept", "held_out", "dropped", "merged", "quarantined"))
    assert answer["model"]["step"] == 130
    assert {s["checkpoint"] for s in answer["scores"]} == {"demo", "demo-source", "demo-summary"}
    assert all(s["n"] > 0 and s["stderr"] is not None for s in answer["scores"])
    assert answer["champion"]["checkpoint"]["partition"] == "demo"
    with open(answer["report"], encoding="utf-8") as file:
        page = file.read()
    assert page.startswith("<!doctype html>")
    assert "<svg" in page


def test_what_a_check_refused_is_not_built_upon_until_the_check_passes(workplace):
    from assets.planner import refused

    store = workplace.store
    artifact = store.open("unique_documents", "small")
    mark = refused(store, artifact.digest)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    assert ("unique_documents", "small", "a check refused it") in due(workplace)
    workplace.stemma("run", "--select", "unique_documents")
    assert not mark.exists()
    assert digests(workplace)["unique_documents", "small"] == artifact.digest


def test_what_was_built_without_a_dagster_run_gets_one_with_the_next_build(empty):
    """A process that is killed between sealing and recording leaves an artifact that the UI does not know."""
    from assets.builder import build_key
    from assets.run import is_recorded, open_instance

    build_key(empty.spec, empty.store, Key("raw_documents", "notes/1"))
    empty.stemma("run", "--select", "clean_documents")
    with open_instance(empty.store) as instance:
        assert is_recorded(Key("raw_documents", "notes/1"), instance)


def test_a_refused_candidate_has_its_card_and_its_bundle_and_exit_code_3(workplace):
    text = workplace.spec_path.read_text()
    tables = text[text.index("[runs.demo]") : text.index("[finetunes.demo-source]")]
    again = tables.replace("runs.demo", "runs.again").replace('dtype = "fp32"', 'dtype = "fp32"\nlearning_rate = 0.002')
    workplace.edit("[finetunes.demo-source]", f"{again}\n[finetunes.demo-source]")
    said = workplace.stemma("run", "again", code=3)  # as long as the champion's, at a lower rate: no better
    assert "HOLD" in said or "REJECT" in said
    assert {("model_card", "again"), ("audit_bundle", "again")} <= set(digests(workplace))
    assert workplace.store.open("champion", "docs").facts["partition"] == "demo"
