"""Where bytes lie: a local directory, or any object store that fsspec reaches. No other file knows.

Two promises hold on both: a file appears whole or not at all, and ``create`` never replaces.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

WRITING = ".writing"  # where local files grow before they appear under their names; no evidence
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(RuntimeError):
    """The store cannot be used as asked: what was found, and what to do."""


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, of the system or of a library written in Rust, says that nothing more fits."""
    return getattr(error, "errno", None) in FULL or f"(os error {errno.ENOSPC})" in str(error)


def unwritable(what: object, where: object, error: BaseException) -> StoreError:
    """What to tell a person when the file system refuses."""
    if disk_is_full(error):
        return StoreError(
            f"{what}: the disk under {where} is full; nothing unfinished was published. Free space and run again "
            "(`stemma gc` shows what could go)."
        )
    return StoreError(f"{what}: the store {where} cannot be written: {error}. Check --store and its permissions.")


class Files(ABC):
    """The few operations that the store needs. Paths are relative, with forward slashes."""

    url: str
    local_root: Path | None = None

    @abstractmethod
    def read(self, path: str) -> bytes:
        """All bytes of one file; FileNotFoundError if there is none."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """One file as a stream of bytes."""

    @abstractmethod
    def create(self, path: str, data: bytes, *, durable: bool = True) -> bool:
        """Put a new file; False, and nothing changed, if one is there already (the compare-and-swap).

        One that is not durable survives the death of the process, not that of the machine.
        """

    @abstractmethod
    def upload(self, source: Path, path: str) -> None:
        """Copy a finished local file under a new name."""

    @abstractmethod
    def download(self, path: str, target: Path) -> None:
        """Copy one file to a local path that does not exist yet."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Sorted names of what lies directly in a folder; empty if there is no such folder."""

    @abstractmethod
    def walk(self, folder: str) -> Iterator[str]:
        """Every file below a folder, sorted."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Delete one file or a whole folder."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Bytes of one file."""


class LocalFiles(Files):
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise StoreError(f"the store {root} is a file; give a directory or a URL (--store, STEMMA_STORE).")
        self.local_root = root.absolute()
        self.url = str(self.local_root)

    def _full(self, path: str) -> Path:
        assert self.local_root is not None
        return self.local_root / path

    def read(self, path: str) -> bytes:
        return self._full(path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return self._full(path).open("rb")

    def create(self, path: str, data: bytes, *, durable: bool = True) -> bool:
        full, growing = self._full(path), self._full(WRITING)
        full.parent.mkdir(parents=True, exist_ok=True)
        growing.mkdir(exist_ok=True)
        fd, scratch = tempfile.mkstemp(dir=growing)  # not beside the file: a kill must leave no stranger there
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.chmod(scratch, 0o444)
            os.link(scratch, full)  # fails if the name is taken: whole file or none, never a replacement
        except FileExistsError:
            return False
        finally:
            os.unlink(scratch)
        if durable:
            _sync_directory(full.parent)
        return True

    def upload(self, source: Path, path: str) -> None:
        full = self._full(path)
        full.parent.mkdir(parents=True, exist_ok=True)
        if source != full:
            shutil.copyfile(source, full)
        with full.open("rb") as file:
            os.fsync(file.fileno())
        full.chmod(0o444)

    def download(self, path: str, target: Path) -> None:
        shutil.copyfile(self._full(path), target)

    def names(self, folder: str) -> list[str]:
        full = self._full(folder)
        return sorted(os.listdir(full)) if full.is_dir() else []

    def walk(self, folder: str) -> Iterator[str]:
        full = self._full(folder)
        for directory, subfolders, names in os.walk(full):
            subfolders.sort()
            for name in sorted(names):
                yield Path(directory, name).relative_to(self._full("")).as_posix()

    def remove(self, path: str) -> None:
        full = self._full(path)
        if full.is_dir():
            shutil.rmtree(full)
        else:
            full.unlink(missing_ok=True)

    def size(self, path: str) -> int:
        return self._full(path).stat().st_size

    def sweep(self, older_than_seconds: float = 86_400.0) -> None:
        """Remove what killed writers left half-grown."""
        for name in self.names(WRITING):
            path = self._full(f"{WRITING}/{name}")
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than_seconds:
                    path.unlink()


class RemoteFiles(Files):
    """An object store through fsspec (``s3://``, ``gs://``, ``memory://`` …)."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise StoreError(f"the store {url} needs fsspec: pip install -e '.[s3]'.") from error
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"the store {url} cannot be opened: {error}; pip install -e '.[s3]' for s3://.") from error
        self.url = url.rstrip("/")

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}".rstrip("/")

    def read(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(self._full(path), "rb"))

    def create(self, path: str, data: bytes, *, durable: bool = True) -> bool:  # noqa: ARG002 - always durable
        try:  # on S3 and GCS this is one conditional put (If-None-Match: *)
            self._fs.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    def upload(self, source: Path, path: str) -> None:
        self._fs.put_file(str(source), self._full(path))

    def download(self, path: str, target: Path) -> None:
        self._fs.get_file(self._full(path), str(target))

    def names(self, folder: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(name).name for name in found if not self._is_same(name, folder))

    def walk(self, folder: str) -> Iterator[str]:
        self._fs.invalidate_cache()
        prefix = self._full("")
        for name in sorted(self._fs.find(self._full(folder))):
            if not self._is_same(name, folder):
                yield name.removeprefix(prefix).lstrip("/")

    def _is_same(self, name: str, folder: str) -> bool:
        """Whether what fsspec lists is the folder itself: it answers so for a file, or for a folder's marker."""
        return name.strip("/") == self._full(folder).strip("/")

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._full(path), recursive=True)

    def size(self, path: str) -> int:
        return int(self._fs.size(self._full(path)))


def open_files(url: str | Path) -> Files:
    """Local directory unless the URL names another protocol."""
    text = str(url)
    if "://" in text and not text.startswith("file://"):
        return RemoteFiles(text)
    return LocalFiles(Path(text.removeprefix("file://")).expanduser())


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
