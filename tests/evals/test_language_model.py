"""The adapter against transformers: same tokens, same likelihoods, same greedy text."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.provenance.store import Store

TOLERANCE = 1e-5


class Asked:
    """As much of an lm-eval request as a model looks at."""

    def __init__(self, *args):
        self.args = args


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, make_checkpoint):
    return make_checkpoint(Store(tmp_path_factory.mktemp("lm")))


@pytest.fixture(scope="module")
def ours(checkpoint):
    from evals.language_model import StemmaLM

    return StemmaLM.of(checkpoint, batch_tokens=512, max_new_tokens=8)


@pytest.fixture(scope="module")
def llama(checkpoint):
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.weights import load_weights

    model = LlamaForCausalLM(LlamaConfig(**checkpoint.json("config.json")))
    found = model.load_state_dict(load_weights(checkpoint.local("model.safetensors")), strict=False)
    assert not found.unexpected_keys
    assert found.missing_keys in ([], ["lm_head.weight"])
    model.tie_weights()
    return model.eval()


@pytest.fixture(scope="module")
def plain(llama, tokenizer):
    """Log-likelihood and greedy flag by the textbook: one pair at a time, all logits."""
    import torch

    def compute(context, continuation, max_length=96):
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        before = tokenizer.encode(context, add_special_tokens=False).ids
        after = tokenizer.encode(context + continuation, add_special_tokens=False).ids[len(before) :]
        if not after:
            return 0.0, True
        whole = ([*(before or [0]), *after])[-(max_length + 1) :]
        with torch.inference_mode():
            logprobs = llama(torch.tensor([whole[:-1]])).logits.log_softmax(-1)[0, -len(after) :]
        chosen = [float(logprobs[i, t]) for i, t in enumerate(after)]
        return math.fsum(chosen), logprobs.argmax(-1).tolist() == after

    return compute


PAIRS = [
    ("The array returns", " a copy of the input value."),
    ("The array returns ", "a copy"),  # the space moves to the continuation
    ("The array returns \n ", "a copy"),
    ("", "Raises error"),
    ("The array", "s are given unless shape"),  # the border may fall inside a word
    ("index " * 200, "raises error"),  # loses its beginning
    ("naïve café ", "你好"),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_likelihoods_are_those_of_transformers(ours, plain, pair):
    loglik, greedy = ours.loglikelihood([Asked(*pair)])[0]
    wanted, wanted_greedy = plain(*pair)
    assert loglik == pytest.approx(wanted, rel=TOLERANCE)
    assert greedy == wanted_greedy


def test_a_batch_of_all_pairs_answers_in_their_order(ours, plain):
    many = [*PAIRS, *reversed(PAIRS), PAIRS[0]]
    found = ours.loglikelihood([Asked(*pair) for pair in many])
    assert [ll for ll, _ in found] == pytest.approx([plain(*pair)[0] for pair in many], rel=TOLERANCE)
    assert found[0] == found[-1]  # what was asked twice was computed once


def test_the_greedy_continuation_is_flagged_greedy(ours, tokenizer):
    said = ours.generate_until([Asked("The array returns", {"until": []})])[0]
    assert tokenizer.encode("The array returns" + said).ids[:3] == tokenizer.encode("The array returns").ids[:3]
    [(_, greedy)] = ours.loglikelihood([Asked("The array returns", said)])
    assert greedy or tokenizer.encode(said).ids != tokenizer.encode("The array returns" + said).ids


def test_rolling_reads_every_token_once(ours, llama, tokenizer):
    import torch

    text = "The index raises error unless shape is given. " * 20  # longer than what the model reads at once
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) > 2 * ours.max_length
    total = 0.0
    for start in range(0, len(ids), 96):
        new = ids[start : start + 96]
        # one token of context, except that the last window is filled up to the left
        piece = [0, *new] if start == 0 else ids[min(start - 1, len(ids) - 97) : start + 96]
        with torch.inference_mode():
            logprobs = llama(torch.tensor([piece[:-1]])).logits.log_softmax(-1)[0, -len(new) :]
        total += math.fsum(float(logprobs[i, t]) for i, t in enumerate(new))
    assert ours.loglikelihood_rolling([Asked(text)])[0] == pytest.approx(total, rel=TOLERANCE)


def test_a_continuation_longer_than_the_model_is_still_scored_whole(ours, tokenizer):
    words = " value" * 150
    one = ours.loglikelihood([Asked("The", words)])[0][0]
    assert math.isfinite(one)
    assert one < ours.loglikelihood([Asked("The", " value" * 50)])[0][0]
    assert len(ours._windows([5], tokenizer.encode(words).ids)) > 1


def test_an_empty_text_costs_nothing(ours):
    assert ours.loglikelihood_rolling([Asked("")]) == [0.0]


@settings(max_examples=25, deadline=None)
@given(st.text("abc the array \n", max_size=40), st.text("xyz value .", min_size=1, max_size=20))
def test_any_text_is_scored_like_transformers_scores_it(ours, plain, context, continuation):
    pair = (context, continuation)
    if not context.rstrip() or not context[: len(context.rstrip())]:
        pair = ("The " + context, continuation)
    wanted, _ = plain(*pair)
    assume(wanted < 0)  # a merge over the border may leave nothing to score, which the textbook cannot do
    assert ours.loglikelihood([Asked(*pair)])[0][0] == pytest.approx(wanted, rel=TOLERANCE, abs=1e-5)


def test_batches_change_last_bits_at_most(checkpoint, ours):
    from evals.language_model import StemmaLM

    single = StemmaLM.of(checkpoint, batch_tokens=1, max_new_tokens=8)
    asked = [Asked(*pair) for pair in PAIRS]
    again = ours.loglikelihood(asked)
    assert again == ours.loglikelihood(asked)
    assert [ll for ll, _ in single.loglikelihood(asked)] == pytest.approx([ll for ll, _ in again], rel=1e-5)


def test_greedy_text_is_that_of_transformers(ours, llama, tokenizer):
    import torch

    prompt = "The index raises"
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    new = llama.generate(ids, do_sample=False, max_new_tokens=8, pad_token_id=1, eos_token_id=0)[
        0, ids.shape[1] :
    ].tolist()
    wanted = tokenizer.decode(new[: new.index(0)] if 0 in new else new)
    assert ours.generate_until([Asked(prompt, {"until": []})]) == [wanted]
    stop = wanted[2:4]
    assert ours.generate_until([Asked(prompt, {"until": [stop], "max_gen_toks": 8})]) == [wanted[: wanted.index(stop)]]


def test_sampled_text_is_refused(ours):
    with pytest.raises(ValueError, match="sampled text"):
        ours.generate_until([Asked("The", {"do_sample": True, "temperature": 0.7})])


def test_results_name_the_checkpoint(ours, checkpoint):
    assert ours.get_model_info() == {"checkpoint": "pretrained_model[demo]", "checkpoint_digest": checkpoint.digest}
