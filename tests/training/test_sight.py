"""Who sees whom: documents in a packed sequence are read as if they stood alone, and a window ends where it says."""

from __future__ import annotations

import os

import pytest
import torch
from jobs import Interrupted, in_process, launch_in_process, shards_of, small_job, small_model, stopping, tuned
from test_attention import model, tokens
from test_encoder import encoder
from test_packed_run import mixed
from test_parallel import job_of, losses, run

from training import numerics
from training.export import export
from training.generate import greedy
from training.job import Job
from training.models import sight
from training.models.blocks import KVCache
from training.models.config import from_hf_config, hf_config
from training.objectives import HiddenTokens, NextToken
from training.pretrain import job_of as pretrain_job
from training.pretraining import Pretraining
from training.recipes import PretrainRecipe
from training.run import train

CPU = torch.device("cpu")
LENGTHS = [7, 1, 9, 6]  # documents of a sequence of 23 tokens
NUMBERS = torch.tensor([[number for number, length in enumerate(LENGTHS) for _ in range(length)]])
SHAPES = [{}, {"qk_norm": True}, {"blocks": "gpt2", "kv_heads": 4}]


def by_hand(numbers, window, causal):
    length = len(numbers)
    return [
        [numbers[q] == numbers[k] and (k <= q or not causal) and (not window or q - k < window) for k in range(length)]
        for q in range(length)
    ]  # fmt: skip


# -- masks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [0, 1, 4, 23, 99])
def test_masks_are_those_written_out_pair_by_pair(window, causal):
    mask = sight.narrowed(None, 0, 23, CPU, causal=causal, window=window, documents_BT=NUMBERS)
    assert mask[0, 0].tolist() == by_hand(NUMBERS[0].tolist(), window, causal)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("rules", [{"causal": True, "window": 4}, {"causal": False}, {"causal": True}])
def test_flex_attention_sees_what_the_reference_sees(rules):
    """Its forward pass runs on a CPU as well; 200 tokens are more than one of its blocks of 128."""
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 200, 16, generator=draw) for heads in (4, 2, 2))
    numbers = torch.randint(0, 9, (2, 200), generator=draw).sort().values
    mask = sight.narrowed(None, 0, 200, CPU, documents_BT=numbers, **rules)
    blocks = sight.block_mask(numbers, 200, CPU, **rules)
    found = [sight.attention(q, k, v, each, causal=rules["causal"], shared=True) for each in (mask, blocks)]
    assert (found[0] - found[1]).abs().max() <= 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: FlexAttention has no backward pass on a CPU")
@pytest.mark.parametrize("causal", [True, False])
def test_compiled_flex_attention_gives_the_gradients_of_the_reference(causal):
    device, draw = torch.device("cuda"), torch.Generator().manual_seed(0)
    numbers = torch.randint(0, 9, (2, 512), generator=draw).sort().values.to(device)
    tensors = [torch.randn(2, heads, 512, 64, generator=draw).to(device).requires_grad_() for heads in (4, 2, 2)]

    def out(blockwise):
        make = sight.block_mask if blockwise else lambda n, *a, **k: sight.narrowed(None, 0, *a, documents_BT=n, **k)
        mask = make(numbers, 512, device, causal=causal, window=100 if causal else 0)
        return sight.attention(*tensors, mask, causal=causal, shared=True).square().sum()

    found = [torch.autograd.grad(torch.compile(out)(blockwise), tensors) for blockwise in (True, False)]
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-2, rtol=1e-2)


def test_positions_begin_anew_with_every_document():
    assert sight.positions(NUMBERS)[0].tolist() == [place for length in LENGTHS for place in range(length)]
    assert sight.positions(torch.tensor([[0, 0, -1, -1], [3, 4, 5, 5]])).tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]


# -- packed sequences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", SHAPES, ids=["llama", "qwen3", "gpt2"])
def test_packed_documents_have_the_logits_of_documents_alone(fields):
    network, row = model(**fields), tokens(1, 23)
    with torch.no_grad():
        packed = network(row, documents_BT=NUMBERS).split(LENGTHS, 1)
        for found, alone in zip(packed, row.split(LENGTHS, 1), strict=True):
            assert (found - network(alone)).abs().max() <= 1e-5
        assert not torch.allclose(network(row)[:, -6:], packed[-1], atol=1e-2)


def test_packed_documents_have_the_logits_of_documents_alone_in_an_encoder():
    network, row = encoder(), tokens(1, 23)
    with torch.no_grad():
        packed = network(row, documents_BT=NUMBERS).split(LENGTHS, 1)
        for found, alone in zip(packed, row.split(LENGTHS, 1), strict=True):
            assert (found - network(alone)).abs().max() <= 1e-5
        places = torch.tensor([[2, 9, 22]])
        wanted = -network(row, documents_BT=NUMBERS).log_softmax(-1)[0, places[0], row[0, places[0]]].sum()
        cost = HiddenTokens(network)(row, torch.ones(1, 3), None, None, places, row.gather(1, places), NUMBERS)
        assert cost.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("fields", [{}, {"z_loss": 1e-3, "label_smoothing": 0.1}], ids=["plain", "z-loss"])
