"""The gate of decontamination: a benchmark in the sources holds training up until the recipe says what to do."""

import gzip
import json
import os
from pathlib import Path

import pytest

from assets.builder import build_key
from assets.checks import no_undecided_leak
from pipelines.provenance.manifest import Key
from tests.assets.test_check_runs import evaluated

TASK = """\
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {data}}}}}
validation_split: validation
output_type: generate_until
doc_to_text: "{{{{context}}}} {{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"]}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
SHARED = Path(os.environ.get("STEMMA_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
QUESTION = "Which year did the people of the parish by the old abbey speak of when the bells were mended at last?"


def with_benchmark(place, questions, texts):
    """A place whose letters are these texts and whose corpus is guarded by a benchmark of these rows."""
    folder = place.folder / "own"
    folder.mkdir()
    (folder / "own.yaml").write_text(TASK.format(task="own", data="own.jsonl"))
    (folder / "own.jsonl").write_text("\n".join(json.dumps(q) for q in questions) + "\n")
    lines = [json.dumps({"id": f"t{n}", "text": text}) for n, text in enumerate(texts)]
    (place.folder / "letters.jsonl").write_text("\n".join(lines) + "\n")
    place.edit('suites = ["quiz"]', 'suites = ["own"]')
    place.edit("[suites.quiz]\n", '[suites.own]\npath = "own"\n\n[suites.quiz]\n')
    return place


def training(place):
    """training_documents of the corpus, with all that it stands on."""
    needs = [k for k in place.keys() if k.asset in {"raw_documents", "clean_documents", "signatures"}]
    chain = ["duplicate_clusters", "unique_documents", "heldout_documents"]
    wanted = [Key(asset, "small") for asset in chain]
    for key in [*needs, *wanted, Key("benchmark_prompts", "own"), Key("training_documents", "small")]:
        build_key(place.spec, place.store, key)
    return place.store.open("training_documents", "small")


def decide(place, action):
    place.edit(
        "[corpora.small.heldout]", f'[corpora.small.decontaminate]\naction = "{action}"\n[corpora.small.heldout]'
    )


def test_a_leak_is_named_by_item_and_blocks_until_the_recipe_says_what_to_do(blank):
    text = f"The clerk asked the whole parish one morning. {QUESTION} 1475, they said, and the clerk wrote it down."
    rows = [
        {"context": "", "question": QUESTION, "answer": "1475"},
        {"context": "", "question": "Why?", "answer": "No."},
    ]
    place = with_benchmark(blank, rows, [text])
    artifact = training(place)
    passed, found = no_undecided_leak(artifact)
    assert not passed
    assert (found["items_dirty"], found["items_not_checkable"]) == (1, 1)
    assert found["dirty"] == "own/own/own-000000 (1 documents)"
    assert 'action = "drop", "cut" or "flag" into [corpora.small.decontaminate]' in found["problem"]
    refused = evaluated(place, "training_documents", "no_undecided_leak", "small")
    assert not refused.passed
    assert refused.metadata["dirty"].value == found["dirty"]
    decide(place, "drop")
    decided = training(place)
    assert no_undecided_leak(decided)[0]
    assert decided.manifest.rows != artifact.manifest.rows, "the report tells that the item is clean now"
    assert evaluated(place, "training_documents", "no_undecided_leak", "small").passed


def test_a_flagged_item_passes_and_is_still_named(blank):
    text = f"The clerk asked the whole parish one morning. {QUESTION} 1475, they said, and the clerk wrote it down."
    place = with_benchmark(blank, [{"context": "", "question": QUESTION, "answer": "1475"}], [text])
    decide(place, "flag")
    passed, found = no_undecided_leak(training(place))
    assert passed
    assert (found["items_dirty"], found["dirty"]) == (1, "own/own/own-000000 (1 documents)")


def test_a_suite_of_held_out_documents_asks_no_question(library):
    passed, found = no_undecided_leak(library.store.open("training_documents", "small"))
    assert passed
    assert (found["items"], found["items_dirty"]) == (4, 0)


def test_preview_tells_what_other_thresholds_would_act_on(blank, stemma):
    half = " ".join(QUESTION.split()[:15])
    texts = [
        f"The clerk asked the whole parish one morning. {shown} So he wrote it down." for shown in (QUESTION, half)
    ]
    place = with_benchmark(blank, [{"context": "", "question": QUESTION, "answer": "1475"}], texts)
    place.edit("ratio = 0.2", "ratio = 0.0")
    training(place)
    printed = stemma(place, "preview", "training_documents", "small", "--set", "coverage=0.95")
    assert "asked" in printed
    found = json.loads(stemma(place, "preview", "training_documents", "--set", "coverage=0.95", "--json"))["small"]
    by_coverage = {cost["coverage"]: (cost["documents"], cost["items"]) for cost in found["costs"]}
    assert (by_coverage[0.4], by_coverage[0.95]) == ((2, 1), (1, 1))
    assert found["documents"] == 26
    for wrong in ("ngram=12", "coverage=yes"):
        stemma(place, "preview", "training_documents", "--set", wrong, code=2)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is absent; set STEMMA_SHARED_DATA")
def test_the_planted_leak_of_the_shared_data_is_named_and_blocks(blank):
    """A fine-tuning set of questions and answers that shares its questions with XQuAD."""
    with gzip.open(SHARED / "benchmarks" / "xquad" / "xquad.en.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = list(map(json.loads, lines))
    questions = [{"context": "", "question": r["question"], "answer": r["answers"]["text"][0]} for r in rows]
    train = json.loads((SHARED / "finetune" / "qa" / "squad_en_train.json").read_text(encoding="utf-8"))
    passages = [p for article in train["data"] for p in article["paragraphs"]]
    texts = [
        "\n".join([p["context"], *(f"{qa['question']} {qa['answers'][0]['text']}" for qa in p["qas"])])
        for p in passages
    ]
    place = with_benchmark(blank, questions, texts)
    passed, found = no_undecided_leak(training(place))
    assert not passed
    shared = {qa["question"] for p in passages for qa in p["qas"]}
    leaked = [n for n, q in enumerate(questions) if q["question"] in shared]
    assert found["items_dirty"] > 0.8 * len(leaked)
    dirty = {r["item_id"] for r in training(place).table("items.arrow").to_pylist() if r["status"] == "dirty"}
    assert dirty <= {f"own-{n:06d}" for n in leaked}
    decide(place, "cut")
    assert no_undecided_leak(training(place))[0]
