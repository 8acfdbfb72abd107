"""Where bytes lie: a local directory, or any object store that fsspec reaches. No other file knows.

Two promises hold on both: a file appears whole or not at all, and ``create`` never replaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


class StoreError(RuntimeError):
    """The store cannot be used as asked: what was found, and what to do."""


class Files(ABC):
    """The few operations that the store needs. Paths are relative, with forward slashes."""

    url: str
    local_root: Path | None = None

    @abstractmethod
    def read(self, path: str) -> bytes:
        """All bytes of one file; FileNotFoundError if there is none."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Put a new file; False, and nothing changed, if one is there already (the compare-and-swap)."""

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

    def create(self, path: str, data: bytes) -> bool:
        full = self._full(path)
        full.parent.mkdir(parents=True, exist_ok=True)
        fd, scratch = tempfile.mkstemp(dir=full.parent, prefix=".writing-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o444)
            os.link(scratch, full)  # fails if the name is taken: whole file or none, never a replacement
        except FileExistsError:
            return False
        finally:
            os.unlink(scratch)
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
        return sorted(n for n in os.listdir(full) if not n.startswith(".writing-")) if full.is_dir() else []

    def walk(self, folder: str) -> Iterator[str]:
        full = self._full(folder)
        for directory, subfolders, names in os.walk(full):
            subfolders.sort()
            for name in sorted(names):
                yield Path(directory, name).relative_to(self.local_root or full).as_posix()

    def remove(self, path: str) -> None:
        full = self._full(path)
        if full.is_dir():
            shutil.rmtree(full)
        else:
            full.unlink(missing_ok=True)

    def size(self, path: str) -> int:
        return self._full(path).stat().st_size


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

    def create(self, path: str, data: bytes) -> bool:
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
        return sorted(PurePosixPath(name).name for name in found)

    def walk(self, folder: str) -> Iterator[str]:
        self._fs.invalidate_cache()
        prefix = self._full("")
        for name in sorted(self._fs.find(self._full(folder))):
            yield name.removeprefix(prefix).lstrip("/")

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