def test_packed_documents_cost_what_held_out_documents_cost(fields):
    """Each is read behind one end of text, as :mod:`training.heldout` and prompts are."""
    network, end = NextToken(model(), **fields), 0
    documents = [[5, 6, 7, 8, end], [9, end], [10, 11, 12, end]]
    row = torch.tensor([[end, *(token for document in documents for token in document)]])
    numbers = torch.tensor([[-1, *(n for n, document in enumerate(documents) for _ in document)]])
    with torch.no_grad():
        apart = sum(network(torch.tensor([[end, *document]])) for document in documents)
        assert network(row, documents_BT=numbers).item() == pytest.approx(apart.item(), rel=1e-5)
        assert network(row).item() != pytest.approx(apart.item(), rel=1e-3)


def test_other_documents_of_the_sequence_leave_no_trace_in_the_gradient():
    network, found = model(), []
    network.model.embed_tokens.register_forward_hook(lambda m, i, out: found.append(out) or out.retain_grad())
    network(tokens(1, 23), documents_BT=NUMBERS)[0, 12].sum().backward()
    touched = (found[0].grad[0].abs().sum(-1) > 0).tolist()
    assert touched == [8 <= place <= 12 for place in range(23)]


# -- windows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [2, 5, 24])
@pytest.mark.parametrize("qk_norm", [False, True], ids=["mistral", "qwen3"])
def test_a_window_gives_the_logits_and_the_text_of_transformers(window, qk_norm):
    from transformers import AutoConfig, AutoModelForCausalLM

    ours = model(window=window, qk_norm=qk_norm)
    config = hf_config(ours.recipe, 0, 1)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    assert type(theirs).__name__ == config["architectures"][0] == ("Qwen3" if qk_norm else "Mistral") + "ForCausalLM"
    assert from_hf_config(config) == ours.recipe.model_copy(update={"vocab_size": 128})
    with torch.no_grad():
        assert (theirs(tokens(2, 24)).logits - ours(tokens(2, 24))).abs().max() <= 1e-5
        start = tokens(1, 9)
        written = theirs.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=15, do_sample=False)
    assert greedy(ours, start.tolist(), 15, 0, 128)[0] == [token for token in written[0, 9:].tolist() if token]


def test_a_window_is_kept_across_the_cache_and_in_padded_rows():
    network, row = model(window=4), tokens(1, 16)
    with torch.no_grad():
        wanted, cache = network(row), KVCache()
        pieces = [network(piece, cache) for piece in row.split([5, 1, 7, 3], 1)]
        assert torch.allclose(torch.cat(pieces, 1), wanted, atol=1e-5)
        padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), row], 1)
        assert torch.allclose(network(padded, KVCache(torch.tensor([3])))[:, 3:], wanted, atol=1e-5)
        assert not torch.allclose(model()(row)[:, 5:], wanted[:, 5:], atol=1e-2)


def test_a_window_and_documents_hold_together():
    network, row = model(window=3), tokens(1, 23)
    with torch.no_grad():
        packed = network(row, documents_BT=NUMBERS).split(LENGTHS, 1)
        for found, alone in zip(packed, row.split(LENGTHS, 1), strict=True):
            assert (found - network(alone)).abs().max() <= 1e-5


def test_a_run_with_a_window_is_fine_tuned_and_exported_as_mistral(world, tmp_path):
    fields = {"window": 8, "attend": "document"}
    sealed = small_model(world, "window", steps=30, length=64, launch=launch_in_process, **fields)
    assert export(sealed, tmp_path / "out")["architecture"] == "MistralForCausalLM"
    classifier = tuned(world, sealed, shards_of(world, "of-window"), "of-window", epochs=1)
    facts = export(classifier, tmp_path / "classifier")
    assert facts["architecture"] == "MistralForSequenceClassification"
    assert facts["max_logit_difference"] <= 1e-5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_window_layers": 1}, "max_window_layers 1: only some blocks"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "only some blocks"),
    ],
)
def test_a_window_of_some_blocks_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        from_hf_config(hf_config(model(window=4, qk_norm=True).recipe, 0, 1) | change)


def test_a_mistral_must_say_its_window_and_null_is_none():
    config = hf_config(model(window=4).recipe, 0, 1)
    assert from_hf_config(config | {"sliding_window": None}).window == 0
    del config["sliding_window"]
    with pytest.raises(ValueError, match="without sliding_window: transformers takes 4096"):
        from_hf_config(config)


