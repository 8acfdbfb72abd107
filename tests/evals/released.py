"""A run without a model: documents, shards, mixture and checkpoint, small enough to follow every token by hand."""

import hashlib

import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.store import Store

LENGTHS = {"docs.a/1": [7, 30, 5, 18, 40, 11, 3, 26], "docs.b/1": [50, 9, 22, 8, 33]}  # tokens of every document
LICENCES = {"docs.a/1": "MIT", "docs.b/1": "Apache-2.0"}
T = 8


def sealed(store, asset, partition, write, inputs=(), **seal):
    draft = store.draft(Key(asset, partition), "1", {"learning_rate": 0.003}, list(inputs))
    parts = write(draft)
    return draft.seal(parts=parts or (), **seal)


def part(draft, name, inputs, write, **seal):
    inner = draft.store.draft(Key(draft.key.asset, draft.key.partition, name), "1", {}, list(inputs))
    write(inner)
    return inner.seal(**seal)


def ids(name):
    return sorted(hashlib.sha256(f"{name}/{i}".encode()).digest()[:16] for i in range(len(LENGTHS[name])))


def small_run(root):
    """Store, plan and checkpoint of a run of six steps. The token of a document is its number in its part."""
    store = Store(root)

    def documents(draft):
        def write(name):
            def rows(inner):
                found = ids(name)
                inner.write(
                    "documents.arrow",
                    pa.table(
                        {
                            "doc_id": pa.array(found, pa.binary(16)),
                            "uri": [f"pkg:{name}#{i}" for i in range(len(found))],
                            "file": ["f.py"] * len(found),
                            "licence": [LICENCES[name]] * len(found),
                        }
                    ),
                )
                inner.write(fates.FILE, fates.all_kept(pa.array(found, pa.binary(16))))

            return rows

        return [part(draft, name, [], write(name)) for name in LENGTHS]

    counts = {"seen": 15, "kept": 13, "held_out": 1, "dropped": 1, "merged": 0, "quarantined": 0}
    training = sealed(store, "training_documents", "small", documents, counts=counts)

    def shards(draft):
        def write(name):
            def rows(inner):
                tokens = [[n] * length for n, length in enumerate(LENGTHS[name])]
                half = len(tokens) // 2
                for number, piece in enumerate((slice(0, half), slice(half, None))):
                    inner.write(
                        f"shard-{number:05d}.arrow",
                        pa.table(
                            {
                                "doc_id": pa.array(ids(name)[piece], pa.binary(16)),
                                "tokens": pa.array(tokens[piece], pa.large_list(pa.uint16())),
                            }
                        ),
                    )

            return rows

        return [part(draft, name, [], write(name), counts={"tokens": sum(LENGTHS[name])}) for name in LENGTHS]

    tokens = sealed(store, "token_shards", "small", shards, [training])
    sizes = {name: (sum(lengths) - 1) // T for name, lengths in LENGTHS.items()}
    plan = Plan(
        seed=3,
        sequence_length=T,
        parts=[PlanPart(name=n, num_sequences=s) for n, s in sizes.items()],
        phases=[PlanPhase(slots=[14, 10])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=4)],
    )

    def mixture(draft):
        draft.write_json("plan.json", plan.model_dump(mode="json"))
        draft.write(
            "sources.arrow",
            pa.table(
                {
                    "part": list(LENGTHS),
                    "licence": list(LICENCES.values()),
                    "docs": [8, 5],
                    "tokens": [sum(v) for v in LENGTHS.values()],
                    "sequences": list(sizes.values()),
                    "slots": [14, 10],
                    "epochs": [14 / sizes["docs.a/1"], 10 / sizes["docs.b/1"]],
                    "tail_tokens": [0, 0],
                }
            ),
        )

    mixed = sealed(store, "mixture", "demo", mixture, [tokens])
    facts = {"step": 6, "tokens": 192, "parameters": 1234, "heldout_bpb": 1.5, "unigram_bpb": 2.9, "bigram_bpb": 1.8}
    model = sealed(
        store,
        "pretrained_model",
        "demo",
        lambda d: d.path("model.safetensors").write_bytes(b"w") and None,
        [mixed],
        facts=facts,
    )
    return store, plan, model
