"""What the UI shows beside a materialization: a funnel that adds up, numbers that plot, data that is never markup."""

import re

import dagster as dg
import pyarrow as pa
import pytest

from assets.metadata import described, funnel, provenance, reasons_of
from pipelines.provenance import fates
from pipelines.provenance.fates import FateRows
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe


def doc(number: int) -> bytes:
    return number.to_bytes(16, "big")


def table_of(*rows) -> pa.Table:
    made = FateRows()
    for number, (fate, *why) in enumerate(rows):
        made.add(doc(number), fate, *why)
    return made.table()


@pytest.fixture
def sealed(blank):
    """An artifact with these fates in its parts."""

    def make(*parts, **seal):
        counts = [fates.counted(table) for table in parts]

        def write(draft):
            if len(parts) == 1:
                draft.write(fates.FILE, parts[0])
                return ()
            return [
                draft.part(f"p{number}", Recipe(), [], lambda inner, t=table: _part(inner, t))
                for number, table in enumerate(parts)
            ]

        summed = {name: sum(count[name] for count in counts) for name in counts[0]} if counts else {}
        return blank.seal(Key("clean_documents", "poems/1"), write, counts=summed | seal.pop("counts", {}), **seal)

    return make


def _part(draft, table):
    draft.write(fates.FILE, table)
    return draft.seal(counts=fates.counted(table))


def rows_of(markdown: str) -> dict[str, tuple[str, str]]:
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines()[2:]]
    assert all(len(cells) == 3 for cells in found), markdown
    return {cells[0].strip(): (cells[1].strip(), cells[2].strip()) for cells in found}


def test_the_funnel_tells_what_came_in_what_stayed_and_why_the_rest_went(sealed):
    kept, short = [("kept",)] * 15, [("dropped", "too_short", 3.0)] * 4
    artifact = sealed(table_of(*kept, *short, ("quarantined", "not JSON: a.jsonl line 3 (bytes 5-9), character 2")))
    assert rows_of(funnel(artifact)) == {
        "in": ("20", "100 %"),
        "kept": ("15", "75.0%"),
        "dropped": ("4", "20.0%"),
        "quarantined": ("1", "5.0%"),
        "· `dropped: too_short`": ("4", "20.0%"),
        "· `quarantined: not JSON`": ("1", "5.0%"),
    }


def test_the_funnel_of_an_artifact_in_parts_is_that_of_all_of_them(sealed):
    artifact = sealed(
        table_of(("kept",), ("merged", "", None, doc(0), 0.9, "near")),
        table_of(("kept",), ("merged", "", None, doc(0), 1.0, "exact"), ("merged", "", None, doc(0), 0.85, "near")),
    )
    assert reasons_of(artifact) == {"merged: near": 2, "merged: exact": 1}
    assert rows_of(funnel(artifact))["· `merged: near`"] == ("2", "40.0%")


def test_bad_records_are_counted_by_kind_wherever_they_stand(sealed):
    """A torn file of ten thousand lines is one row, not ten thousand."""
    torn = [("quarantined", f"not JSON: notes.jsonl line {n} (bytes {n}-{n + 9}), character 7") for n in range(300)]
    artifact = sealed(table_of(*torn, ("quarantined", "no text: notes.jsonl line 301, field 'text' is missing")))
    assert reasons_of(artifact) == {"quarantined: not JSON": 300, "quarantined: no text": 1}
    assert len(rows_of(funnel(artifact))) == 5


def test_a_fate_without_a_reason_is_told_once(sealed):
    artifact = sealed(table_of(("kept",), ("held_out",), ("held_out",)))
    assert rows_of(funnel(artifact)) == {"in": ("3", "100 %"), "kept": ("1", "33.3%"), "held_out": ("2", "66.7%")}


def test_the_twelve_commonest_reasons_are_told(sealed):
    rows = [("dropped", f"rule_{n:02}", 1.0) for n in range(20) for _ in range(n + 1)]
    told = [name for name in rows_of(funnel(sealed(table_of(*rows)))) if name.startswith("·")]
    assert told == [f"· `dropped: rule_{n:02}`" for n in range(19, 7, -1)]


def test_nothing_seen_divides_by_nothing(sealed):
    artifact = sealed(table_of())
    assert rows_of(funnel(artifact)) == {"in": ("0", "100 %"), "kept": ("0", "0.0%")}
    assert described(artifact)["kept_ratio"] == 0


@pytest.mark.parametrize(
    "name", ["a|b", "[click](https://example.org)", "*bold*", "<img src=x>", "`tick`", "two\nlines"]
)
def test_a_reason_that_looks_like_markup_stays_in_its_cell_as_code(sealed, name):
    found = rows_of(funnel(sealed(table_of(("kept",), ("dropped", f"overlap:{name}", 0.9)))))
    reason = next(cell for cell in found if cell.startswith("·")).removeprefix("· ")
    assert found[f"· {reason}"] == ("1", "50.0%")
    fence = re.match("`+", reason).group()
    inside = reason.removeprefix(fence).removesuffix(fence)
    assert fence not in re.findall("`+", inside), "the code span ends before its text does"
    assert inside.strip().replace("\\|", "|") == " ".join(f"dropped: overlap:{name}".split())


