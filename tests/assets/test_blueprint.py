"""Blueprints: every asset's recipe stands in one place of the spec, and its needs stand before it in the order."""

import pytest

from assets.blueprint import BLUEPRINTS, ORDER, contest, ends_of_run
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec, SpecError


def spec_with(place, before="", after="", more="") -> Spec:
    text = place.spec_path.read_text()
    assert before in text
    return Spec(text.replace(before, after, 1) + more, place.spec_path)


def recipes(spec: Spec, keys: list[Key]) -> dict[Key, dict]:
    return {key: BLUEPRINTS[key.asset](spec, key.partition).recipe.identity() for key in keys}


def touched(place, **edit) -> dict[str, set[str]]:
    """Which recipes an edit of the spec changes, and which of their fields."""
    before = recipes(place.spec, place.keys())
    after = recipes(spec_with(place, **edit), place.keys())
    return {
        str(key): {
            name for name in before[key].keys() | after[key].keys() if before[key].get(name) != after[key].get(name)
        }
        for key in before
        if before[key] != after[key]
    }


@pytest.mark.parametrize(
    ("edit", "fields"),
    [
        (
            {"before": 'license = "CC0-1.0"', "after": 'license = "MIT"'},
            {"raw_documents[poems/1]": {"license"}},
        ),
        (
            {"before": "min_words = 12", "after": "min_words = 13"},
            {"clean_documents[poems/1]": {"min_words"}, "clean_documents[letters/1]": {"min_words"}},
        ),
        (
            {"more": "[signatures]\nseed = 9\n"},
            {"signatures[poems/1]": {"seed"}, "signatures[letters/1]": {"seed"}},
        ),
        ({"more": "[corpora.small.dedup]\nthreshold = 0.7\n"}, {"duplicate_clusters[small]": {"threshold"}}),
        (
            {"more": '[corpora.small.dedup]\npreset = "bigcode"\n'},
            {
                "duplicate_clusters[small]": {"threshold", "bands", "rows"},
                "signatures[poems/1]": {"num_perm"},
                "signatures[letters/1]": {"num_perm"},
            },
        ),
        ({"before": "ratio = 0.2", "after": "ratio = 0.3"}, {"heldout_documents[small]": {"ratio"}}),
        ({"more": "[corpora.small.decontaminate]\nngram = 20\n"}, {"training_documents[small]": {"ngram"}}),
        (
            {"more": "[corpora.small.shards]\nmax_tokens_per_shard = 1000\n"},
            {"token_shards[small]": {"max_tokens_per_shard"}},
        ),
        (
            {"more": "[corpora.small.heldout_shards]\nmax_tokens_per_shard = 1000\n"},
            {"heldout_shards[small]": {"max_tokens_per_shard"}},
        ),
        ({"before": "size = 384", "after": "size = 400"}, {"vocabulary[words]": {"size"}}),
        ({"before": "max_items = 4", "after": "max_items = 5"}, {"benchmark_prompts[quiz]": {"max_items"}}),
        ({"before": "batch_size = 4", "after": "batch_size = 8"}, {"mixture[demo]": {"batch_size"}}),
        ({"before": "layers = 2", "after": "layers = 3"}, {"pretrained_model[demo]": {"layers"}}),
        (
            {"before": "sequence_length = 16", "after": "sequence_length = 32"},
            {"mixture[demo]": {"sequence_length"}, "pretrained_model[demo]": {"sequence_length"}},
        ),
        (
            {"more": "[finetunes.demo-source.data]\nmax_tokens = 64\n"},
            {"finetuning_shards[demo-source]": {"max_tokens"}},
        ),
        ({"before": "max_steps = 10", "after": "max_steps = 11"}, {"finetuned_model[demo-source]": {"max_steps"}}),
        (
            {"more": "[evaluation]\nseed = 3\n"},
            {"benchmark_samples[demo]": {"seed"}, "benchmark_samples[demo-source]": {"seed"}},
        ),
        ({"more": "[gate]\nmin_gain = 0.5\n"}, {"champion[demo]": {"min_gain"}}),
    ],
)
def test_a_table_of_the_spec_steers_its_own_assets_and_no_other(blank, edit, fields):
    assert touched(blank, **edit) == fields


def test_only_a_corpus_that_keeps_the_oldest_document_reads_dates(blank):
    for keep, dates in (("longest", 0), ("oldest", 2)):
        spec = spec_with(blank, more=f'[corpora.small.dedup]\nkeep = "{keep}"\n')
        needs = [key.asset for key in BLUEPRINTS["duplicate_clusters"](spec, "small").needs]
        assert needs == ["clean_documents"] * 2 + ["signatures"] * 2 + ["raw_documents"] * dates


