"""The runner: one Dagster run a key and none where the memo answers; refusals are marked; dead runs are buried."""

import os
import platform
import subprocess
import sys

import dagster as dg
import pytest

from assets.builder import build_key
from assets.cli import RefusedError
from assets.partitions import mirror
from assets.planner import Planner, refused
from assets.run import CHECKOUT, PROCESS_TAG, Runner, bury, dagster_home, is_recorded, open_instance
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key

POEMS, CLEAN = Key("raw_documents", "poems/1"), Key("clean_documents", "poems/1")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """The runner tells Dagster by variables where it works; other tests keep theirs."""
    for name in ("STEMMA_STORE", "STEMMA_SPEC", "STEMMA_IN_PROCESS", "DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def opened(tmp_path_factory, worlds):
    """A place of one source whose history is empty but made: its tables take Dagster a second."""
    place = worlds.Place.new(tmp_path_factory.mktemp("runner") / "place")
    place.edit('sources = ["poems/1", "letters/1"]', 'sources = ["poems/1"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        with open_instance(place.store) as instance:
            mirror(place.spec, instance)
    return place


@pytest.fixture
def place(opened, tmp_path):
    return opened.copy(tmp_path / "place")


def run(place, *select, force=()):
    """Build what these assets need; what the runner told, and how many keys it computed."""
    planner = Planner(place.spec, place.store, frozenset(force))
    told = []
    runner = Runner(place.spec, place.store, planner, lambda key, state: told.append((key, state)))
    computed = runner.run(planner.steps("demo", select))
    return computed, told


def runs(place) -> list:
    with open_instance(place.store) as instance:
        return [(run.tags.get("dagster/partition"), run.status.value) for run in instance.get_runs()]


def test_every_due_key_is_one_run_with_its_partition(place):
    computed, told = run(place, "clean_documents")
    assert computed == 2
    assert told == [(key, state) for key in (POEMS, CLEAN) for state in ("running", "done")]
    assert runs(place) == [("poems/1", "SUCCESS")] * 2
    with open_instance(place.store) as instance:
        assert is_recorded(POEMS, instance)
        assert is_recorded(CLEAN, instance)
        assert not is_recorded(Key("signatures", "poems/1"), instance)


def test_the_pieces_of_a_stage_are_told_as_they_are_done(place):
    planner, told = Planner(place.spec, place.store), []
    Runner(place.spec, place.store, planner, pieces=lambda *one: told.append(one)).run(
        planner.steps("demo", ["clean_documents"])
    )
    assert told == [(key, done, 1) for key in (POEMS, CLEAN) for done in (0, 1)]


def test_what_the_memo_answers_makes_no_run(place):
    run(place, "raw_documents")
    assert run(place, "raw_documents") == (0, [])
    assert len(runs(place)) == 1


def test_equal_bytes_from_a_changed_stage_cut_off_what_stands_below(place, monkeypatch):
    """Clean documents come out the same; the signatures that were due when it was planned are built by nobody."""
    from pipelines import clean

    run(place, "signatures")
    monkeypatch.setattr(clean, "CLEAN_VERSION", "99")
    computed, told = run(place, "signatures")
    assert computed == 1
    assert told == [(CLEAN, "running"), (CLEAN, "done"), (Key("signatures", "poems/1"), "cut off")]
    assert len(runs(place)) == 4


def test_what_was_built_but_never_recorded_gets_its_run_without_being_computed(place):
    """A process that died between sealing and recording; the UI would never know of it."""
    made = build_key(place.spec, place.store, POEMS).artifact
    assert run(place, "raw_documents") == (0, [(POEMS, "running"), (POEMS, "done")])
    assert place.store.get(POEMS).prefix == made.prefix
    assert len(runs(place)) == 1


def test_force_computes_again_with_the_same_digest(place):
    run(place, "raw_documents")
    before = place.store.get(POEMS).digest
    computed, _ = run(place, "raw_documents", force=["raw_documents"])
    assert (computed, place.store.get(POEMS).digest) == (1, before)
    assert len(runs(place)) == 2


def test_four_sources_are_built_side_by_side_and_recorded_one_by_one(place):
    tables = "".join(f'[sources."more/{n}"]\nreader = "jsonl"\npath = "poems.jsonl"\n' for n in range(3))
    place.edit("[cleaning.plain]", f"{tables}[cleaning.plain]")
    place.edit('sources = ["poems/1"]', 'sources = ["poems/1", "more/0", "more/1", "more/2"]')
    computed, told = run(place, "raw_documents")
    keys = [POEMS, *(Key("raw_documents", f"more/{n}") for n in range(3))]
    assert computed == 4
    assert sorted(key for key, state in told[:4] if state == "built") == sorted(keys)
    assert told[4:] == [(key, state) for key in keys for state in ("running", "done")]
    assert len(runs(place)) == 4


# -- refusals and failures ---------------------------------------------------------------------------------------------


@pytest.fixture
def unsound(monkeypatch):
    """A stage that counts one document too many: the conservation check must refuse it."""
    from pipelines import ingest

    true = ingest.ingest

    def one_too_many(recipe, draft, *, path):
        seal = draft.seal
        draft.seal = lambda counts, **rest: seal(counts={**counts, "seen": counts["seen"] + 1}, **rest)
        return true(recipe, draft, path=path)

    monkeypatch.setattr(ingest, "ingest", one_too_many)


def test_a_blocking_check_refuses_and_nothing_below_is_built(place, unsound):
    with pytest.raises(
        RefusedError, match=r"raw_documents\[poems/1\]: check conserved failed\. Expected: .* Found: .*\d"
    ):
        run(place, "clean_documents")
    assert refused(place.store, place.store.get(POEMS).digest).exists()
    assert place.store.get(CLEAN) is None
    assert runs(place) == [("poems/1", "FAILURE")]


def test_an_interruption_is_told_with_how_to_go_on(place, monkeypatch):
    from dagster._core.errors import DagsterExecutionInterruptedError

    from assets import blueprint_corpus

    def interrupted(recipe, draft, *, path):
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr(blueprint_corpus.ingest, "ingest", interrupted)
    with pytest.raises(StoreError, match=r"raw_documents\[poems/1\] was interrupted\. The same command goes on"):
        run(place, "raw_documents")


def test_what_was_refused_stays_refused_though_the_memo_knows_it(place, unsound):
    for _ in range(2):
        with pytest.raises(RefusedError):
            run(place, "raw_documents")
    step = Planner(place.spec, place.store).step(POEMS)
    assert (step.state, step.because) == ("stale", "a check refused it")


def test_a_sound_build_takes_its_place_and_goes_on(place, unsound, monkeypatch):
    with pytest.raises(RefusedError):
        run(place, "raw_documents")
    bad = place.store.get(POEMS)
    monkeypatch.undo()
    computed, _ = run(place, "raw_documents", force=["raw_documents"])
    good = place.store.get(POEMS)
    assert (computed, good.counts["seen"]) == (1, bad.counts["seen"] - 1)
    assert not refused(place.store, good.digest).exists()
    assert Planner(place.spec, place.store).step(POEMS).state == "fresh"


def test_the_mark_goes_when_the_check_passes(place):
    run(place, "raw_documents")
    mark = refused(place.store, place.store.get(POEMS).digest)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    assert run(place, "raw_documents")[0] == 1
    assert not mark.exists()


def test_a_step_that_fails_tells_its_own_words_and_where_the_log_is(place):
    (place.folder / "poems.jsonl").write_text("\n")
    with pytest.raises(StoreError) as error:
        run(place, "raw_documents")
    said = str(error.value)
    assert said.startswith("raw_documents[poems/1] failed: source poems/1: 1 files, but no record in them.")
    assert "ValueError" not in said
    assert "`stemma ui`, run " in said
    assert place.store.get(POEMS) is None


def test_a_source_that_was_just_added_is_mirrored_before_it_runs(place):
    """`stemma source add` and `stemma run` follow one another; no sensor has looked in between."""
    place.edit('sources = ["poems/1"]', 'sources = ["letters/2"]')
    place.edit('[sources."letters/1"]', '[sources."letters/2"]')
    run(place, "raw_documents")
    with open_instance(place.store) as instance:
        assert instance.get_dynamic_partitions("source") == ["poems/1", "letters/2"]


def test_exit_code_3_is_a_refusal_and_1_a_failure(place, stemma, unsound):
    said = stemma(place, "run", "--select", "raw_documents", code=3)
    assert "raw_documents[poems/1]" in said
    (place.folder / "poems.jsonl").write_text("\n")
    assert "no record in them" in " ".join(stemma(place, "run", "--select", "raw_documents", code=1).split())


def test_a_run_tells_each_asset_with_its_number_and_then_the_summary(place, stemma):
    said = stemma(place, "run", "--select", "raw_documents")
    assert next(line.split()[:3] for line in said.splitlines() if " built " in line) == ["raw_documents", "1", "built"]
    assert "demo: 1 steps built in" in said
    answer = stemma.json(place, "run", "--select", "raw_documents")
    assert (answer["run"], answer["built"], answer["seconds"]) == ("demo", 0, 0.0)
    assert [row["stage"] for row in answer["funnel"]] == ["raw_documents"]
    assert answer["champion"] is answer["model"] is None


# -- the dead -----------------------------------------------------------------------------------------------------------


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@dg.job
def nothing():
    """Stands for any run."""


def started(instance, tag):
    tags = {PROCESS_TAG: tag} if tag else {}
    return instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id


def test_runs_of_processes_that_died_here_are_ended_and_all_others_left_alone(place):
    here = platform.node()
    with open_instance(place.store) as instance:
        dead = started(instance, f"{here}:{dead_pid()}")
        others = {
            "alive": started(instance, f"{here}:{os.getpid()}"),
            "on another machine": started(instance, f"elsewhere:{dead_pid()}"),
            "of the daemon": started(instance, ""),
        }
        bury(instance)
        assert instance.get_run_by_id(dead).status == dg.DagsterRunStatus.FAILURE
        told = [entry.dagster_event.message for entry in instance.all_logs(dead) if entry.dagster_event]
        assert any("was killed" in message for message in told)
        for name, run_id in others.items():
            assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED, name


def test_a_run_in_process_carries_host_and_process(place):
    run(place, "raw_documents")
    with open_instance(place.store) as instance:
        (made,) = instance.get_runs()
        assert made.tags[PROCESS_TAG] == f"{platform.node()}:{os.getpid()}"


def test_the_history_lies_in_the_store_with_our_settings(blank):
    home = dagster_home(blank.store)
    assert home == blank.url / "dagster"
    assert os.environ["DAGSTER_HOME"] == str(home)
    settings = (home / "dagster.yaml").read_text()
    assert "telemetry:\n  enabled: false" in settings
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: true\n")
    dagster_home(blank.store)
    assert (home / "dagster.yaml").read_text() == settings, "what another version left there is renewed"


# -- the terminal ---------------------------------------------------------------------------------------------------------

PRINTS = """
import os, subprocess, sys
from pathlib import Path
from assets.run import output_to

for word in ("first", "second"):
    try:
        with output_to(Path(sys.argv[1])) as terminal:
            print(word)
            subprocess.run([sys.executable, "-c", "import sys; print('child'); print('its error', file=sys.stderr)"])
            os.write(terminal, b"for people\\n")
            if word == "second":
                raise RuntimeError
    except RuntimeError:
        print("the terminal is back")
        print("and this one", file=sys.stderr)
"""


def test_what_we_and_our_children_print_goes_to_the_log_and_the_terminal_comes_back(tmp_path):
    """After an error, too; and a second time the log is added to."""
    log = tmp_path / "deep" / "run.log"
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, str(log)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "for people\nfor people\nthe terminal is back\n"
    assert done.stderr == "and this one\n"
    assert sorted(log.read_text().split()) == ["child"] * 2 + ["error"] * 2 + ["first"] + ["its"] * 2 + ["second"]
