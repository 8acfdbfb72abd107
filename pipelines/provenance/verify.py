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
from pipelines.provenance.files import WRITING, Files
from pipelines.provenance.ledger import GENESIS, Entry, read_entry, segments
from pipelines.provenance.manifest import MANIFEST_SUFFIX, Key, ManifestError, hashed
from pipelines.provenance.store import Store, decoded, encoded, pending

_ATTEMPT = re.compile(r"[0-9a-f]{32}")
NOT_EVIDENCE = ("leases/", "pending/", "scratch/", "dagster/", "reports/", f"{WRITING}/")
CHUNK_BYTES = 1 << 22
Artifacts = dict[tuple[Key, str], Artifact]
Refs = dict[tuple[Key, int], str]


@dataclass
class Report:
    """What was looked at, and everything that is wrong with it."""

    artifacts: int = 0
    files: int = 0
    num_bytes: int = 0
    ledger_entries: int = 0
    problems: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)  # what killed writers left: no evidence, and nothing needs it

    @property
    def sound(self) -> bool:
        return not self.problems


def verify_artifact(artifact: Artifact, progress: Callable[[int], None] = lambda _: None) -> list[str]:
    """Problems with the files of one artifact; empty if every byte is the sealed one."""
    problems = []
    prefix, files = artifact.prefix, artifact.store.files
    manifest = f"{prefix}/{artifact.digest}{MANIFEST_SUFFIX}"
    expected = {f"{prefix}/{f.path}" for f in artifact.manifest.files} | {manifest}
    try:
        artifact.store.manifest(artifact.key, manifest)
    except (ManifestError, OSError) as error:
        problems.append(str(error) if isinstance(error, ManifestError) else f"{manifest}: cannot be read: {error}.")
    present = set(files.walk(prefix))
    problems += [f"{path}: is not named by the manifest; it was added after sealing." for path in present - expected]
    for entry in artifact.manifest.files:
        path = f"{prefix}/{entry.path}"
        if path not in present:
            problems.append(f"{path}: is missing. Re-materialize {artifact.key}.")
            continue
        try:
            size, found = _hash(files, path)
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error}.")
            continue
        progress(size)
        if (size, found) != (entry.bytes, entry.blake3):
            problems.append(
                f"{path}: has {size} bytes and blake3 {found[:12]}…, the manifest says {entry.bytes} bytes and "
                f"{entry.blake3[:12]}…. The file changed after sealing; re-materialize {artifact.key}."
            )
    return sorted(problems)


