"""The adapter on models whose every likelihood is known by hand: an echo, and one that knows nothing."""

import math

import pytest
from echo import LOG_AGAIN, LOG_OTHER, V, echo, names, silent

CONTEXT = 16


class Asked:
    """As much of an lm-eval request as a model looks at."""

    def __init__(self, *args):
        self.args = args


def adapter(network, **fields):
    from evals.language_model import StemmaLM
    from training.generate import Generator

    return StemmaLM(Generator(network, names(), 0), {}, **{"batch_tokens": 64, "max_new_tokens": 5, **fields})


@pytest.fixture(scope="module")
def echoing():
    return adapter(echo(CONTEXT))


@pytest.fixture(scope="module")
def ignorant():
    return adapter(silent(CONTEXT))


def again(count):
    return pytest.approx(count * LOG_AGAIN, rel=1e-2)


def other(count):
    return pytest.approx(count * LOG_OTHER, rel=1e-4)


def loglik(model, *pairs):
    return model.loglikelihood([Asked(*pair) for pair in pairs])


def words(*numbers):
    return " ".join(f"w{n}" for n in numbers)


# -- likelihoods -----------------------------------------------------------------------------------------------


def test_what_is_said_again_is_likely_and_greedy(echoing):
    assert loglik(echoing, ("w5", " w5")) == [(again(1), True)]
    assert loglik(echoing, ("w5", " w5 w5 w5")) == [(again(3), True)]


def test_what_is_new_is_unlikely_and_not_greedy(echoing):
    assert loglik(echoing, ("w5", " w9")) == [(other(1), False)]
    [(found, greedy)] = loglik(echoing, ("w5", " w5 w9"))
    assert (found, greedy) == (pytest.approx(LOG_AGAIN + LOG_OTHER, rel=1e-4), False)  # one wrong word is enough


def test_a_model_that_knows_nothing_gives_every_token_its_share(ignorant):
    for count in (1, 4, 15):
        [(found, _)] = loglik(ignorant, ("w5", " " + words(*range(20, 20 + count))))
        assert found == pytest.approx(-count * math.log(V), rel=1e-6)


def test_without_a_context_the_end_of_text_is_what_is_read(echoing):
    assert loglik(echoing, ("", "w5")) == [(other(1), False)]
    assert loglik(echoing, ("", "<|endoftext|>")) == [(again(1), True)]
    assert loglik(echoing, ("   ", "w5")) == [(other(1), False)]


def test_a_long_context_loses_its_beginning_and_not_its_end(echoing):
    """The echo looks at the last word alone: whatever is cut on the left must not matter."""
    long = words(*[9] * 40, 5)
    assert loglik(echoing, (long, " w5")) == loglik(echoing, ("w5", " w5"))
    assert loglik(echoing, (long, " w9")) == [(other(1), False)]


@pytest.mark.parametrize("count", [1, 2, 15, 16])
def test_all_of_the_context_that_fits_is_read(echoing, count):
    """Sixteen tokens are read: the last target is none of them."""
    [window] = echoing._windows(list(range(40)), list(range(50, 50 + count)))
    assert len(window.inputs) == CONTEXT
    assert window.context == tuple(range(40 - (CONTEXT + 1 - count), 40))
    [short] = echoing._windows([7], [50])
    assert (short.context, short.targets, short.inputs) == ((7,), (50,), (7,))


@pytest.mark.parametrize("count", [1, 14, 15, 16, 17, 18, 33, 50])
def test_a_continuation_of_any_length_is_scored_whole(echoing, ignorant, count):
    """Up to the context, one beyond it, and several windows: every word once, each after the word before it."""
    assert loglik(ignorant, ("w5", " " + words(*[7] * count)))[0][0] == pytest.approx(-count * math.log(V), rel=1e-6)
    [(found, greedy)] = loglik(echoing, ("w5", " " + words(*[5] * count)))
    assert (found, greedy) == (again(count), True)
    assert loglik(echoing, ("w9", " " + words(*[5] * count)))[0][0] == pytest.approx(
        LOG_OTHER + (count - 1) * LOG_AGAIN, rel=1e-2
    )


def test_answers_stand_in_the_order_of_the_questions(echoing):
    pairs = [("w5", " w5"), ("w5", " w9"), ("w5 w6 w7", " w7 w7"), ("", "w9"), ("w5", " w5")]
    wanted = [LOG_AGAIN, LOG_OTHER, 2 * LOG_AGAIN, LOG_OTHER, LOG_AGAIN]
    assert [found for found, _ in loglik(echoing, *pairs)] == pytest.approx(wanted, rel=1e-2)
    assert [found for found, _ in loglik(echoing, *pairs[::-1])] == pytest.approx(wanted[::-1], rel=1e-2)


def test_nothing_asked_is_nothing_answered(echoing):
    assert echoing.loglikelihood([]) == []
    assert echoing.loglikelihood_rolling([]) == []
    assert echoing.generate_until([]) == []


def test_an_empty_answer_to_an_empty_question_costs_nothing_and_moves_no_other_answer(echoing):
    """It has no token to score: were its place in the batch counted all the same, those behind it would slip."""
    alone = loglik(echoing, ("w9", " w9"), ("w5", " w6"))
    assert loglik(echoing, ("w9", " w9"), ("", ""), ("w5", " w6")) == [alone[0], (0.0, True), alone[1]]
    assert loglik(echoing, ("", ""), ("w5", " w6")) == [(0.0, True), alone[1]]
    assert loglik(echoing, ("", "")) == [(0.0, True)]


