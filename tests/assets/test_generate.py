"""stemma generate: prompts from the command line and from files, together and alone, from whatever holds a model."""

import json
import shutil

import pytest

GREEDY = ("--temperature", "0", "--tokens", "6")


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A directory with what a model needs."""
    model, path = finished.store.open("pretrained_model", "demo"), tmp_path_factory.mktemp("model") / "mine"
    path.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        shutil.copyfile(model.local(name), path / name)
    return path


def test_several_prompts_are_written_as_each_is_alone(finished, stemma):
    prompts = ("Return the", "The old archive keeps", "")
    wishes = ("--seed", "3", "--tokens", "12", "--min-p", "0.01", "--repetition-penalty", "1.1")
    together = stemma.json(finished, "generate", *prompts, *wishes)
    assert [one["prompt"] for one in together] == list(prompts)
    assert together == [stemma.json(finished, "generate", prompt, *wishes)[0] for prompt in prompts]
    assert {one["finish_reason"] for one in together} <= {"stop", "length"}
    assert stemma(finished, "generate", *prompts, *wishes).count("───") >= 3


def test_what_streams_is_what_comes_at_once(finished, stemma):
    found = stemma.json(finished, "generate", "Return the", *GREEDY)[0]
    assert stemma(finished, "generate", "Return the", *GREEDY) == f"Return the{found['text']}\n"
    assert found["tokens"] == 6


def test_a_stop_text_ends_it_and_is_not_shown(finished, stemma):
    text = stemma.json(finished, "generate", "Return the", *GREEDY)[0]["text"]
    cut = text[2:4]
    found = stemma.json(finished, "generate", "Return the", *GREEDY, "--stop", "@@@", "--stop", cut)[0]
    assert (found["text"], found["finish_reason"]) == (text[: text.index(cut)], "stop")
    assert stemma(finished, "generate", "Return the", *GREEDY, "--stop", cut) == f"Return the{found['text']}\n"


def test_prompts_come_from_files(finished, stemma, tmp_path):
    lines, records = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("Return the\n\nThe river\n")
    records.write_text(json.dumps({"prompt": "two\nlines"}) + "\n")
    found = stemma.json(finished, "generate", "first", "--file", str(lines), *GREEDY)
    assert [one["prompt"] for one in found] == ["first", "Return the", "The river"]
    assert stemma.json(finished, "generate", "--file", str(records), *GREEDY)[0]["prompt"] == "two\nlines"
    records.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    assert 'entry 2: expected {"prompt": "…"}' in stemma(finished, "generate", "--file", str(records), code=2)


def test_a_fine_tune_and_a_directory_write_too(finished, stemma, folder):
    assert stemma.json(finished, "generate", "The river", "--run", "demo-summary", *GREEDY)[0]["tokens"] >= 0
    ours = stemma.json(finished, "generate", "The river", *GREEDY)
    assert stemma.json(finished, "generate", "The river", "--run", str(folder), *GREEDY) == ours


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no prompt"),
        (("a", "--run", "nobody"), "Nor is nobody a directory with a config.json"),
        (("a", "--run", "demo@7"), "no checkpoint of step 7"),
        (("a", "--top-p", "0"), "0 < top_p <= 1"),
        (("a", "--repetition-penalty", "0"), "repetition_penalty > 0"),
        (("a", "--stop", ""), "stop string is empty"),
        (("--file", "/nowhere/prompts.txt"), "--file /nowhere/prompts.txt: no such file or directory; expected a file"),
    ],
)
def test_what_cannot_be_is_said(finished, stemma, arguments, said):
    assert said in stemma(finished, "generate", *arguments, code=2)


def test_a_classifier_does_not_write(finished, stemma):
    assert "is a classifier, it cannot write text" in stemma(finished, "generate", "a", "--run", "demo-source", code=1)
