"""The audit bundle of a run that does not read its documents as they lie: by language, in phases, packed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evals.bundle import Bundle, BundleRecipe, audit_bundle
from pipelines.provenance.manifest import Key, ManifestError, file_entry
from pipelines.provenance.recipe import canonical_json
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Tracer
from tests.pipelines.tagged import Doc, tagged

SOURCES = {
    "wiki/1": [Doc(f"w{n}", 2 + 5 * n % 19, language="de" if n % 3 else "en") for n in range(12)],
    "web/1": [Doc(f"b{n}", 30 - n) for n in range(6)],
}
RECIPES = {
    "a language": {"weights": ["language:de=2"]},
    "packed": {"packing": "best_fit"},
    "packed in phases": {"packing": "best_fit", "phases": ["0.5: language:de=3"], "steps": 20},
}


def bundled(root: Path, recipe: dict) -> tuple[Bundle, Tracer]:
    corpus = tagged(Store(root / "store"), SOURCES)
    model = corpus.model(corpus.mixture(**recipe))
    made = audit_bundle(model, BundleRecipe(), model.store.draft(Key("audit_bundle", "run"), "1", {}, [model]))
    for name in made.names():
        path = root / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.local(name), path)
    return Bundle(root / "bundle"), Tracer(model)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_bundle_alone_says_what_the_trace_says_with_the_store(tmp_path, recipe):
    bundle, tracer = bundled(tmp_path, recipe)
    expected = [tracer.documents(step) for step in range(1, tracer.num_steps + 1)]
    shutil.rmtree(tmp_path / "store")
    assert bundle.verify() > 0
    for step, reads in enumerate(expected, 1):
        told = [(r.slot, r.part, r.doc_id, r.start, r.length) for r in bundle.documents(step)]
        assert told == [(r.slot, r.part, r.doc_id, r.start, r.length) for r in reads]


def test_documents_of_a_part_that_the_plan_reads_in_two_ways_are_listed_once(tmp_path):
    bundle, _ = bundled(tmp_path, RECIPES["a language"])
    names = sorted(p.name for p in (bundle.directory / "documents").iterdir())
    assert len(names) == 2
    assert len(bundle.plan.parts) == 3


def test_a_changed_layout_is_found_even_if_its_digest_is_changed_with_it(tmp_path):
    bundle, _ = bundled(tmp_path, RECIPES["packed"])
    path = bundle.directory / "layouts" / "00001.arrow"
    shutil.copyfile(bundle.directory / "layouts" / "00000.arrow", path)
    with pytest.raises(ManifestError, match=r"layouts/00001\.arrow is missing, or is not the file that was bundled"):
        bundle.verify()
    path.write_bytes(path.read_bytes() + b"\0" * 8)
    bundle.about["files"]["layouts/00001.arrow"] = file_entry(bundle.directory, "layouts/00001.arrow").blake3
    (bundle.directory / "bundle.json").write_bytes(canonical_json(bundle.about))
    with pytest.raises(ManifestError, match=r"layouts/00001\.arrow is not a layout of the mixture"):
        Bundle(bundle.directory).verify()
