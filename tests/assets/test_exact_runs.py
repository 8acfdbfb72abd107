"""Runs as stemma.toml asks for them: an encoder, a change of shape, and the verbs that prove what a run did."""

import pytest

from assets.blueprint import BLUEPRINTS, ends_of_run
from assets.builder import build_key
from pipelines.provenance.manifest import Key
from pipelines.spec import SpecError

MODEL = Key("pretrained_model", "demo")
TRAINING = "[runs.demo.training]\n"


@pytest.fixture(scope="module")
def encoded(_library, tmp_path_factory):
    """The library's run with an encoder, trained by the trainer's own process."""
    place = _library.copy(tmp_path_factory.mktemp("encoder") / "library")
    place.edit(TRAINING, TRAINING + 'objective = "masked"\nwhole_words = true\nmilestone_every = 5\n')
    build_key(place.spec, place.store, MODEL)
    return place


def test_an_encoder_is_switched_on_in_the_spec_and_trained_by_the_graph(encoded):
    model = encoded.store.open(*MODEL)
    assert model.json("config.json")["architectures"] == ["EuroBertForMaskedLM"]
    assert model.facts["step"] == 12
    assert model.manifest.recipe["objective"] == "masked"


def test_an_encoder_is_no_candidate_of_benchmarks_that_ask_what_comes_next(encoded, library):
    assets = {key.asset for key in ends_of_run(encoded.spec, "demo")}
    assert assets == {"source_profile", "pretrained_model", "audit_bundle"}
    assert "champion" in {key.asset for key in ends_of_run(library.spec, "demo")}


def test_verify_run_recomputes_what_was_fed(encoded, stemma):
    found = stemma.json(encoded, "audit", "verify-run", "demo")
    assert found["equal"]
    assert [link["step"] for link in found["checkpoints"]] == [5, 10, 12]
    assert "NOT EQUAL" not in stemma(encoded, "audit", "verify-run", "demo")


def test_verify_run_says_so_where_shards_are_others(encoded, stemma, monkeypatch):
    from pipelines import consumption

    honest = consumption.planned_rows
    monkeypatch.setattr(consumption, "planned_rows", lambda *asked: honest(*asked) + 1)
    assert "NOT EQUAL" in stemma(encoded, "audit", "verify-run", "demo", code=4)


def test_replay_takes_a_step_again_from_the_milestone_before_it(encoded, stemma):
    found = stemma.json(encoded, "replay", "demo", "--step", "7")
    assert found["from_step"] == 5
    assert found["agrees"]
    assert found["equal"] or not found["same_numerics"]
    told = stemma(encoded, "replay", "demo", "--step", "12")
    assert "from step 10 (a milestone), 2 steps to take" in told
    assert "equal to the last bit" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay", "demo", "--step", "13"), "took steps 1 to 12, not 13"),
        (("replay", "nobody", "--step", "1"), "no checkpoint 'nobody'"),
        (("audit", "verify-run", "nobody"), "no checkpoint 'nobody'"),
    ],
)
def test_what_is_not_there_is_told(encoded, stemma, arguments, told):
    assert told in stemma(encoded, *arguments, code=2)


def test_processes_are_declared_with_the_checkpoint(blank):
    text = '[runs.demo.compute]\nprocesses = 2\nsharding = "fsdp"\nrecompute = true\n'
    blank.edit(TRAINING, text + TRAINING)
    declared = BLUEPRINTS["pretrained_model"](blank.spec, "demo").numerics
    assert (declared["world_size"], declared["sharding"], declared["recompute"]) == (2, "fsdp", True)


def test_one_process_declares_what_it_always_did(blank):
    declared = BLUEPRINTS["pretrained_model"](blank.spec, "demo").numerics
    assert declared["world_size"] == 1
    assert not {"sharding", "recompute"} & set(declared)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[runs.demo.compute]\nprocesses = 0\n", r"processes: .*greater than or equal to 1, found 0"),
        ('[runs.demo.compute]\nsharding = "zero3"\n', r"sharding: Input should be 'ddp' or 'fsdp', found 'zero3'"),
        ('[runs.demo.training]\npreset = "70b"\n', r"no preset '70b'; there are: nano"),
        ("[runs.demo.training]\nz_loss = 2.0\n", r"z_loss: .*less than or equal to 1, found 2.0"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(blank, text, told):
    blank.edit(TRAINING, text if TRAINING in text else text + TRAINING)
    with pytest.raises(SpecError, match=r"stemma.toml:\d+: " + told):
        BLUEPRINTS["pretrained_model"](blank.spec, "demo")
