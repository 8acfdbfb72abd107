"""The order of partitions decides what the UI plots."""

from assets.partitions import wanted


def test_sources_that_people_named_are_the_newest_partitions(empty):
    """Dagster plots the newest 120 partitions; the distributions of a whole environment would push the others out."""
    with empty.spec_path.open("a") as spec:
        spec.write('\n[corpora.installed]\nsources = ["installed-docs"]\nvocabulary = "docs-2048"\n')
    sources, named = wanted(empty.spec)["source"], list(empty.spec.document.sources)
    assert len(sources) > len(named)
    assert sources[-len(named) :] == named
