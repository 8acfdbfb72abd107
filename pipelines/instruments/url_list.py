"""URL lists: addresses whose documents a team does not want, told by domain, by address or by words in it.

The rules are those of FineWeb's URL filter (Penedo et al. 2024, app. E.1): a listed domain with all its subdomains, a
listed address, one hard word, or at least two soft words. The lists are the user's own; none is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.provenance.recipe import Recipe, canonical_json, digest

if TYPE_CHECKING:
    from pipelines.words import U64

VERSION = "1"
REASONS = ("", "url_domain", "url_listed", "url_hard_word", "url_soft_words")
# names of files in a folder; UT1 (Université Toulouse Capitole) has domains and urls in a folder for each category
DOMAINS, URLS, HARD_WORDS, SOFT_WORDS = KINDS = ("domains", "urls", "hard_words", "soft_words")
MAX_LABEL, MAX_HOST = 63, 253  # RFC 1035, 2.3.4
_PLAIN = re.compile(rb"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,3}").fullmatch


class UrlRecipe(Recipe):
    """When an address blocks its document."""

    url_list_digest: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="blake3 over the lists; empty: every address is fine"
    )
    url_min_soft_words: int = Field(
        default=2, ge=1, description="soft words of an address that block it (FineWeb, app. E.1: two)"
    )


class UrlListError(ValueError):
    """A URL list cannot be used; the message names file and line, never the entry."""


class _Tables(NamedTuple):
    domains: U64
    urls: U64
    hard: U64
    soft: U64


class UrlList:
    """Lists of domains, addresses and words, and which URLs they block."""

    def __init__(self, tables: _Tables, sizes: dict[str, int], source: str) -> None:
        self._tables, self.sizes, self.digest = tables, sizes, source

    @classmethod
    def read(cls, path: Path | str) -> UrlList:
        """A file with one domain or URL a line, or a folder (as UT1's) whose files are named after what they hold.

        In a folder, at any depth, ``domains``, ``urls``, ``hard_words`` and ``soft_words`` (with or without ``.txt``)
        are read and other files are not. A single file of another name has URLs where a line has a path, else domains.
        Lines that begin with # are comments. Hosts are compared in lower case and punycode, without ``www.``, port and
        user; paths as they are, without fragment and last slash. A word is a run of ASCII letters and digits, or of
        characters beyond ASCII.

        Raises:
            UrlListError: if there is no list at this path, or a line is none of these.
        """
        from pipelines.instruments.url_list_kernel import domain_hashes, table_of, text_hashes, url_hashes
        from pipelines.words import text_buffers

        hashed = {DOMAINS: domain_hashes, URLS: url_hashes, HARD_WORDS: text_hashes, SOFT_WORDS: text_hashes}
        entries: dict[str, list[str]] = {kind: [] for kind in KINDS}
        sources = []
        for name, kind, data in _files(Path(path)):
            sources.append([name, digest(data)])
            for found, line in _lines(data, kind, name):
                entries[found].append(line)
        if not any(entries.values()):
            raise UrlListError(f"{Path(path).name}: has no entry; a list has one domain or URL a line.")
        columns = {kind: pa.array(lines, pa.large_string()) for kind, lines in entries.items()}
        tables = (table_of(hashed[kind](*text_buffers(column))) for kind, column in columns.items())
        sizes = {kind: len(lines) for kind, lines in entries.items()}
        return cls(_Tables(*tables), sizes, digest(canonical_json(sources)))

    def blocks(self, urls: pa.Array | pa.ChunkedArray, min_soft_words: int = 2) -> pa.StringArray:
        """The first reason to block each URL, one of REASONS: a string [urls], empty where it is fine."""
        import numpy as np

        from pipelines.instruments.url_list_kernel import blocked
        from pipelines.words import text_buffers

        column = urls.combine_chunks() if isinstance(urls, pa.ChunkedArray) else urls
        reasons, _ = blocked(*text_buffers(_ascii_hosts(column)), *self._tables, min_soft_words)
        return pa.DictionaryArray.from_arrays(reasons.astype(np.int8), pa.array(REASONS)).cast(pa.string())


def list_digest(path: Path) -> str:
    """What :attr:`UrlList.digest` will be, without reading the entries.

    Raises:
        UrlListError: if there is no list at this path.
    """
    return digest(canonical_json([[name, digest(data)] for name, _, data in _files(path)]))


def _files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, kind ("" where each line tells it) and bytes of every list at a path, in the order of their names."""
    try:
        if not path.is_dir():
            kind = path.name.removesuffix(".txt")
            yield path.name, kind if kind in KINDS else "", path.read_bytes()
            return
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if (kind := file.name.removesuffix(".txt")) in KINDS:
                yield file.relative_to(path).as_posix(), kind, file.read_bytes()
    except OSError as error:
        raise UrlListError(f"{path.name}: cannot be read: {(error.strerror or str(error)).lower()}.") from None


def _lines(data: bytes, kind: str, name: str) -> Iterator[tuple[str, str]]:
    """Kind and text of every entry of one file."""
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if kind == DOMAINS and _PLAIN(raw):
            yield DOMAINS, raw.decode()  # nearly every line of a list of a million
            continue
        line = raw.strip().removeprefix(b"*").lstrip(b".")  # some lists write .host or *.host for all subdomains
        if not line or line[0] == ord("#"):
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise UrlListError(f"{name}:{number}: is not UTF-8; save the list as UTF-8.") from None
        found = kind or (URLS if "/" in text.partition("://")[2 if "://" in text else 0].rstrip("/") else DOMAINS)
        if found in (HARD_WORDS, SOFT_WORDS):
            text = text.lower()
            wrong = any(c.isascii() and not c.isalnum() for c in text)
        else:
            text = text if text.isascii() else _ascii_host(text)
            wrong = " " in text or "\t" in text or not _host_fits(text)
        if wrong:
            raise UrlListError(f"{name}:{number}: is none of {found}; expected one entry a line, or # and a comment.")
        yield found, text


def _host_fits(url: str) -> bool:
    host = url.partition("://")[2] if "://" in url else url.removeprefix("//")
    host = host.split("/", 1)[0]
    return 0 < len(host) <= MAX_HOST and "." in host.strip(".")


def _ascii_hosts(urls: pa.Array) -> pa.Array:
    """The column with hosts in punycode; addresses in ASCII, nearly all, are taken as they are."""
    other = pc.invert(pc.string_is_ascii(urls))
    if not pc.any(other).as_py():
        return urls
    changed = [_ascii_host(url) for url in urls.filter(other).to_pylist()]
    return pc.replace_with_mask(urls, other, pa.array(changed, urls.type))


def _ascii_host(url: str) -> str:
    """The address with its host in punycode; unchanged where no such name can exist."""
    head, mark, _ = url.partition("://")
    start = len(head) + len(mark) if mark and not set(head) & set("/?#") else 2 if url.startswith("//") else 0
    stop = min((at for at in (url.find(c, start) for c in "/?#") if at >= 0), default=len(url))
    authority = url[start:stop]
    host = authority.rpartition("@")[2]
    name, _, port = host.partition(":")
    if name.isascii() or any(len(label) > MAX_LABEL for label in name.split(".")):
        return url
    try:
        return f"{url[:start]}{name.encode('idna').decode()}{':' * bool(port)}{port}{url[stop:]}"
    except UnicodeError:
        return url
