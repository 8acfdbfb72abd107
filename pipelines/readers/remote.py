"""Remote: files behind a URL that fsspec reaches, listed without being read and fetched through a bounded cache."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from pipelines.provenance.manifest import FileEntry
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.readers.files import chosen, reader_of

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http", "hf": "hub"}
# how stores name a digest of the content; only where there is none does the time of the last change count
CHECKSUMS = ("sha256", "checksum", "ETag", "etag", "blob_id", "md5Hash", "content_md5", "crc32c")
TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
CACHE_BYTES = 16 << 30
IN_USE_SECONDS = 3600  # a file that was fetched or asked for so recently may be open in another process


def is_url(path: str | Path) -> bool:
    return "://" in str(path)


class Remote(NamedTuple):
    """A place that fsspec reaches, by its URL; opened anew in every process."""

    url: str

    def opened(self) -> tuple[Any, str]:
        """The file system, and the path in it.

        Raises:
            ValueError: if a package or the protocol is missing; it says which extra brings it.
        """
        protocol = self.url.split("://")[0].split("::")[-1]
        extra = EXTRAS.get(protocol, "s3")
        try:
            from fsspec.core import url_to_fs

            found = url_to_fs(self.url)
        except ImportError as error:
            raise ValueError(f"{self.url}: needs pip install -e '.[{extra}]' ({error}).") from None
        except ValueError as error:
            raise ValueError(f"{self.url}: {error}. Known: {', '.join(sorted(EXTRAS))}.") from None
        return found

    def listed(self, reader: str) -> tuple[list[FileEntry], list[str]]:
        """Files that the reader reads, with their fingerprints, and those that it ignores.

        A fingerprint stands where a local file has its blake3: the digest of size and checksum as the store tells
        them, of size and time of change where it tells none. What tells nothing is fetched and hashed.

        Raises:
            ValueError: if nothing is there or the store does not answer.
        """
        fs, root = self.opened()
        try:
            found = fs.find(root, detail=True) or {}
            if not found and fs.exists(root):
                found = {root: fs.info(root)}
        except Exception as error:  # every file system has errors of its own
            raise ValueError(f"{self.url}: cannot be listed ({type(error).__name__}: {error}).") from error
        if not found:
            raise ValueError(f"{self.url}: no such file or directory. Give the source the URL of its data.")
        if list(found) == [root] or list(found) == [root.rstrip("/")]:
            return [self._entry(fs, "", root, found.popitem()[1])], []
        base = root.rstrip("/") + "/"
        names = {path.removeprefix(base): path for path in found}
        wanted, ignored = chosen(names, reader)
        return [self._entry(fs, name, names[name], found[names[name]]) for name in wanted], ignored

    def sniffed_reader(self) -> str:
        """The reader of most of the files, by their names.

        Raises:
            ValueError: if no name says anything.
        """
        fs, root = self.opened()
        named = Counter(reader for path in fs.find(root) or [root] if (reader := reader_of(path)))
        if not named:
            raise ValueError(f"{self.url}: no file with a suffix that is known. Name the reader with --reader.")
        return min(named, key=lambda reader: (-named[reader], reader))

    def _entry(self, fs: Any, name: str, path: str, info: dict[str, Any]) -> FileEntry:
        if not _stated(info):
            info = {**info, **fs.info(path)}
        stated = _stated(info)
        name = name or path.rstrip("/").rpartition("/")[2]
        if not stated:
            local = self._downloaded(fs, path, _cache() / "unstated" / digest(path.encode()) / name)
            return FileEntry(path=name, bytes=local.stat().st_size, blake3=blake3(local.read_bytes()).hexdigest())
        size = int(info.get("size") or 0)
        return FileEntry(path=name, bytes=size, blake3=digest(canonical_json([size, *stated])))

    def fetched(self, entry: FileEntry) -> Path:
        """A local copy of one listed file; what was not used for long makes room for it.

        Raises:
            ValueError: if it is not there any more, or has another size than it had.
        """
        target = _cache() / entry.blake3[:2] / entry.blake3 / entry.path.rpartition("/")[2]
        if target.exists() and target.stat().st_size == entry.bytes:
            with contextlib.suppress(OSError):
                os.utime(target)
            return target
        fs, path = self._found(entry)
        found = self._downloaded(fs, path, target)
        if entry.bytes and found.stat().st_size != entry.bytes:
            size = found.stat().st_size
            found.unlink()
            raise ValueError(
                f"{self.url}: {entry.path} has {size} bytes, it was listed with {entry.bytes}. It changed after the "
                "run was planned, or the transfer broke off; run again."
            )
        return found

    def read(self, entry: FileEntry) -> BinaryIO:
        """One listed file, opened where it lies."""
        fs, path = self._found(entry)
        return fs.open(path, "rb")

    def _found(self, entry: FileEntry) -> tuple[Any, str]:
        """The file system, and a listed file's path in it; the URL may be that of the file itself."""
        fs, root = self.opened()
        is_file = root.rstrip("/").rpartition("/")[2] == entry.path and not fs.isdir(root)
        return fs, root if is_file else f"{root.rstrip('/')}/{entry.path}"

    def _downloaded(self, fs: Any, path: str, target: Path) -> Path:
        make_room(int(fs.info(path).get("size") or 0))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=".fetching-")
        os.close(handle)
        try:
            fs.get_file(path, scratch)
            os.replace(scratch, target)
        except Exception as error:
            Path(scratch).unlink(missing_ok=True)
            raise ValueError(f"{self.url}: {path} cannot be fetched ({type(error).__name__}: {error}).") from error
        return target


def _stated(info: dict[str, Any]) -> list[str]:
    """What a store says of a file's content: the name of the property and its value; empty if it says nothing."""
    lfs = info.get("lfs")
    if isinstance(lfs, dict) and lfs.get("sha256"):
        return ["sha256", str(lfs["sha256"])]
    for name in (*CHECKSUMS, *TIMES):
        if info.get(name):
            return [name, str(info[name])]
    return []


def _cache() -> Path:
    return Path(os.environ.get("STEMMA_CACHE") or Path.home() / ".cache" / "stemma") / "remote"


def make_room(num_bytes: int, limit: int = 0) -> None:
    """Remove the cached files that were not used for longest, until so many bytes more stay within the limit.

    The limit is ``STEMMA_CACHE_BYTES``, 16 GiB by default. Files that were used within the last hour stay.
    """
    limit = limit or int(os.environ.get("STEMMA_CACHE_BYTES", CACHE_BYTES))
    found = []
    for path in _cache().rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
    used = sum(size for _, size, _ in found)
    for changed, size, path in sorted(found):
        if used + num_bytes <= limit or changed > time.time() - IN_USE_SECONDS:
            return
        path.unlink(missing_ok=True)
        used -= size
