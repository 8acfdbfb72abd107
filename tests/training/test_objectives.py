"""What a batch costs: cross-entropy by hand, only what counts, every class alike."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from echo import AGAIN, LOG_AGAIN, LOG_OTHER, V, echo, silent

from training.models.classifier import GPTClassifier
from training.models.gpt import initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken, WeightedClass

SHAPE = GPTRecipe(vocab_size=V, sequence_length=16, layers=2, width=16, heads=2, kv_heads=1, mlp_width=16)
WEIGHTS = [0.5, 1.0, 4.0]


def next_token(network, rows, weights=None):
    return NextToken(network)(torch.tensor(rows), None if weights is None else torch.tensor(weights), None, None)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary_for_every_target():
    assert next_token(silent(), [[5, 9, 30, 2], [7, 7, 7, 7]]).item() == pytest.approx(6 * math.log(V), rel=1e-6)


def test_the_cost_is_that_of_each_target_given_the_token_before_it():
    # 5 after 5 is expected, 9 after 5 and 5 after 9 are not
    assert next_token(echo(), [[5, 5, 9, 5]]).item() == pytest.approx(-(LOG_AGAIN + 2 * LOG_OTHER), rel=1e-4)


def test_the_last_token_is_a_target_and_never_read():
    from training.models.gpt import GPT

    network = GPT(SHAPE).eval()
    initialise(network, 2, 0)
    rows = torch.arange(2, 12)[None]
    assert torch.equal(network(rows[:, :-1]), network(rows)[:, :-1])
    assert network.losses(rows).shape == (1, 9)


def test_targets_that_weigh_nothing_cost_nothing():
    rows = [[5, 5, 9, 5]]
    assert next_token(echo(), rows, [[1.0, 0.0, 0.0]]).item() == pytest.approx(-LOG_AGAIN, rel=1e-2)
    assert next_token(echo(), rows, [[0.0, 1.0, 1.0]]).item() == pytest.approx(-2 * LOG_OTHER, rel=1e-4)
    assert next_token(echo(), rows, [[0.0, 0.0, 0.0]]).item() == 0.0


def test_a_weight_multiplies_the_cost_of_its_target():
    once, thrice = (next_token(silent(), [[5, 6, 7]], [[w, 0.0]]).item() for w in (1.0, 3.0))
    assert thrice == pytest.approx(3 * once)


def test_the_cost_of_a_batch_is_that_of_its_rows():
    network = silent()
    initialise(network, 2, 3)
    rows = torch.randint(2, V, (4, 9), generator=torch.Generator().manual_seed(0)).tolist()
    alone = [next_token(network, [row]).item() for row in rows]
    assert next_token(network, rows).item() == pytest.approx(math.fsum(alone), rel=1e-5)


# -- classes ---------------------------------------------------------------------------------------------------


def classifier(seed=0):
    network = GPTClassifier(SHAPE, len(WEIGHTS)).eval()
    initialise(network, 2, seed)
    with torch.no_grad():
        network.score.weight.mul_(50)  # so that classes differ
    return network


def passages(lengths, pad=1, width=12):
    """Rows of unequal length, padded on the right, and the index of each one's last token."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.full((len(lengths), width), pad)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(2, V, (length,), generator=draw)
    return rows, torch.tensor(lengths) - 1


def cost(network, rows, ends, labels):
    return WeightedClass(network, torch.tensor(WEIGHTS))(rows, None, torch.tensor(labels), ends)


def test_the_cost_of_a_class_by_hand():
    network, (rows, ends) = classifier(), passages([5, 9])
    logits = network(rows, ends)
    wanted = sum(
        WEIGHTS[label] * (math.log(sum(math.exp(v) for v in row.tolist())) - row[label].item())
        for row, label in zip(logits, (2, 0), strict=True)
    )
    assert cost(network, rows, ends, [2, 0]).item() == pytest.approx(wanted, rel=1e-5)


def test_divided_by_the_weight_of_the_batch_it_is_torchs_weighted_mean():
    network, (rows, ends), labels = classifier(), passages([5, 9, 12, 3]), [2, 0, 1, 1]
    mean = F.cross_entropy(network(rows, ends), torch.tensor(labels), torch.tensor(WEIGHTS))
    total = sum(WEIGHTS[label] for label in labels)
    assert cost(network, rows, ends, labels).item() / total == pytest.approx(mean.item(), rel=1e-5)


@pytest.mark.parametrize(("pad", "width"), [(0, 12), (63, 12), (1, 16)])
def test_what_stands_behind_the_end_of_a_passage_does_not_matter(pad, width):
    network = classifier()
    rows, ends = passages([5, 9])
    others, same_ends = passages([5, 9], pad, width)
    assert torch.equal(ends, same_ends)
    assert torch.allclose(network(rows, ends), network(others, same_ends), atol=1e-5)


def test_a_passage_is_judged_by_its_last_token_and_all_before_it():
    network, (rows, ends) = classifier(), passages([5])
    changed = rows.clone()
    changed[0, 0] = 3 + changed[0, 0] % 40
    assert not torch.equal(network(rows, ends), network(changed, ends))
    assert not torch.equal(network(rows, ends), network(rows, ends - 1))


def test_class_weights_move_with_the_network_and_are_not_saved():
    objective = WeightedClass(classifier(), torch.tensor(WEIGHTS))
    assert [name for name, _ in objective.named_buffers() if "class" in name] == ["class_weights"]
    assert not [name for name in objective.state_dict() if "class" in name]


def test_the_echo_is_what_its_constants_say():
    logits = echo()(torch.tensor([[5, 9]]))[0, -1]
    assert logits[9].item() == pytest.approx(AGAIN, abs=1e-3)
    assert logits.log_softmax(-1)[9].item() == pytest.approx(LOG_AGAIN, abs=1e-4)
    assert logits.log_softmax(-1)[5].item() == pytest.approx(LOG_OTHER, abs=1e-3)


# -- label smoothing and z-loss --------------------------------------------------------------------------------


def test_smoothing_and_z_loss_by_hand():
    network = silent()
    initialise(network, 2, 3)
    with torch.no_grad():
        network.model.embed_tokens.weight.mul_(20)
    rows = torch.tensor([[5, 9, 30, 2]])
    logits = network(rows[:, :-1])[0].detach().double()
    wanted = 0.0
    for row, target in zip(logits, rows[0, 1:].tolist(), strict=True):
        log_z = row.logsumexp(-1)
        log_p = row - log_z
        wanted += -(0.9 * log_p[target] + 0.1 * log_p.mean()) + 0.01 * log_z**2
    found = NextToken(network, label_smoothing=0.1, z_loss=0.01)(rows)
    assert found.item() == pytest.approx(float(wanted), rel=1e-5)


def test_weights_count_with_smoothing_too():
    objective = NextToken(silent(), label_smoothing=0.1)
    rows, weights = torch.tensor([[5, 6, 7]]), torch.tensor([[3.0, 0.0]])
    assert objective(rows, weights).item() == pytest.approx(3 * math.log(V), rel=1e-6)
