"""Near-duplicate removal with the parameters that others published, as recipes that a corpus begins from.

What a preset changes is who becomes a candidate and how alike two documents must be. Here every candidate is verified
on its shingles and goes only for a survivor, which none of the three published pipelines does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipelines import semantic
from pipelines.boilerplate import BoilerplateRecipe
from pipelines.dedup import DedupRecipe
from pipelines.semantic_edges import SemanticRecipe
from pipelines.signatures import SignatureRecipe
from pipelines.spec import Spec
from pipelines.unique import UniqueRecipe

BOILERPLATE = "boilerplate"  # table of a corpus's dedup that steers unique_documents


class Preset(NamedTuple):
    """The two recipes that belong together: signatures must be long enough for the bands."""

    signatures: SignatureRecipe
    dedup: DedupRecipe


PRESETS = {
    # 14 buckets of 8 hashes of word 5-grams, for documents that are 75 % alike: found with probability 0.77 there,
    # 0.92 at 0.8 (Penedo et al. 2024, "The FineWeb Datasets", App. E.1)
    "fineweb": Preset(
        SignatureRecipe(ngram=5, num_perm=112), DedupRecipe(threshold=0.75, bands=14, rows=8)
    ),
    # 9,000 hashes of 5-grams, 450 buckets of 20: found with probability 0.995 at 0.8 (Penedo et al. 2023, "The
    # RefinedWeb Dataset", App. G.3.1, whose main text swaps the two numbers; threshold of Lee et al. 2022, App. A,
    # from whom they are). The paper's 5-grams are of GPT-2 tokens, these of words. Signatures of 36 kB a document
    "refinedweb": Preset(
        SignatureRecipe(ngram=5, num_perm=9000), DedupRecipe(threshold=0.8, bands=450, rows=20)
    ),
    # 256 permutations of 5-grams at 0.7 (bigcode-dataset, near_deduplication/minhash_deduplication.py); bands and rows
    # are datasketch's for these, with both errors weighed alike
    "bigcode": Preset(
        SignatureRecipe(ngram=5, num_perm=256), DedupRecipe(threshold=0.7, bands=25, rows=10)
    ),
}  # fmt: skip


def dedup_recipe(spec: Spec, corpus: str) -> DedupRecipe:
    """The recipe in the table ``[corpora.NAME.dedup]``: a preset if it names one, and what it says otherwise.

    Raises:
        SpecError: for a preset or a field that does not exist, or a value out of bounds.
    """
    said = {name: value for name, value in spec.corpus(corpus).dedup.items() if name not in ("preset", BOILERPLATE)}
    preset = _preset(spec, corpus)
    begin = preset.dedup.model_dump(exclude_unset=True) if preset else {}
    if said.get("containment") is True:
        begin["keep"] = "longest"  # by another order, an earlier document that a later one holds would stay
    return spec.checked(DedupRecipe, ("corpora", corpus, "dedup"), **{**begin, **said})


def unique_recipe(spec: Spec, corpus: str) -> tuple[UniqueRecipe, Path | None]:
    """The recipe in the tables ``[corpora.NAME.dedup.boilerplate]`` (where there is one, lines are compared) and
    ``[corpora.NAME.semantic]``, and the directory of the latter's model.

    Raises:
        SpecError: as :func:`dedup_recipe`.
    """
    where = ("corpora", corpus, "dedup", BOILERPLATE)
    said: Any = spec.corpus(corpus).dedup.get(BOILERPLATE)
    cutting: dict[str, Any] = {}
    if said is not None:
        if not isinstance(said, dict):
            raise spec.error(where, f"is a table of its own, [{'.'.join(where)}], found {said!r}")
        cutting = {"unit": "lines", **said}
        spec.checked(BoilerplateRecipe, where, **cutting)
    alike, model = _semantic(spec, corpus)
    spec.checked(SemanticRecipe, ("corpora", corpus, "semantic"), **alike)
    return UniqueRecipe(**cutting, **alike), model


def _semantic(spec: Spec, corpus: str) -> tuple[dict[str, Any], Path | None]:
    """What ``[corpora.NAME.semantic]`` says, with the digest of the model whose directory it names."""
    said, where = dict(spec.corpus(corpus).semantic), ("corpora", corpus, "semantic")
    place = said.pop("model", None)
    if place is None:
        return said, None
    if not isinstance(place, str):
        raise spec.error((*where, "model"), f"model is {place!r}; expected the path of a directory")
    folder = spec.path.parent / place
    try:
        return {**said, "model": semantic.model_digest(folder)}, folder
    except semantic.EmbedderError as error:
        raise spec.error((*where, "model"), str(error).removesuffix(".")) from None


def signature_recipe(spec: Spec) -> SignatureRecipe:
    """The recipe in the table ``[signatures]``, as long as the longest that the preset of a corpus needs.

    One for all sources: a source has one signature, whichever corpora select it.
    """
    presets = [_preset(spec, corpus) for corpus in spec.document.corpora]
    lengths = [preset.signatures.num_perm for preset in presets if preset]
    return spec.recipe(SignatureRecipe, ("signatures",), **({"num_perm": max(lengths)} if lengths else {}))


def _preset(spec: Spec, corpus: str) -> Preset | None:
    name = spec.corpus(corpus).dedup.get("preset")
    if name is not None and (not isinstance(name, str) or name not in PRESETS):
        raise spec.error(("corpora", corpus, "dedup", "preset"), f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name] if name is not None else None