def test_a_source_without_a_cleaning_of_its_own_is_cleaned_by_the_defaults(blank):
    from pipelines.clean import CleanRecipe

    spec = spec_with(blank, before='id_field = "id"\ncleaning = "plain"\n', after='id_field = "id"\n')
    found = recipes(spec, [Key("clean_documents", "poems/1"), Key("clean_documents", "letters/1")])
    assert found["clean_documents", "poems/1", ""] == CleanRecipe().identity()
    assert found["clean_documents", "letters/1", ""]["min_words"] == 12


def test_a_raw_recipe_names_source_and_snapshot_and_the_digest_of_its_files(blank):
    spec = blank.spec
    before = BLUEPRINTS["raw_documents"](spec, "poems/1").recipe.identity()
    assert (before["source"], before["snapshot"], before["id_field"]) == ("poems", "1", "id")
    assert "path" not in before
    with (blank.folder / "poems.jsonl").open("a") as file:
        file.write('{"id": "late", "text": "One more line."}\n')
    after = BLUEPRINTS["raw_documents"](spec, "poems/1").recipe.identity()
    assert {name for name in before if before[name] != after[name]} == {"origin"}


def test_a_spec_in_another_folder_with_the_same_files_asks_for_the_same(blank, tmp_path):
    """Paths stand beside the spec and are no part of a recipe."""
    elsewhere = blank.copy(tmp_path / "far" / "away")
    assert recipes(elsewhere.spec, blank.keys()) == recipes(blank.spec, blank.keys())


def test_a_source_whose_file_is_gone_is_named(blank):
    (blank.folder / "poems.jsonl").unlink()
    with pytest.raises(ValueError, match=r"poems\.jsonl: no such file or directory"):
        BLUEPRINTS["raw_documents"](blank.spec, "poems/1")


def test_every_need_stands_before_what_needs_it(blank):
    """ORDER is the one topological order that planner, runner and summary share."""
    spec = blank.spec
    for key in blank.keys():
        for need in BLUEPRINTS[key.asset](spec, key.partition).needs:
            assert ORDER.index(need.asset) < ORDER.index(key.asset), f"{need} after {key}"


JUDGES = {"text_classifier", "reference_model"}  # made where a cleaning asks for them
ASKED_FOR = {"imported_model", "compressed_model", "scaling_law"}  # made where a table of their own says so


def test_the_ends_of_a_run_need_every_asset_there_is(blank):
    assert {key.asset for key in blank.keys()} == set(ORDER) - JUDGES - ASKED_FOR


def test_models_that_judge_text_come_after_raw_documents_and_before_clean_ones():
    assert ORDER[: len(JUDGES) + 2] == ["raw_documents", *sorted(JUDGES, reverse=True), "clean_documents"]


def test_the_champion_comes_last(blank):
    """A candidate that the gate refuses has its card and its bundle all the same."""
    assert ORDER[-1] == "champion"
    assert ends_of_run(blank.spec, "demo") == [
        Key("source_profile", "poems/1"),
        Key("source_profile", "letters/1"),
        Key("champion", "demo"),
        Key("model_card", "demo"),
        Key("model_card", "demo-source"),
        Key("audit_bundle", "demo"),
        Key("audit_bundle", "demo-source"),
    ]


def test_a_corpus_needs_its_sources_in_the_order_in_which_survivors_are_preferred(blank):
    def order(spec):
        return [key.partition for key in BLUEPRINTS["duplicate_clusters"](spec, "small").needs]

    assert order(blank.spec) == ["poems/1", "letters/1"] * 2
    turned = spec_with(blank, before='["poems/1", "letters/1"]', after='["letters/1", "poems/1"]')
    assert order(turned) == ["letters/1", "poems/1"] * 2


def test_training_documents_stand_on_every_suite_in_use(blank):
    more = '[suites.second]\ncorpus = "small"\n'
    spec = spec_with(blank, before='suites = ["quiz"]', after='suites = ["quiz", "second"]', more=more)
    needs = BLUEPRINTS["training_documents"](spec, "small").needs
    assert [key.partition for key in needs if key.asset == "benchmark_prompts"] == ["quiz", "second"]
    assert Key("benchmark_prompts", "second") in BLUEPRINTS["benchmark_samples"](spec, "demo").needs