@pytest.mark.parametrize("batch_tokens", [1, 7, 10_000])
def test_batches_do_not_change_answers(echoing, batch_tokens):
    pairs = [(words(*range(2, 2 + n)), " " + words(*[9] * (n % 5 + 1))) for n in range(1, 14)]
    found = adapter(echo(CONTEXT), batch_tokens=batch_tokens).loglikelihood([Asked(*pair) for pair in pairs])
    assert [ll for ll, _ in found] == pytest.approx([ll for ll, _ in loglik(echoing, *pairs)], rel=1e-5)


def test_logits_are_taken_in_pieces_without_changing_an_answer(echoing, monkeypatch):
    import evals.language_model

    pairs = [("w5", " " + words(*range(9, 9 + n))) for n in range(1, 12)]
    wanted = loglik(echoing, *pairs)
    monkeypatch.setattr(evals.language_model, "LOGITS_AT_ONCE", 3 * V)
    assert loglik(echoing, *pairs) == wanted


# -- rolling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 100])
def test_every_word_of_a_text_is_scored_once_whatever_its_length(ignorant, echoing, count):
    text = words(*[7] * count)
    assert ignorant.loglikelihood_rolling([Asked(text)]) == [pytest.approx(-count * math.log(V), rel=1e-6)]
    # the first word comes after the end of text, every other one after itself, also across the border of two windows
    assert echoing.loglikelihood_rolling([Asked(text)]) == [
        pytest.approx(LOG_OTHER + (count - 1) * LOG_AGAIN, rel=1e-2)
    ]


def test_rolling_is_the_likelihood_of_the_text_after_nothing(echoing):
    for text in ("w5", words(*range(2, 12)), words(*[3, 3, 4] * 20)):
        assert echoing.loglikelihood_rolling([Asked(text)])[0] == pytest.approx(loglik(echoing, ("", text))[0][0])


def test_two_texts_cost_what_each_costs_alone(echoing):
    texts = [words(*range(2, 40)), "", words(5, 5, 5)]
    alone = [echoing.loglikelihood_rolling([Asked(text)])[0] for text in texts]
    assert echoing.loglikelihood_rolling([Asked(text) for text in texts]) == pytest.approx(alone)
    assert alone[1] == 0.0


# -- generated text --------------------------------------------------------------------------------------------


def generated(model, prompt, **wishes):
    return model.generate_until([Asked(prompt, wishes)])[0]


def test_the_echo_repeats_itself_as_often_as_it_may(echoing):
    assert generated(echoing, "w5 w9") == "w9 w9 w9 w9 w9"  # five, where the task does not say
    assert generated(echoing, "w5 w9", max_gen_toks=2) == "w9 w9"
    assert generated(echoing, "w5 w9", max_gen_toks=500) == words(*[9] * (CONTEXT - 1))  # the context is the limit


@pytest.mark.parametrize(
    ("until", "wanted"),
    [
        (["w9 w9 w9"], ""),
        ([" w9"], "w9"),
        (" w9", "w9"),  # one string is a list of one
        (["9 w9", " w9"], "w"),
        ([" w9", "9 w9"], "w"),  # the one that stands first in the text, not the first of the list
        (["nowhere"], "w9 w9 w9 w9 w9"),
        ([""], "w9 w9 w9 w9 w9"),  # an empty string stands everywhere and means nothing
        ([], "w9 w9 w9 w9 w9"),
        (None, "w9 w9 w9 w9 w9"),
    ],
)
def test_text_ends_before_the_first_stop_string(echoing, until, wanted):
    assert generated(echoing, "w9", until=until) == wanted


def test_the_end_of_text_ends_a_text_and_is_not_shown(ignorant, echoing):
    assert generated(ignorant, "w9") == ""  # all alike: the first token, which is the end of text
    assert generated(echoing, "") == ""


def test_prompts_with_other_limits_are_answered_in_their_order(echoing):
    asked = [("w9", {"max_gen_toks": 1}), ("w5 w6", {"max_gen_toks": 3}), ("w7", {}), ("w8", {"max_gen_toks": 1})]
    assert echoing.generate_until([Asked(*each) for each in asked]) == ["w9", "w6 w6 w6", words(*[7] * 5), "w8"]


def test_a_long_prompt_loses_its_beginning(echoing):
    assert generated(echoing, words(*[9] * 60, 4), max_gen_toks=3) == "w4 w4 w4"


@pytest.mark.parametrize("wishes", [{"do_sample": True}, {"do_sample": True, "temperature": 0.7}])
def test_a_draw_cannot_be_repeated_and_is_refused(echoing, wishes):
    with pytest.raises(ValueError, match="only greedy text can be repeated"):
        generated(echoing, "w9", **wishes)


@pytest.mark.parametrize("wishes", [{"do_sample": False, "temperature": 0.7}, {"do_sample": True, "temperature": 0}])
def test_what_is_greedy_all_the_same_is_allowed(echoing, wishes):
    assert generated(echoing, "w9", max_gen_toks=2, **wishes) == "w9 w9"
