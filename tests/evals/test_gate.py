"""Comparison and gate: who may become champion, and that nobody gets round the question."""

import math

import numpy as np
import pyarrow as pa
import pytest

from evals.compare import compare, compared, flipped
from evals.gate import GateRecipe, GateRefused, champion, decide, judge, reigns
from evals.records import read_records, records, write_records
from evals.scores import ScoreRecipe, score
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

RECIPE = GateRecipe()
FACTS = {"suite": "s" * 64, "config": "c" * 64}


def bpb(bits, task="bpb", **facts):
    rows = [
        {
            "item_id": f"{task}-{i}",
            "cluster": f"f{i // 4}",
            "prompt_hash": str(i),
            "logliks": [-b],
            "num_bytes": [100],
            "metric.bits_per_byte": -b * 100 * math.log(2),
            "weight.bits_per_byte": 100.0,
        }
        for i, b in enumerate(bits)
    ]
    return records(task, {"output": "loglikelihood_rolling", **FACTS, **facts}, rows)


def choice(right, task="continuation", **facts):
    rows = [
        {
            "item_id": f"{task}-{i}",
            "cluster": f"f{i // 4}",
            "prompt_hash": str(i),
            "gold": 0,
            "num_bytes": [4, 4],
            "logliks": [-1.0, -2.0],
            "metric.acc_bytes": float(r),
        }
        for i, r in enumerate(right)
    ]
    return records(task, {"output": "multiple_choice", **FACTS, **facts}, rows)


def noisy(mean, n=200, seed=0):
    return (
        mean
        + 0.2 * np.random.default_rng(0).standard_normal(n)
        + 0.02 * np.random.default_rng(seed + 1).standard_normal(n)
    )


class Stable:
    """A store with checkpoints and their scores, made without running a model."""

    def __init__(self, root):
        self.store = Store(root)

    def checkpoint(self, name, losses=(3.0, 2.0), **facts):
        draft = self.store.draft(Key("pretrained_model", name), "1", {}, [])
        draft.write(
            "losses.arrow", pa.table({"step": list(range(len(losses))), "loss": pa.array(losses, pa.float64())})
        )
        draft.path("name.txt").write_text(name)
        return draft.seal(facts={"heldout_bpb": 1.5, "bigram_bpb": 1.8} | facts)

    def scored(self, checkpoint, *tasks, coverage=None, signed=None):
        draft = self.store.draft(Key("benchmark_samples", checkpoint.key.partition), "1", {}, [checkpoint])
        signature = (signed or checkpoint).content
        for task in tasks:
            columns = {
                "checkpoint": pa.array([signature] * len(task)),
                "coverage": pa.array([coverage] * len(task), pa.float64()),
            }
            for name, column in columns.items():
                at = task.table.schema.get_field_index(name)
                object.__setattr__(task, "table", task.table.set_column(at, name, column))
        write_records(draft, list(tasks), checkpoint.content)
        samples = draft.seal()
        draft = self.store.draft(Key("benchmark_scores", checkpoint.key.partition), "1", {}, [samples])
        return score(samples, ScoreRecipe(), draft)

    def crowned(self, scores, incumbent, checkpoint, recipe=RECIPE):
        inputs = [scores, checkpoint, *([incumbent] if incumbent else [])]
        draft = self.store.draft(Key("champion", "champion"), "1", recipe.identity(), inputs)
        return champion(scores, incumbent, checkpoint, recipe, draft)


@pytest.fixture
def stable(tmp_path):
    return Stable(tmp_path)


@pytest.fixture
def reigning(stable):
    first = stable.checkpoint("first")
    return stable.crowned(stable.scored(first, bpb(noisy(1.5)), choice([1, 0] * 100)), None, first)


def challenge(stable, reigning, *tasks, recipe=RECIPE, name="second", **facts):
    second = stable.checkpoint(name, **facts)
    return judge(stable.scored(second, *tasks), reigning, second, recipe)