def verify_store(store: Store, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Look at everything that lies in a store; see the module for what this proves.

    Writers may go on meanwhile: they put the ledger entry before the manifest and before the ref, so what is listed
    here goes the other way, refs before artifacts and both before the ledger. Only `gc` must wait until this has ended.
    """
    report = Report()
    paths = list(store.files.walk(""))
    refs = _refs(store, report)
    found = _artifacts(store, report, progress)
    account = Account(_ledger(store, report))
    artifacts = {(artifact.key, artifact.digest): artifact for artifact in found}
    _accounted(found, refs, account, report)
    _missing_refs(store, account, refs, report)
    kept = _lineage(artifacts, account, refs, report)
    _superseded(artifacts, refs, account, kept, report)
    _circumstances(store, account, report)
    _strangers(paths, account, report)
    return report


class Account:
    """What the ledger says, by what one asks it."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.sealed = {(e.key, e.manifest, e.attempt) for e in entries if e.event == "sealed"}
        self.removed = {(e.key, e.manifest) for e in entries if e.event == "removed"}
        self.published: dict[tuple[Key, int], set[str]] = {}  # more than one where writers raced or one was killed
        for entry in entries:
            if entry.generation:
                self.published.setdefault((entry.key, entry.generation), set()).add(entry.manifest)
        gone = {e.attempt for e in entries if e.event == "removed"}
        self.standing = {
            f"artifacts/{encoded(e.key)}/{e.attempt}": e.manifest
            for e in entries
            if e.event == "sealed" and e.attempt not in gone
        }
        self._place = {manifest: f"{prefix}/{manifest}{MANIFEST_SUFFIX}" for prefix, manifest in self.standing.items()}

    def place(self, key: Key, manifest: str) -> str:
        """Path at which a manifest should lie."""
        return self._place.get(manifest, f"artifacts/{encoded(key)}/…/{manifest}{MANIFEST_SUFFIX}")


def _hash(files: Files, path: str) -> tuple[int, str]:
    if files.local_root is not None:
        return hashed(files.local_root / path)
    hasher, size = blake3(max_threads=blake3.AUTO), 0
    with files.open(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            size += len(chunk)
            hasher.update(chunk)
    return size, hasher.hexdigest()


def _attempts(store: Store, report: Report) -> Iterator[tuple[Key, str, list[str]]]:
    """(key, prefix, names of its manifests) of every attempt."""
    attempts: dict[str, list[str]] = {}
    for path in store.files.walk("artifacts"):
        prefix = "/".join(path.split("/")[:5])
        if path.count("/") < 5 or not _is_attempt(prefix):
            report.problems.append(f"{path}: belongs to no attempt; it was added.")
            continue
        attempts.setdefault(prefix, [])
        if path.count("/") == 5 and path.endswith(MANIFEST_SUFFIX):
            attempts[prefix].append(path.rsplit("/", 1)[1])
    for prefix, manifests in sorted(attempts.items()):
        yield decoded(prefix.removeprefix("artifacts/")), prefix, manifests


def _is_attempt(prefix: str) -> bool:
    folder, attempt = prefix.rsplit("/", 1)
    try:
        return bool(_ATTEMPT.fullmatch(attempt)) and folder == f"artifacts/{encoded(decoded(folder[10:]))}"
    except ValueError:
        return False


def _artifacts(store: Store, report: Report, progress: Callable[[int], None]) -> list[Artifact]:
    """Every artifact with a sound manifest; what is wrong with files and manifests becomes problems."""
    found = []
    for key, prefix, manifests in _attempts(store, report):
        if not manifests:
            report.unfinished.append(prefix)
        if len(manifests) > 1:
            report.problems.append(f"{prefix}: holds {len(manifests)} manifests; one was added after sealing.")
        for name in manifests:
            path = f"{prefix}/{name}"
            try:
                artifact = Artifact(store, store.manifest(key, path), prefix)
            except (ManifestError, OSError) as error:
                report.problems.append(str(error) if isinstance(error, ManifestError) else f"{path}: {error}.")
                continue
            if len(manifests) == 1:
                report.problems += verify_artifact(artifact, progress)
            found.append(artifact)
            report.artifacts += 1
            report.files += len(artifact.manifest.files)
            report.num_bytes += sum(f.bytes for f in artifact.manifest.files)
    return found


def _ledger(store: Store, report: Report) -> list[Entry]:
    """Every readable entry; broken chains become problems."""
    good: list[Entry] = []
    for segment in segments(store.files):
        previous, number = GENESIS, 0
        for name in store.files.names(f"ledger/{segment}"):
            path, number = f"ledger/{segment}/{name}", number + 1
            try:
                entry = read_entry(store.files, path)
            except (ManifestError, OSError) as error:
                report.problems.append(str(error) if isinstance(error, ManifestError) else f"{path}: {error}.")
                previous = ""
                continue
            if entry.number != number:
                report.problems.append(
                    f"{path}: stands at place {number} of its segment; an entry before it was removed or added."
                )
            elif previous and entry.previous != previous:
                report.problems.append(f"{path}: does not follow the entry before it; the chain is broken.")
            previous, number = entry.digest, entry.number
            good.append(entry)
    report.ledger_entries = len(good)
    known = {(entry.segment, entry.digest) for entry in good}
    report.problems += [
        f"ledger/{segment}: the entry with digest {head} is missing; {entry.path} has seen it."
        for entry in good
        for segment, head in entry.joins.items()
        if (segment, head) not in known and not _put_since(store, segment, head)
    ]
    return good


def _put_since(store: Store, segment: str, head: str) -> bool:
    return any(name.endswith(f"-{head}.json") for name in store.files.names(f"ledger/{segment}"))


def _refs(store: Store, report: Report) -> Refs:
    """What every generation of every ref points at."""
    refs: Refs = {}
    for path in store.files.walk("refs"):
        named = _ref_named(path)
        if named is None:
            report.problems.append(f"{path}: is not a ref; it was added.")
            continue
        try:
            refs[named] = store.ref_file(*named)["manifest"]
        except ManifestError as error:
            report.problems.append(str(error))
    return refs


def _ref_named(path: str) -> tuple[Key, int] | None:
    try:
        folder, name = path.removeprefix("refs/").rsplit("/", 1)
        key, generation = decoded(folder), int(name.removesuffix(".json"))
        return (key, generation) if path == f"refs/{encoded(key)}/{generation:08d}.json" else None
    except ValueError:
        return None


def _accounted(found: list[Artifact], refs: Refs, account: Account, report: Report) -> None:
    """The ledger knows of every artifact and of every ref."""
    report.problems += [
        f"{a.prefix}/{a.digest}{MANIFEST_SUFFIX}: is not in the ledger; it was added, or its entry was removed or changed."
        for a in found
        if (a.key, a.digest, a.attempt) not in account.sealed
    ]
    report.problems += [
        f"{_ref_path(key, generation)}: the ledger does not know that {key} was published as {manifest[:12]}…."
        for (key, generation), manifest in refs.items()
        if manifest not in account.published.get((key, generation), ())
    ]


def _ref_path(key: Key, generation: int) -> str:
    return f"refs/{encoded(key)}/{generation:08d}.json"


def _missing_refs(store: Store, account: Account, refs: Refs, report: Report) -> None:
    under_way = set(store.files.walk("pending"))
    for (key, generation), manifests in sorted(account.published.items()):
        path = _ref_path(key, generation)
        if (key, generation) in refs or path in store.files.walk(f"refs/{encoded(key)}"):
            continue
        if any(pending(key, generation, manifest) in under_way for manifest in manifests):
            report.unfinished.append(f"{path} (its writer was killed while it published {key}; run again)")
        else:
            report.problems.append(
                f"{path}: is missing; the ledger says that {key} was published as {min(manifests)[:12]}…. "
                "It was removed; run again to publish it anew."
            )


def _lineage(artifacts: Artifacts, account: Account, refs: Refs, report: Report) -> set[tuple[Key, str]]:
    """All that published artifacts lead to through parts and inputs; nothing excuses that any of it is missing."""
    kept: set[tuple[Key, str]] = set()
    missing: dict[str, str] = {}
    newest = {key: manifest for (key, _), manifest in sorted(refs.items())}
    queue = [(key, manifest, f"the ref of {key} points at it") for key, manifest in newest.items()]
    while queue:
        key, manifest, reason = queue.pop()
        if (key, manifest) in kept:
            continue
        kept.add((key, manifest))
        if artifact := artifacts.get((key, manifest)):
            queue += [(*needed, f"{key} was made from it") for needed in _needs(artifact)]
        else:
            missing[account.place(key, manifest)] = reason
    report.problems += [f"{path}: is missing or unsound; {reason}." for path, reason in sorted(missing.items())]
    return kept


def _needs(artifact: Artifact) -> list[tuple[Key, str]]:
    key, manifest = artifact.key, artifact.manifest
    parts = [(Key(key.asset, key.partition, part.part), part.manifest) for part in manifest.parts]
    return parts + [(ref.key, ref.manifest) for ref in manifest.inputs]


def _superseded(artifacts: Artifacts, refs: Refs, account: Account, kept: set[tuple[Key, str]], report: Report) -> None:
    """What nobody keeps any longer is there as well, or the ledger says that it was collected."""
    explained = artifacts.keys() | kept | account.removed
    wanted = {(key, manifest): f"{_ref_path(key, number)} points at it" for (key, number), manifest in refs.items()}
    wanted |= {needed: f"{a.key} was made from it" for a in artifacts.values() for needed in _needs(a)}
    report.problems += [
        f"{account.place(*named)}: is missing or unsound; {reason}."
        for named, reason in sorted(wanted.items())
        if named not in explained
    ]
    there = {artifact.prefix for artifact in artifacts.values()} | set(report.unfinished)
    report.unfinished += [
        f"{prefix} (its writer was killed before it could seal {manifest[:12]}…, or it was removed since)"
        for prefix, manifest in sorted(account.standing.items())
        if prefix not in there
    ]


def _circumstances(store: Store, account: Account, report: Report) -> None:
    named = {f"circumstances/{entry.circumstances}.json": entry.path for entry in account.entries}
    present = set(store.files.walk("circumstances"))
    report.problems += [f"{path}: is missing; {named[path]} names it." for path in sorted(named.keys() - present)]
    for path in sorted(present):
        if path != f"circumstances/{_hash(store.files, path)[1]}.json":
            report.problems.append(f"{path}: was changed; its name is the digest of what it said.")
        elif path not in named:
            report.unfinished.append(f"{path} (no ledger entry names it)")


def _strangers(paths: list[str], account: Account, report: Report) -> None:
    """Files that belong to nothing."""
    known = {entry.path for entry in account.entries}
    looked_at = (*NOT_EVIDENCE, "artifacts/", "refs/", "circumstances/")
    report.problems += [
        f"{path}: nothing in the ledger names this file; it was added or changed."
        for path in paths
        if not path.startswith(looked_at) and path not in known
    ]
