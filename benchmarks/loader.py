"""The loader beside nanoGPT's way to draw a batch and beside a bare memory map: tokens a second, from a warm cache.

40 million uint16 tokens in four parts; batches of 16 sequences of 1,024 targets; one epoch's order; process time,
median of alternating rounds. The contestants:

- `nanogpt`, a clean-room `get_batch`: a new memory map for each batch, windows at random, inputs and targets as two
  int64 tensors. It has no order, no epochs and no record of what it read.
- `memmap`: the same windows as ours, starts known beforehand, each copied out of one memory map into one int64 tensor.
- `reading`: order, gathering and tensors of ours.
- `loader`: what the trainer uses, `training.batches.Batches` with its thread and the hash of every sequence for the
  consumption chain.
- `documents`: `reading`, and the id, first token and length of every document in every sequence.

Before anything is timed, every batch of the loader is compared with the windows of the memory map.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.report import medians, report, versions
from pipelines.consumption import together
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.tables import write_batches
from pipelines.shard_reader import ShardReader
from training.batches import Batches, ShardSource

PARTS, LENGTH, BATCH, MEDIAN_TOKENS, SPREAD = 4, 1024, 16, 572, 1.1  # mean 1,049 tokens, as a corpus of web pages


def shard(path: Path, num_tokens: int, seed: int) -> np.ndarray:
    """A shard of log-normal documents with random tokens; the tokens."""
    generator = np.random.default_rng(seed)
    sizes = np.maximum(1, generator.lognormal(np.log(MEDIAN_TOKENS), SPREAD, num_tokens // 500)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    offsets = offsets[: int(np.searchsorted(offsets, num_tokens)) + 1]
    tokens = generator.integers(0, 50_257, int(offsets[-1]), np.uint16)
    ids = np.sort(np.frombuffer(generator.bytes(16 * (len(offsets) - 1)), "S16"))
    schema = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16()))])
    columns = [
        pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(ids.tobytes())]),
        pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
    ]
    write_batches(path, schema, [pa.table(columns, schema=schema)])
    return tokens


class Peers:
    """The same tokens in one flat file, part after part."""

    def __init__(self, path: Path, starts: np.ndarray) -> None:
        self.path, self.starts = path, starts.reshape(-1, BATCH)

    def get_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As nanoGPT's train.py does it (read at 3adf61e, written anew)."""
        tokens = np.memmap(self.path, np.uint16, "r")
        places = torch.randint(len(tokens) - LENGTH, (BATCH,))
        inputs = [torch.from_numpy(tokens[i : i + LENGTH].astype(np.int64)) for i in places]
        targets = [torch.from_numpy(tokens[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in places]
        return torch.stack(inputs), torch.stack(targets)

    def windows(self) -> Iterator[torch.Tensor]:
        tokens = np.asarray(np.memmap(self.path, np.uint16, "r"))
        for places in self.starts.tolist():
            yield torch.from_numpy(np.stack([tokens[i : i + LENGTH + 1] for i in places]).astype(np.int64))


class Loader:
    def __init__(self, plan: Plan, source: ShardSource) -> None:
        self.plan, self.source, self.batches = plan, source, Batches(plan, source)

    def loader(self) -> None:
        for _ in self.batches.steps(1, self.plan.num_steps):
            pass

    def reading(self, *, documents: bool = False) -> None:
        for parts, sequences in self._drawn():
            rows = self.source.rows(parts, sequences)
            if documents:
                self.source.documents(parts, sequences)
            for start in range(0, len(rows), BATCH):
                self.source.collate(rows[start : start + BATCH], sequences[start : start + BATCH])

    def _drawn(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(part, sequence) of 256 sequences at a time, as the loader draws them."""
        first = 1
        while first <= self.plan.num_steps:
            steps = together(self.plan, first, self.plan.num_steps)
            first = steps.stop
            parts, sequences = self.plan.sequences(self.plan.slots_of_steps(steps.start, steps.stop - 1)[0])
            for start in range(0, len(parts), 256):
                yield parts[start : start + 256], sequences[start : start + 256]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 million tokens, three rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), 10_000_000 if quick else 40_000_000, 3 if quick else 11)


def measure(folder: Path, num_tokens: int, rounds: int) -> None:
    names = [f"part-{number}/1" for number in range(PARTS)]
    streams = [shard(folder / f"{n}.arrow", num_tokens // PARTS, n) for n in range(PARTS)]
    readers = {name: ShardReader([folder / f"{n}.arrow"]) for n, name in enumerate(names)}
    sizes = [(len(tokens) - 1) // LENGTH for tokens in streams]
    plan = Plan(
        seed=1, sequence_length=LENGTH, phases=[PlanPhase(slots=sizes)],
        parts=[PlanPart(name=name, num_sequences=size) for name, size in zip(names, sizes, strict=True)],
        segments=[Segment(first_step=1, first_slot=0, batch_size=BATCH)],
    )  # fmt: skip
    (folder / "tokens.bin").write_bytes(np.concatenate(streams).tobytes())
    parts, sequences = plan.sequences(range(plan.num_steps * BATCH))
    begins = np.concatenate([[0], np.cumsum([len(tokens) for tokens in streams])])
    peers = Peers(folder / "tokens.bin", begins[parts] + sequences * LENGTH)
    ours = Loader(plan, ShardSource(plan, readers))
    pairs = zip(ours.batches.steps(1, plan.num_steps), peers.windows(), strict=True)
    errors = sum(not torch.equal(batch.inputs.tokens_BT, window) for batch, window in pairs)
    contestants: dict[str, Callable[[], object]] = {
        "nanogpt": lambda: sum(peers.get_batch() is not None for _ in range(plan.num_steps)),
        "memmap": lambda: sum(1 for _ in peers.windows()),
        "reading": ours.reading,
        "loader": ours.loader,
        "documents": lambda: ours.reading(documents=True),
    }
    seconds = medians(in_turns(rounds, contestants))
    tell(seconds, plan, errors, num_tokens)


def in_turns(rounds: int, contestants: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Process time of each, that of threads included, in turns: the machine may be shared."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    return seconds


def tell(seconds: dict[str, float], plan: Plan, errors: int, num_tokens: int) -> None:
    read = plan.num_steps * BATCH * LENGTH
    speed = {name: read / taken / 1e6 for name, taken in seconds.items()}
    rows = [[name, f"{value:,.0f}", f"{value / speed['nanogpt']:.2f}"] for name, value in speed.items()]
    report(
        "loader",
        [*rows, [f"batches unlike the memory map's, of {plan.num_steps}", errors, ""]],
        ("", "million tokens/s", "of nanoGPT's"),
        million_tokens_s={name: round(value, 1) for name, value in speed.items()},
        ratios={
            "nanogpt": round(speed["reading"] / speed["nanogpt"], 3),
            "memmap": round(speed["reading"] / speed["memmap"], 3),
            "nanogpt_with_documents": round(speed["documents"] / speed["nanogpt"], 3),
            "nanogpt_with_hashes": round(speed["loader"] / speed["nanogpt"], 3),
            "memmap_with_hashes": round(speed["loader"] / speed["memmap"], 3),
        },
        errors=errors,
        tokens=num_tokens,
        batch=[BATCH, LENGTH],
        time="process",
        versions=versions("numpy", "pyarrow", "torch", "blake3"),
    )


if __name__ == "__main__":
    main()