OTHER = """
[vocabularies.tiny]
corpus = "small"
[runs.other]
corpus = "small"
vocabulary = "tiny"
"""


def test_a_run_with_another_vocabulary_has_shards_of_its_own(blank):
    spec = spec_with(blank, more=OTHER)
    assert BLUEPRINTS["mixture"](spec, "other").needs == [
        Key("token_shards", "small@tiny"),
        Key("heldout_shards", "small@tiny"),
        Key("vocabulary", "tiny"),
    ]
    assert Key("vocabulary", "tiny") in BLUEPRINTS["token_shards"](spec, "small@tiny").needs
    assert Key("vocabulary", "words") in BLUEPRINTS["token_shards"](spec, "small").needs
    assert BLUEPRINTS["heldout_shards"](spec, "small@tiny").needs[-1] == Key("vocabulary", "tiny")


def test_what_is_frozen_under_its_name_is_pinned_and_nothing_else(blank):
    spec = blank.spec
    pinned = {key.asset for key in blank.keys() if BLUEPRINTS[key.asset](spec, key.partition).pinned}
    assert pinned == {"vocabulary", "benchmark_prompts", "mixture"}


def test_only_what_a_model_computes_declares_its_numerics(blank):
    spec = blank.spec
    declared = {key.asset for key in blank.keys() if BLUEPRINTS[key.asset](spec, key.partition).numerics}
    assert declared == {"pretrained_model", "finetuned_model", "benchmark_samples"}


def test_compile_mode_is_declared_as_the_recipe_has_it(blank):
    spec = spec_with(blank, before='compile = "off"', after='compile = "on"')
    assert BLUEPRINTS["pretrained_model"](spec, "demo").numerics["compile"] == "on"
    assert BLUEPRINTS["pretrained_model"](blank.spec, "demo").numerics["compile"] == "off"


def test_auto_is_resolved_before_the_recipe_is_hashed(blank):
    spec = spec_with(blank, before='dtype = "fp32"\ncompile = "off"\n', after="")
    recipe = BLUEPRINTS["pretrained_model"](spec, "demo").recipe.identity()
    assert recipe["dtype"] in ("fp32", "bf16")
    assert recipe["compile"] in ("on", "off")


def test_a_fine_tune_begins_with_the_recipe_of_its_task(blank):
    from training.recipes import classifier

    recipe = BLUEPRINTS["finetuned_model"](blank.spec, "demo-source").recipe.identity()
    wanted = classifier().model_dump() | {"max_steps": 10}
    assert {name: recipe[name] for name in wanted if name not in ("dtype", "compile")} == {
        name: value for name, value in wanted.items() if name not in ("dtype", "compile")
    }


def test_an_unknown_task_is_reported_with_its_line(blank):
    spec = spec_with(blank, before='task = "classifier"', after='task = "translation"')
    line = next(n for n, text in enumerate(spec.text.splitlines(), 1) if "translation" in text)
    with pytest.raises(SpecError, match=rf"stemma\.toml:{line}: task: Input should be 'classifier' or 'summary'"):
        BLUEPRINTS["finetuning_shards"](spec, "demo-source")


def test_a_checkpoint_answers_the_suites_of_its_corpus_and_a_fine_tune_its_own_examples(blank):
    spec = blank.spec
    assert BLUEPRINTS["benchmark_samples"](spec, "demo").needs == [
        Key("pretrained_model", "demo"),
        Key("benchmark_prompts", "quiz"),
    ]
    assert BLUEPRINTS["benchmark_samples"](spec, "demo-source").needs == [Key("finetuned_model", "demo-source")]


OWN = """
[suites.own]
path = "own"
"""
TASK = """\
task: own
dataset_path: json
dataset_kwargs: {data_files: {test: own.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
"""


def test_a_vocabulary_of_a_file_is_known_by_its_digest(blank):
    file, more = blank.folder / "tokenizer.json", '[vocabularies.own]\ncorpus = "small"\npath = "tokenizer.json"\n'
    with pytest.raises(ValueError, match="cannot be read"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=more), "own")
    file.write_text("{}")
    one = BLUEPRINTS["vocabulary"](spec_with(blank, more=more), "own")
    assert one.needs == [Key("training_documents", "small")]
    assert len(one.recipe.identity()["file_digest"]) == 64
    file.write_text("{ }")
    assert BLUEPRINTS["vocabulary"](spec_with(blank, more=more), "own").recipe != one.recipe