def test_the_first_champion_needs_only_the_hard_limits(stable):
    first = stable.checkpoint("first")
    crowned = stable.crowned(stable.scored(first, bpb(noisy(1.5))), None, first)
    found = crowned.json("champion.json")
    assert found["verdict"] == "PROMOTE"
    assert found["checkpoint"] == {
        "asset": "pretrained_model",
        "partition": "first",
        "part": "",
        "digest": first.digest,
        "content": first.content,
    }
    assert reigns(crowned, first)
    assert not reigns(crowned, stable.checkpoint("other"))
    assert not reigns(None, first)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"losses": (3.0, math.nan)}, "1 of 2 training losses are not finite"),
        ({"heldout_bpb": 1.9}, "held-out bits per byte 1.900 are not below 1.800"),
        ({"heldout_bpb": None}, "only pretrained models are judged"),
    ],
)
def test_hard_limits_reject(stable, facts, told):
    first = stable.checkpoint("first", **facts)
    verdict = judge(stable.scored(first, bpb(noisy(1.5))), None, first, RECIPE)
    assert verdict.verdict == "REJECT"
    assert told in verdict.reasons[0]


def test_the_gain_over_bigrams_is_a_recipe(stable):
    first = stable.checkpoint("first")
    scores = stable.scored(first, bpb(noisy(1.5)))
    assert judge(scores, None, first, GateRecipe(min_gain=0.1)).promoted
    assert judge(scores, None, first, GateRecipe(min_gain=0.2)).verdict == "REJECT"


def test_contaminated_items_reject(stable):
    first = stable.checkpoint("first")
    verdict = judge(stable.scored(first, bpb(noisy(1.5)), coverage=0.9), None, first, RECIPE)
    assert verdict.verdict == "REJECT"
    assert "200 of 200 items of bpb have 80% of their n-grams in training text" in verdict.reasons
    unknown = judge(stable.scored(first, bpb(noisy(1.5))), None, first, GateRecipe(require_coverage=True))
    assert "200 of 200 items of bpb were not scanned" in unknown.reasons[0]


def test_a_better_model_is_promoted(stable, reigning):
    verdict = challenge(stable, reigning, bpb(noisy(1.4, seed=1)), choice([1, 0] * 100))
    assert verdict.promoted
    assert [f.role for f in verdict.findings] == ["primary", "guard"]
    assert verdict.findings[0].advantage == pytest.approx(0.1, abs=0.01)


def test_a_worse_model_is_rejected(stable, reigning):
    verdict = challenge(stable, reigning, bpb(noisy(1.6, seed=1)), choice([1, 0] * 100))
    assert verdict.verdict == "REJECT"
    assert "bpb (primary)" in verdict.reasons[0]


def test_a_better_model_that_fails_a_guard_is_rejected(stable, reigning):
    verdict = challenge(stable, reigning, bpb(noisy(1.4, seed=1)), choice([0, 0] * 100))
    assert verdict.verdict == "REJECT"
    assert "continuation (guard)" in verdict.reasons[0]


def test_too_few_items_hold_and_say_how_many_are_needed(stable, reigning):
    flips = np.random.default_rng(3).permutation([1, 0] * 100)
    verdict = challenge(stable, reigning, bpb(noisy(1.4, seed=1)), choice(flips))
    assert verdict.verdict == "HOLD"
    assert "items would tell" in verdict.reasons[0]


def test_an_equal_model_holds_unless_not_being_worse_is_enough(stable, reigning):
    tasks = bpb(noisy(1.5, seed=0)), choice([1, 0] * 100)
    assert challenge(stable, reigning, *tasks).verdict == "HOLD"
    lenient = GateRecipe(require_superiority=False)
    assert challenge(stable, reigning, *tasks, recipe=lenient, name="third").promoted


@pytest.mark.parametrize(
    "tasks",
    [
        [bpb(noisy(1.4), suite="t" * 64), choice([1, 0] * 100)],
        [bpb(noisy(1.4), config="d" * 64), choice([1, 0] * 100)],
        [bpb(noisy(1.4, n=199)), choice([1, 0] * 100)],
        [bpb(noisy(1.4))],
    ],
)
def test_other_suites_settings_or_items_are_incomparable_never_a_pass(stable, reigning, tasks):
    verdict = challenge(stable, reigning, *tasks)
    assert verdict.verdict == "INCOMPARABLE"
    second = stable.checkpoint("second")
    with pytest.raises(GateRefused, match="INCOMPARABLE"):
        stable.crowned(stable.scored(second, *tasks), reigning, second)