class Odd(Recipe):
    pattern: str = "a|b `c` ``d``\n| # e |"
    empty: str = ""
    weights: tuple[str, ...] = ("x=2", "y=0.5")
    ratio: float = 0.25


def odd(place, inputs=(), name="odd"):
    return build(place.store, Key("mixture", name), "7", Odd(), list(inputs), lambda draft: draft.seal()).artifact


def test_the_provenance_names_both_digests_version_recipe_and_inputs(blank):
    raw = blank.seal(Key("raw_documents", "poems/1"), lambda draft: draft.path("t").write_text("t") and None)
    artifact = odd(blank, [raw])
    told = provenance(artifact)
    assert told.startswith("**mixture[odd]**")
    assert f"| manifest | `{artifact.digest}` |" in told
    assert f"| content | `{artifact.content}` |" in told
    assert "| stage version | 7 |" in told
    assert f"| from raw_documents[poems/1] | `{raw.digest[:16]}…` |" in told
    assert "| ratio | `0.25` |" in told
    assert "| empty |  |" in told


def test_a_recipe_that_looks_like_markup_cannot_leave_its_cell(blank):
    lines = provenance(odd(blank)).splitlines()
    row = next(line for line in lines if line.startswith("| pattern"))
    assert row == r"| pattern | ``` a\|b `c` ``d`` \| # e \| ``` |"
    assert lines[-1].startswith(("| weights", "| ratio")), "the line break in the value began no line of its own"


def test_of_many_inputs_twenty_are_named_and_the_rest_counted(blank):
    inputs = [
        blank.seal(Key("raw_documents", f"s/{n}"), lambda draft, n=n: draft.path("t").write_text(str(n)) and None)
        for n in range(23)
    ]
    told = provenance(odd(blank, inputs))
    assert told.count("| from raw_documents[s/") == 20
    assert "| and 3 more inputs | |" in told


def test_numbers_plot_and_nothing_else_does(sealed):
    facts = {"heldout_bpb": 1.25, "clean": None, "promoted": True, "name": "demo", "by_task": {"a": 1}}
    found = described(sealed(table_of(("kept",), ("kept",)), facts=facts, counts={"files": 3}))
    assert found["heldout_bpb"] == 1.25
    assert (found["seen"], found["kept"], found["files"]) == (2, 2, 3)
    assert not {"clean", "promoted", "name", "by_task"} & set(found)
    for name, value in found.items():
        assert isinstance(value, (int, float, str, dg.MetadataValue, dg.TableSchema)), name


@pytest.mark.parametrize(
    ("counts", "rows"),
    [({"kept": 3, "docs": 9, "items": 8}, 3), ({"docs": 9, "items": 8}, 9), ({"items": 8}, 8), ({"tokens": 7}, None)],
)
def test_the_row_count_is_that_of_documents_or_items(blank, counts, rows):
    artifact = blank.seal(Key("token_shards", "small"), lambda draft: None, counts=counts)
    assert described(artifact).get("dagster/row_count") == rows


def test_the_columns_are_those_of_the_first_known_table(blank):
    def write(draft):
        draft.write("items.arrow", pa.table({"item_id": ["a"], "n": pa.array([1], pa.int16())}))
        draft.write("other.arrow", pa.table({"x": [1]}))

    schema = described(blank.seal(Key("benchmark_prompts", "quiz"), write))["dagster/column_schema"]
    assert [(column.name, column.type) for column in schema.columns] == [("item_id", "string"), ("n", "int16")]


def test_an_artifact_without_tables_has_no_columns_and_no_funnel(blank):
    found = described(
        blank.seal(Key("model_card", "demo"), lambda draft: draft.path("card.md").write_text("#") and None)
    )
    assert not {"dagster/column_schema", "funnel", "kept_ratio", "dagster/row_count"} & set(found)
    assert found["dagster/uri"].startswith(str(blank.url))


def test_real_documents_are_described_as_they_were_counted(library):
    clean = library.store.open("clean_documents", "letters/1")
    found = described(clean)
    assert found["dagster/row_count"] == clean.counts["kept"] == 19
    assert found["kept_ratio"] == 19 / 20
    assert "sha256_out" in [column.name for column in found["dagster/column_schema"].columns]
    assert rows_of(found["funnel"].value)["· `dropped: too_short`"] == ("1", "5.0%")
    raw = described(library.store.open("raw_documents", "letters/1"))
    assert rows_of(raw["funnel"].value)["· `quarantined: not JSON`"] == ("1", "4.8%")


def test_what_is_described_can_be_reported_to_dagster(library):
    """Dagster refuses metadata of a type or name that it does not know, and only when a step has ended."""
    for key in library.store.keys():
        if not key.part:
            dg.MaterializeResult(asset_key=key.asset, metadata=described(library.store.open(*key)))
            dg.AssetMaterialization(key.asset, partition=key.partition, metadata=described(library.store.open(*key)))