def test_a_vocabulary_of_the_hub_is_named_by_its_commit(blank, monkeypatch):
    from huggingface_hub import constants

    commit = "ab" * 20
    folder = blank.folder / "cache" / "models--some--words" / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(blank.folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    own = '[vocabularies.own]\ncorpus = "small"\npath = "hf://some/words{}"\n'
    made = BLUEPRINTS["vocabulary"](spec_with(blank, more=own.format(f"@{commit}")), "own").recipe.identity()
    assert made["origin"] == f"hf://some/words@{commit}/tokenizer.json"
    (blank.folder / "tokenizer.json").write_text("{}")
    at_hand = '[vocabularies.own]\ncorpus = "small"\npath = "tokenizer.json"\n'
    there = BLUEPRINTS["vocabulary"](spec_with(blank, more=at_hand), "own").recipe.identity()
    assert made["file_digest"] == there["file_digest"]
    with pytest.raises(ValueError, match=r"stemma\.toml:\d+: 'hf://some/words@main' names main"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=own.format("@main")), "own")
    with pytest.raises(ValueError, match=r"stemma\.toml:\d+: hf://some/words@.* is not in the cache"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=own.format(f"@{'cd' * 20}")), "own")


def test_a_rank_file_without_its_encoding_is_refused_with_the_line(blank):
    (blank.folder / "own.tiktoken").write_text("IQ== 0\n")
    more = '[vocabularies.own]\ncorpus = "small"\npath = "own.tiktoken"\n'
    with pytest.raises(ValueError, match=r"stemma\.toml:\d+: own\.tiktoken: is a rank file.* set encoding to one of"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=more), "own")
    said = more + '[vocabularies.own.recipe]\nencoding = "{}"\n'
    assert BLUEPRINTS["vocabulary"](spec_with(blank, more=said.format("qwen")), "own").recipe.encoding == "qwen"
    with pytest.raises(ValueError, match=r"stemma\.toml:\d+: encoding: Input should be .*'cl100k_base'"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=said.format("cl100k")), "own")
    (blank.folder / "own.tiktoken").write_text("{}")
    with pytest.raises(ValueError, match=r"stemma\.toml:\d+: own\.tiktoken: is no rank file; encoding 'qwen'"):
        BLUEPRINTS["vocabulary"](spec_with(blank, more=said.format("qwen")), "own")


def test_a_suite_of_files_is_known_by_their_digest_and_needs_no_corpus(blank):
    folder = blank.folder / "own"
    folder.mkdir()
    (folder / "own.yaml").write_text(TASK)
    (folder / "own.jsonl").write_text('{"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}\n')
    spec = spec_with(blank, more=OWN)
    before = BLUEPRINTS["benchmark_prompts"](spec, "own")
    assert before.needs == []
    assert before.recipe.identity()["tasks"] == []
    assert len(before.recipe.identity()["files_digest"]) == 64
    (folder / "own.jsonl").write_text('{"question": "2 + 3?", "choices": ["5", "4"], "answer": 0}\n')
    assert BLUEPRINTS["benchmark_prompts"](spec, "own").recipe != before.recipe


def test_runs_compete_whose_corpora_have_the_same_first_suite(blank):
    second = (
        '[corpora.wide]\nsources = ["poems/1"]\nvocabulary = "words"\nsuites = ["quiz"]\n[runs.wide]\ncorpus = "wide"\n'
    )
    spec = spec_with(blank, more=second)
    assert contest(spec, "wide") == contest(spec, "demo") == Key("champion", "quiz")
    assert BLUEPRINTS["champion"](spec, "wide").under == Key("champion", "quiz")


def test_a_run_without_a_suite_is_champion_of_its_corpus(blank):
    spec = spec_with(blank, before='suites = ["quiz"]\n', after="")
    assert contest(spec, "demo") == Key("champion", "small")


def test_a_decision_is_taken_once_for_each_candidate(outline):
    """The champion is settled for a candidate that was crowned, open for one whose scores are new."""
    store = outline.store
    champion = BLUEPRINTS["champion"](outline.spec, "demo")
    assert champion.settled is not None
    assert champion.settled(store)
    outline.pretend(Key("benchmark_scores", "demo"))  # nothing new: the memo answers
    assert champion.settled(store)
    scores = BLUEPRINTS["benchmark_scores"](outline.spec, "demo")
    outline.seal(
        Key("benchmark_scores", "demo"),
        lambda draft: draft.path("text.txt").write_text("new") and None,
        scores.open(store),
    )
    assert not champion.settled(outline.store)