def test_an_incumbent_that_was_scored_anew_is_compared_on_its_new_scores(stable, reigning):
    first = reigning.input("benchmark_scores").input("benchmark_samples").input("pretrained_model")
    second = stable.checkpoint("second")
    extra = choice([1, 0] * 100, task="hellaswag")
    scores = stable.scored(second, bpb(noisy(1.4, seed=1)), choice([1, 0] * 100), extra)
    assert judge(scores, reigning, second, RECIPE).verdict == "INCOMPARABLE"
    again = stable.scored(first, bpb(noisy(1.5)), choice([1, 0] * 100), choice([1, 0] * 100, task="hellaswag"))
    assert judge(scores, reigning, second, RECIPE, incumbent_scores=again).promoted
    flattering = stable.scored(stable.checkpoint("weak"), bpb(noisy(3.0)), choice([0] * 200), extra)
    assert judge(scores, reigning, second, RECIPE, incumbent_scores=flattering).verdict == "INCOMPARABLE"


def test_a_primary_task_that_nobody_answered_is_incomparable(stable, reigning):
    verdict = challenge(
        stable, reigning, bpb(noisy(1.4)), choice([1, 0] * 100), recipe=GateRecipe(primary=["hellaswag"])
    )
    assert verdict.verdict == "INCOMPARABLE"


def test_a_refused_promotion_publishes_nothing(stable, reigning):
    worse = stable.checkpoint("worse")
    with pytest.raises(GateRefused, match=r"pretrained_model\[worse\]: REJECT.*The champion stays"):
        stable.crowned(stable.scored(worse, bpb(noisy(1.6)), choice([1, 0] * 100)), reigning, worse)
    assert [a.digest for a in stable.store.sealed(Key("champion", "champion"))] == [reigning.digest]


def test_the_scores_of_another_checkpoint_crown_nobody(stable):
    good, bad = stable.checkpoint("good"), stable.checkpoint("bad", heldout_bpb=1.79)
    with pytest.raises(GateRefused, match="the scores are those of"):
        stable.crowned(stable.scored(good, bpb(noisy(1.2))), None, bad)


def test_the_records_are_asked_not_the_label(stable):
    good, bad = stable.checkpoint("good"), stable.checkpoint("bad")
    relabelled = stable.scored(bad, bpb(noisy(1.2)), signed=good)
    assert relabelled.facts["checkpoint"] == bad.content
    with pytest.raises(GateRefused, match="the scores are those of"):
        stable.crowned(relabelled, None, bad)


def test_the_reigning_champion_is_not_turned_out_by_itself(stable, reigning):
    first = stable.store.artifact(
        Key("pretrained_model", "first"), reigning.json("champion.json")["checkpoint"]["digest"]
    )
    verdict = judge(reigning.input("benchmark_scores"), reigning, first, RECIPE)
    assert verdict.promoted
    assert verdict.reasons == ["this checkpoint is the champion already"]


def test_judging_twice_gives_the_same_verdict(stable, reigning):
    second = stable.checkpoint("second")
    scores = stable.scored(second, bpb(noisy(1.4)), choice([1, 0] * 100))
    assert judge(scores, reigning, second, RECIPE) == judge(scores, reigning, second, RECIPE)


def test_advantage_is_positive_where_the_candidate_is_better_whichever_way_a_metric_points():
    better = compared("bpb", bpb(noisy(1.0)), bpb(noisy(1.5)))
    assert better.advantage.value == pytest.approx(0.5)
    assert better.p_value < 0.001
    assert compared("c", choice([1] * 40), choice([0, 1] * 20)).advantage.value == 0.5
    assert compared("c", choice([1] * 40), None).unlike == "only the candidate answered it"


def test_chance_alone_is_called_superior_in_about_one_case_of_twenty():
    """The whole decision on the clustered null: the files' effects are real, the models are equal."""
    draw = np.random.default_rng(5)
    promoted = 0
    for _ in range(300):
        a, b = (
            draw.standard_normal(25)[np.arange(100) // 4] * 0.1 + draw.standard_normal(100) * 0.1 + 1.5 for _ in "ab"
        )
        found = compared("bpb", bpb(a), bpb(b))
        promoted += decide([found], GateRecipe(margin_bits=10))[0] == "PROMOTE"
    assert promoted <= 25  # 15 expected; 2.6 standard errors above are 25


def test_flipped_items_are_named():
    assert flipped(choice([1, 1, 0]), choice([0, 1, 1]), "acc_bytes") == (["continuation-0"], ["continuation-2"])


def test_two_real_evaluations_are_compared_task_by_task(world):
    found = compare(world.samples["first"], world.samples["second"])
    assert [c.task for c in found] == ["bpb", "continuation", "lastword"]
    assert all(c.advantage is not None and c.advantage.num_items == 16 for c in found)
    assert len(read_records(world.samples["first"])) == 3
