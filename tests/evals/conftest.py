"""A tiny world for the evaluation tests: held-out documents, a tokenizer, random two-layer models, one real run."""

import hashlib
import random
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "training")]  # importlib mode: `import released`, and `echo` from there

WORDS = (  # noqa: SIM905
    "the array returns a copy of input value unless shape dtype order is given index raises error module function "
    "class method string bytes number axis window"
).split()


class SeedRecipe(Recipe):
    seed: int = 0


def number(*names):
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4], "big")


def prose(*names, sentences=12):
    draw = random.Random(number(*names))
    lines = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(5, 12))) for _ in range(sentences)]
    return "\n".join(line.capitalize() + "." for line in lines)


def publish(store, asset, partition, make, recipe=None, inputs=()):
    return build(store, Key(asset, partition), "1", recipe or SeedRecipe(), list(inputs), make).artifact


def documents_part(name, texts):
    """A part of held-out documents in the layout of the pipelines: sorted by doc_id, four documents a file."""

    def make(draft):
        rows = sorted((hashlib.sha256(f"{name}{i}".encode()).digest()[:16], i, text) for i, text in enumerate(texts))
        draft.write(
            "documents.arrow",
            pa.table(
                {
                    "doc_id": pa.array([r[0] for r in rows], pa.binary(16)),
                    "uri": [f"pkg:pypi/{name}#f{r[1] // 4}.py:{r[1]}" for r in rows],
                    "file": [f"f{r[1] // 4}.py" for r in rows],
                    "licence": ["MIT" for _ in rows],
                    "num_words": pa.array([len(r[2].split()) for r in rows], pa.int64()),
                }
            ),
        )
        draft.write(
            "texts.arrow",
            pa.table(
                {
                    "doc_id": pa.array([r[0] for r in rows], pa.binary(16)),
                    "text": pa.array([r[2] for r in rows], pa.large_string()),
                }
            ),
        )
        return draft.seal(counts={"seen": len(rows), "kept": len(rows)})

    return make


@pytest.fixture(scope="session")
def make_heldout():
    def make(store, texts_by_source):
        def whole(draft):
            parts = [
                draft.part(name, SeedRecipe(), [], documents_part(name, texts))
                for name, texts in texts_by_source.items()
            ]
            return draft.seal(parts=parts)

        return publish(store, "heldout_documents", "small", whole)

    return make


@pytest.fixture(scope="session")
def two_sources():
    return {source: [prose(source, i) for i in range(40)] for source in ("docs.a/1", "docs.b/1")}


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    found.train_from_iterator([prose(i) for i in range(50)], trainer)
    return found


@pytest.fixture(scope="session")
def make_checkpoint(tokenizer):
    """A random model of two layers, published as the checkpoint of a run."""

    def make(store, name="demo", seed=1, spoil=None, inputs=(), **facts):
        import torch

        from training.models.config import hf_config
        from training.models.gpt import GPT, initialise
        from training.models.recipe import GPTRecipe
        from training.weights import save_weights

        def write(draft):
            recipe = GPTRecipe(
                vocab_size=400, layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, sequence_length=96
            )
            model = GPT(recipe)
            initialise(model, 2, seed)
            with torch.no_grad():
                model.model.embed_tokens.weight.mul_(5)  # so that logits differ enough to be worth comparing
                if spoil is not None:
                    spoil(model)
            save_weights(draft.path("model.safetensors"), model.state_dict(), {"run": name})
            draft.write_json("config.json", hf_config(recipe, 0, 1))
            tokenizer.save(str(draft.path("tokenizer.json")))
            draft.write("losses.arrow", pa.table({"step": [1, 2], "loss": [3.0, 2.5]}))
            found = {
                "step": 2,
                "tokens": 512,
                "parameters": 1000,
                "heldout_bpb": 1.5,
                "heldout_bpb_clean": 1.6,
                "unigram_bpb": 2.9,
                "bigram_bpb": 1.8,
                "trigram_bpb": 1.2,
                "consumption": "0" * 64,
            } | facts
            return draft.seal(facts=found)

        return publish(store, "pretrained_model", name, write, SeedRecipe(seed=seed), inputs)

    return make


@contextmanager
def sockets_denied():
    """Nothing in this process may look up a name or connect."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"an evaluation asked for the network: {args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture
def no_sockets():
    """Denied for one test, not for those that come after it."""
    with sockets_denied():
        yield


def _asked(run_suite, *arguments):
    with sockets_denied():
        return run_suite(*arguments)


@pytest.fixture(scope="session")
def world(tmp_path_factory, make_heldout, make_checkpoint, two_sources):
    """One suite, two checkpoints, and what they answered through lm-eval."""
    from types import SimpleNamespace

    from evals.harness import EvalRecipe, run_suite
    from evals.scores import ScoreRecipe, score
    from evals.suites import SuiteRecipe, make_prompts

    store = Store(tmp_path_factory.mktemp("evals") / "store")
    heldout = make_heldout(store, two_sources)
    recipe = SuiteRecipe(max_items=16)
    suite = publish(store, "benchmark_prompts", "small", lambda d: make_prompts(heldout, recipe, d), recipe, [heldout])
    found = SimpleNamespace(store=store, heldout=heldout, suite=suite, checkpoints={}, samples={}, scores={})
    for seed, name in enumerate(("first", "second"), 1):
        model = make_checkpoint(store, name, seed)
        samples = publish(
            store,
            "benchmark_samples",
            name,
            lambda d, m=model: _asked(run_suite, m, [suite], EvalRecipe(), d),
            EvalRecipe(),
            [model, suite],
        )
        found.checkpoints[name], found.samples[name] = model, samples
        found.scores[name] = publish(
            store, "benchmark_scores", name, lambda d, s=samples: score(s, ScoreRecipe(), d), ScoreRecipe(), [samples]
        )
    return found
