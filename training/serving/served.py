"""What is served: a model by a name, with the identity of its weights and the template of its chats."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipelines.provenance.artifact import Artifact
from training.generate import Generator

Template = Callable[[list[dict[str, str]]], str]


@dataclass(frozen=True)
class Served:
    """A model that answers.

    Args:
        identity: of the manifest of a sealed model, or of the weight file of a directory.
        template: messages to the text that the model goes on from; None: it has not learnt to chat.
    """

    generator: Generator
    name: str
    identity: str
    template: Template | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def load(cls, source: Artifact | Path, name: str = "", device: str = "cpu") -> Served:
        """A checkpoint, or a directory as ``stemma export`` writes it."""
        generator = Generator.load(source, device)
        if isinstance(source, Artifact):
            part = source.key.part.removeprefix("step-").lstrip("0")
            known = f"{source.key.partition}@{part}" if part else source.key.partition
            return cls(generator, name or known, f"manifest-{source.digest}")
        weights = blake3(max_threads=blake3.AUTO).update_mmap(source / "model.safetensors").hexdigest()
        return cls(generator, name or source.resolve().name, f"weights-{weights}", template_of(source))

    @property
    def fingerprint(self) -> str:
        return self.identity[: self.identity.index("-") + 17]

    def described(self) -> dict[str, Any]:
        """As ``/v1/models`` lists it."""
        return {
            "id": self.name, "object": "model", "created": self.created, "owned_by": "stemma",
            "root": self.identity, "max_model_len": self.generator.context,
        }  # fmt: skip


def template_of(folder: Path) -> Template | None:
    """The chat template of a directory, rendered by transformers, which has its dialect of Jinja."""
    config = folder / "tokenizer_config.json"
    inside = config.is_file() and "chat_template" in json.loads(config.read_bytes())
    if not inside and not (folder / "chat_template.jinja").is_file():
        return None
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def render(messages: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    return render