# -- runs ------------------------------------------------------------------------------------------------------


def test_a_recipe_without_the_choice_is_named_as_before():
    assert not {"attend", "window"} & set(PretrainRecipe().identity())
    assert PretrainRecipe(attend="document").identity()["attend"] == "document"


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_batches_say_which_document_each_token_belongs_to(world, tmp_path, objective):
    job = small_job(world, tmp_path, attend="document", objective=objective)
    task = Pretraining(job, PretrainRecipe.model_validate(job.recipe), CPU, 0, 1)
    inputs = task.batches.batch(1).inputs
    assert inputs.documents_BT.shape == inputs.tokens_BT.shape
    assert (inputs.documents_BT[:, 0] == 0).all()
    rows = task.source.rows(*job.plan.sequences(job.plan.slots(1)))
    for row, numbers in zip(rows.tolist(), inputs.documents_BT.tolist(), strict=True):
        ends = [place for place, token in enumerate(row[: len(numbers)]) if token == job.eos_id]
        assert numbers == [sum(end < place for end in ends) for place in range(len(numbers))]


def packed_job(world, directory, **fields) -> Job:
    recipe = PretrainRecipe(**{**small_job(world, directory).recipe, "attend": "document", **fields})
    declared = small_job(world, directory).numerics
    return pretrain_job(mixed(world), recipe, "run", declared).model_copy(update={"directory": directory})


@pytest.mark.parametrize(
    "fields", [{"dropout": 0.2, "microbatch": 3}, {"objective": "masked"}], ids=["packed", "masked"]
)
def test_interrupted_and_resumed_ends_with_the_bytes_of_the_uninterrupted(world, tmp_path, fields):
    def job(name):
        folder = tmp_path / name
        return small_job(world, folder, attend="document", **fields) if "objective" in fields else packed_job(
            world, folder, **fields
        )  # fmt: skip

    whole = in_process(job("whole"))
    job("halved").write()
    with pytest.raises(Interrupted), stopping(after=7):
        train(job("halved"))
    assert in_process(job("halved")).state["files"] == whole.state["files"]
    other = in_process(job("other").model_copy(update={"recipe": {**job("other").recipe, "attend": "sequence"}}))
    assert other.state["consumption"] == whole.state["consumption"]  # the same data, looked at otherwise
    assert other.state["files"] != whole.state["files"]


def test_recomputed_activations_change_no_bit(world, tmp_path):
    alone = in_process(small_job(world, tmp_path / "alone", attend="document", microbatch=2))
    again = in_process(job_of(world, tmp_path / "again", 1, recompute=True, attend="document", microbatch=2))
    assert again.state["files"] == alone.state["files"]


def test_each_process_is_told_the_documents_of_its_rows(world, tmp_path):
    job = small_job(world, tmp_path, attend="document")
    recipe = PretrainRecipe.model_validate(job.recipe)
    whole, first, second = (
        Pretraining(job, recipe, CPU, rank, size).batches.batch(3).inputs.documents_BT
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    assert torch.equal(torch.cat([first, second]), whole)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("STEMMA_DEEP") != "1", reason="two processes take 10 s to start (STEMMA_DEEP=1)")
def test_several_processes_learn_the_same(world, tmp_path):
    alone = in_process(small_job(world, tmp_path / "alone", attend="document", microbatch=2))
    both, _ = run(job_of(world, tmp_path / "both", 2, attend="document", microbatch=2))
    assert both.state["consumption"] == alone.state["consumption"]
    assert losses(both) == pytest.approx(losses(alone), abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("STEMMA_DEEP") != "1", reason="compiling takes 25 s on an idle core (STEMMA_DEEP=1)")
def test_compiled_and_eager_learn_the_same(world, tmp_path):
    eager = in_process(small_job(world, tmp_path / "off", steps=2, attend="document"))
    compiled = small_job(world, tmp_path / "on", steps=2, attend="document", compile="on")
    declared = numerics.numerics("on", threads=1)
    assert losses(in_process(compiled.model_copy(update={"numerics": declared}))) == pytest.approx(
        losses(eager), abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("STEMMA_DEEP") != "1", reason="compiling takes 50 s (STEMMA_DEEP=1)")
def test_a_compiled_network_that_attends_by_blocks_gives_the_logits_of_the_reference(monkeypatch):
    """What a GPU does, without its backward pass."""
    network = model(sequence_length=256, window=40)
    row, numbers = tokens(2, 256), torch.arange(256)[None].repeat(2, 1) // 60
    with torch.no_grad():
        wanted = network(row, documents_BT=numbers)
        monkeypatch.setattr(sight, "is_blockwise", lambda device: torch.compiler.is_compiling())
        assert (torch.compile(network, fullgraph=True)(row, documents_BT=numbers) - wanted).abs().max() <= 1e-4
