"""Verify: prove that every byte of a store is the one that was sealed.

Proved: each file of each artifact has the size and blake3 of its manifest; each manifest is canonical and named by
its digest; every input and part that a manifest names is there; every ledger entry hangs in its chain and every
chain but the newest heads is held by another; refs, manifests, circumstances and ledger agree; nothing lies in the
store that nobody accounts for.
Not proved: that someone who can rewrite the whole store did not rewrite all of it consistently. Against that, keep
a manifest digest (of a checkpoint, say) somewhere else: it pins everything that the checkpoint came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.ledger import GENESIS, Entry, entry_path, read_entry, segments
from pipelines.provenance.manifest import Key, Manifest, ManifestError
from pipelines.provenance.recipe import digest
from pipelines.provenance.store import MANIFEST_SUFFIX, Store, decoded, encoded

_ATTEMPT = re.compile(r"[0-9a-f]{32}")
NOT_EVIDENCE = ("leases/", "scratch/", "dagster/", "reports/")


@dataclass
class Report:
    """What was looked at, and everything that is wrong with it."""

    artifacts: int = 0
    files: int = 0
    num_bytes: int = 0
    ledger_entries: int = 0
    problems: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)  # attempts without a manifest: no evidence, `gc` removes them

    @property
    def sound(self) -> bool:
        return not self.problems


def verify_artifact(artifact: Artifact, progress: Callable[[int], None] = lambda num_bytes: None) -> list[str]:
    """Problems with the files of one artifact; empty if every byte is the sealed one."""
    problems = []
    prefix, files = artifact.prefix, artifact.store.files
    expected = {f"{prefix}/{f.path}" for f in artifact.manifest.files} | {
        f"{prefix}/{artifact.digest}{MANIFEST_SUFFIX}"
    }
    present = set(files.walk(prefix))
    problems += [f"{path}: is not named by the manifest; it was added after sealing." for path in present - expected]
    for entry in artifact.manifest.files:
        path = f"{prefix}/{entry.path}"
        if path not in present:
            problems.append(f"{path}: is missing. Re-materialize {artifact.key}.")
            continue
        size, found = _hash(artifact, path)
        progress(size)
        if (size, found) != (entry.bytes, entry.blake3):
            problems.append(
                f"{path}: has {size} bytes and blake3 {found[:12]}…, the manifest says {entry.bytes} bytes and "
                f"{entry.blake3[:12]}…. The file changed after sealing; re-materialize {artifact.key}."
            )
    return sorted(problems)


def verify_store(store: Store, progress: Callable[[int], None] = lambda num_bytes: None) -> Report:
    """Look at everything that lies in a store; see the module for what this proves."""
    report = Report()
    artifacts = _artifacts(store, report, progress)
    entries = _ledger(store, report)
    _refs(store, artifacts, entries, report)
    _agreement(store, artifacts, entries, report)
    _strangers(store, entries, report)
    return report


def _hash(artifact: Artifact, path: str) -> tuple[int, str]:
    files = artifact.store.files
    hasher = blake3(max_threads=blake3.AUTO)
    if files.local_root is None:
        data = files.read(path)
        return len(data), hasher.update(data).hexdigest()
    size = files.size(path)
    if size:
        hasher.update_mmap(files.local_root / path)
    return size, hasher.hexdigest()


def _attempts(store: Store, report: Report) -> Iterator[tuple[Key, str, list[str]]]:
    """(key, prefix, names of its manifests) of every attempt."""
    attempts: dict[str, list[str]] = {}
    for path in store.files.walk("artifacts"):
        prefix = "/".join(path.split("/")[:5])
        if path.count("/") < 5 or not _ATTEMPT.fullmatch(prefix.rsplit("/", 1)[1]):
            report.problems.append(f"{path}: belongs to no attempt; it was added.")
            continue
        attempts.setdefault(prefix, [])
        if path.count("/") == 5 and path.endswith(MANIFEST_SUFFIX):
            attempts[prefix].append(path.rsplit("/", 1)[1])
    for prefix, manifests in sorted(attempts.items()):
        yield decoded(prefix.removeprefix("artifacts/")), prefix, manifests


def _artifacts(store: Store, report: Report, progress: Callable[[int], None]) -> dict[tuple[Key, str], Artifact]:
    sound: dict[tuple[Key, str], Artifact] = {}
    for key, prefix, manifests in _attempts(store, report):
        if not manifests:
            report.unfinished.append(prefix)
            continue
        for name in manifests:
            artifact = _opened(store, key, prefix, name, report)
            if artifact is None:
                continue
            if len(manifests) == 1:
                report.problems += verify_artifact(artifact, progress)
            sound[key, artifact.digest] = artifact
            report.artifacts += 1
            report.files += len(artifact.manifest.files)
            report.num_bytes += sum(f.bytes for f in artifact.manifest.files)
        if len(manifests) > 1:
            report.problems.append(f"{prefix}: holds {len(manifests)} manifests; one was added after sealing.")
    return sound


def _opened(store: Store, key: Key, prefix: str, name: str, report: Report) -> Artifact | None:
    path = f"{prefix}/{name}"
    try:
        data = store.files.read(path)
        manifest = Manifest.parse(data, path)
        wanted = name.removesuffix(MANIFEST_SUFFIX)
        if digest(data) != wanted:
            raise ManifestError(f"{path}: has blake3 {digest(data)[:12]}…, its name says {wanted[:12]}….")
        if manifest.key != key:
            raise ManifestError(f"{path}: is the manifest of {manifest.key}, it lies where {key} belongs.")
    except ManifestError as error:
        report.problems.append(str(error))
        return None
    return Artifact(store, manifest, prefix)


def _ledger(store: Store, report: Report) -> list[Entry]:
    """Every readable entry; broken chains become problems."""
    good: list[Entry] = []
    by_segment: dict[str, list[Entry]] = {}
    for segment in segments(store.files):
        previous, number = GENESIS, 0
        for name in store.files.names(f"ledger/{segment}"):
            path, number = f"ledger/{segment}/{name}", number + 1
            try:
                entry = read_entry(store.files, path)
            except ManifestError as error:
                report.problems.append(str(error))
                previous = ""
                continue
            if path != entry_path(entry.segment, entry.number) or entry.number != number:
                report.problems.append(f"{path}: is entry {entry.number} of {entry.segment}; expected {number} here. "
                                       "An entry was removed, added or moved.")
            elif previous and entry.previous != previous:
                report.problems.append(f"{path}: does not follow the entry before it; the chain is broken.")
            previous, number = entry.digest, entry.number
            by_segment.setdefault(segment, []).append(entry)
            good.append(entry)
    report.ledger_entries = len(good)
    digests = {segment: {e.digest for e in chain} for segment, chain in by_segment.items()}
    for entry in good:
        for segment, head in entry.joins.items():
            if head not in digests.get(segment, set()):
                report.problems.append(f"ledger/{segment}: entry {head[:12]}… is missing, "
                                       f"{entry_path(entry.segment, entry.number)} has seen it.")
    return good


def _refs(store: Store, artifacts: dict[tuple[Key, str], Artifact], entries: list[Entry], report: Report) -> None:
    published = {(e.key, e.generation): e.manifest for e in entries if e.event == "published"}
    present: set[tuple[Key, int]] = set()
    for path in store.files.walk("refs"):
        folder, name = path.removeprefix("refs/").rsplit("/", 1)
        if name.startswith(".writing-"):
            continue
        try:
            key, generation = decoded(folder), int(name.removesuffix(".json"))
            ref = store.ref_file(key, generation)
        except (ManifestError, ValueError) as error:
            report.problems.append(str(error) if isinstance(error, ManifestError) else f"{path}: is not a ref.")
            continue
        present.add((key, generation))
        if published.get((key, generation)) != ref["manifest"]:
            report.problems.append(f"{path}: the ledger does not know that {key} was published as "
                                   f"{ref['manifest'][:12]}….")
        elif (key, ref["manifest"]) not in artifacts and not _removed(entries, key, ref["manifest"]):
            report.problems.append(f"{path}: its manifest {ref['manifest'][:12]}… is missing or unsound.")
    for (key, generation), manifest in sorted(published.items()):
        if (key, generation) not in present and not _removed(entries, key, manifest):
            report.problems.append(
                f"refs/{encoded(key)}/{generation:08d}.json: is missing; the ledger says that {key} was published as "
                f"{manifest[:12]}…. It was removed, or its writer was killed in that moment: run again."
            )


def _agreement(store: Store, artifacts: dict[tuple[Key, str], Artifact], entries: list[Entry],
               report: Report) -> None:
    sealed = {(e.key, e.manifest, e.attempt) for e in entries if e.event == "sealed"}
    needed: dict[tuple[Key, str], str] = {}
    for artifact in artifacts.values():
        if (artifact.key, artifact.digest, artifact.attempt) not in sealed:
            report.problems.append(f"{artifact.prefix}/{artifact.digest}{MANIFEST_SUFFIX}: is not in the ledger; "
                                   "it was added, or its ledger entry was removed.")
        manifest = artifact.manifest
        for ref in manifest.inputs:
            needed[ref.key, ref.manifest] = str(artifact.key)
        for part in manifest.parts:
            needed[Key(artifact.key.asset, artifact.key.partition, part.part), part.manifest] = str(artifact.key)
    for (key, manifest), user in sorted(needed.items()):
        if (key, manifest) not in artifacts:
            report.problems.append(f"artifacts/{encoded(key)}: manifest {manifest[:12]}… is missing or unsound; "
                                   f"{user} was made from it.")
    for entry in entries:
        path = f"circumstances/{entry.circumstances}.json"
        try:
            if digest(store.files.read(path)) != entry.circumstances:
                report.problems.append(f"{path}: was changed.")
        except FileNotFoundError:
            report.problems.append(f"{path}: is missing; {entry_path(entry.segment, entry.number)} names it.")


def _removed(entries: list[Entry], key: Key, manifest: str) -> bool:
    return any(e.event == "removed" and e.key == key and e.manifest == manifest for e in entries)


def _strangers(store: Store, entries: list[Entry], report: Report) -> None:
    """Files that belong to nothing."""
    known = {f"circumstances/{entry.circumstances}.json" for entry in entries}
    for path in store.files.walk(""):
        name = path.rsplit("/", 1)[-1]
        if path.startswith((*NOT_EVIDENCE, "artifacts/", "refs/", "ledger/")) or name.startswith(".writing-"):
            continue
        if path not in known:
            report.problems.append(f"{path}: nothing in the ledger names this file; it was added.")
