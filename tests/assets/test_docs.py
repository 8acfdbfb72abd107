"""Tables of the pages in docs/: each is one that a spec may have, on top of a corpus "small" and a run "demo"."""

import re
from pathlib import Path

import pytest

from assets.blueprint import BLUEPRINTS
from pipelines.spec import Spec

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLES = [
    (page.name, block)
    for page in sorted(DOCS.glob("*.md"))
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


def test_there_are_pages_with_tables():
    assert {"training.md", "watching.md"} <= {page for page, _ in TABLES}


@pytest.mark.parametrize(("page", "block"), TABLES)
def test_a_table_of_the_docs_is_one_that_the_spec_may_have(blank, page, block):
    del page  # it names the test
    spec = Spec(blank.spec_path.read_text() + block, blank.spec_path)
    for name, run in spec.document.runs.items():
        if run.base not in spec.document.models:  # a model from elsewhere is looked at where it lies
            BLUEPRINTS["pretrained_model"](spec, name)
    for name in spec.document.compressions:
        BLUEPRINTS["compressed_model"](spec, name)


@pytest.mark.parametrize("page", sorted(page.name for page in DOCS.glob("*.md")))
def test_links_of_the_docs_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (DOCS / t).exists()] == []
