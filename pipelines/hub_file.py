"""A file on the Hugging Face hub, named by its repository and commit, from the cache of ``huggingface_hub``.

A branch or tag may say something else tomorrow: only a commit is a name. With ``HF_HUB_OFFLINE`` set, or once the file
is in the cache, nothing is asked of the network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PREFIX = "hf://"
_NAME = re.compile(r"hf://(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
_COMMIT = re.compile("[0-9a-f]{40}")


class HubFileError(ValueError):
    """A name on the hub leads to no file."""


class HubFile(NamedTuple):
    """One file of one commit of a repository."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}@{self.revision}/{self.file}"

    def local(self) -> Path:
        """Where it lies on this machine; it is fetched if it is not in the cache.

        Raises:
            HubFileError: if it is neither in the cache nor to be had.
        """
        try:
            from huggingface_hub import hf_hub_download
        except ImportError:
            raise HubFileError(f"{self}: files of the hub need pip install -e '.[hub]'.") from None
        try:
            return Path(hf_hub_download(self.repo, self.file, revision=self.revision))
        except Exception as error:  # (one of a dozen kinds, of three libraries)
            raise HubFileError(
                f"{self}: is not in the cache and cannot be fetched ({type(error).__name__}). Fetch it where there is a "
                f"network (hf download {self.repo} {self.file} --revision {self.revision}), or look at its name."
            ) from error


def hub_file(name: str, default: str) -> HubFile:
    """The file of ``hf://OWNER/NAME@COMMIT`` or ``hf://OWNER/NAME@COMMIT/FILE``.

    Raises:
        HubFileError: if the name is another one, or has no commit.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise HubFileError(f"{name!r} is no name on the hub; expected {PREFIX}OWNER/NAME@COMMIT or that with /FILE.")
    if _COMMIT.fullmatch(found["revision"] or "") is None:
        raise HubFileError(
            f"{name!r} names {'no commit' if found['revision'] is None else found['revision']}: what a branch or tag "
            f"holds may change. Write {PREFIX}{found['repo']}@COMMIT, 40 hexadecimal digits (on the hub under History)."
        )
    return HubFile(found["repo"], found["revision"], found["file"] or default)
