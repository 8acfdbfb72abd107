"""The documentation of an installed distribution, read from one that is laid out in the test."""

import ast
from importlib import metadata

import pytest

from pipelines import distributions as d
from pipelines.sources import IngestRecipe, origin_of

LONG = "This function explains itself at length, so that it is worth reading. " * 4
MODULE = f'''"""{LONG}"""
import nonexistent_module_that_would_fail


class Outer:
    """{LONG}"""

    def method(self):
        """Too short to be a document."""

    @property
    def size(self):
        """{LONG}"""

    @size.setter
    def size(self, value):
        """{LONG}"""


if True:
    async def outside():
        def inside():
            """First line.

                indented
            {LONG}"""
'''
METADATA = f"Metadata-Version: 2.4\nName: Demo_Pkg\nVersion: 1.0\nLicense-Expression: MIT\n\n# Demo\n\n{LONG}"


@pytest.fixture
def site(tmp_path, monkeypatch):
    files = {
        "demo_pkg/__init__.py": MODULE,
        "demo_pkg/empty.py": "x = 1\n",
        "demo_pkg/broken.py": '"""template"""\n{{ name }} = = 1\n',
        "demo_pkg/guide.md": f"# Guide\n\n{LONG}",
        "demo_pkg/data.json": "{}",
        "demo_pkg/tests/test_demo.py": MODULE,
        "demo_pkg/__pycache__/x.pyc": "",
        "demo_pkg-1.0.dist-info/METADATA": METADATA,
        "demo_pkg-1.0.dist-info/INSTALLER": "pip",
        "demo_pkg-1.0.dist-info/direct_url.json": "{}",
        "demo_pkg-1.0.dist-info/licenses/LICENSE": "Terms. " * 40,
        "demo_pkg-1.0.dist-info/top_level.txt": "demo_pkg",
    }
    for name, text in files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    record = [*files, "../bin/demo", "demo_pkg-1.0.dist-info/RECORD"]
    (tmp_path / "site/demo_pkg-1.0.dist-info/RECORD").write_text("".join(f"{n},,\n" for n in record))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    d.installed_distributions.cache_clear()
    yield tmp_path / "site"
    d.installed_distributions.cache_clear()


def read(min_chars=150):
    found = d.distribution("pypi-docs.demo-pkg", "1.0")
    root, entries = d.listed_documents(found)
    paths = [e.path for e in entries]
    return paths, list(d.documentation(found, root, paths, min_chars, d.stated_licence(found, root, paths)))


def test_only_files_that_a_wheel_brings_and_that_hold_prose_are_read(site):
    assert read()[0] == [
        "demo_pkg-1.0.dist-info/METADATA",
        "demo_pkg-1.0.dist-info/licenses/LICENSE",
        "demo_pkg/__init__.py",
        "demo_pkg/broken.py",
        "demo_pkg/guide.md",
    ]


def test_records_have_keys_that_outlive_the_version_and_uris_that_do_not(site):
    records = {r.key: r for r in read()[1]}
    assert list(records) == [
        "METADATA",
        "dist-info/licenses/LICENSE",
        "demo_pkg/__init__.py:<module>",
        "demo_pkg/__init__.py:Outer",
        "demo_pkg/__init__.py:Outer.size",
        "demo_pkg/__init__.py:Outer.size#2",
        "demo_pkg/__init__.py:outside.<locals>.inside",
        "demo_pkg/broken.py",
        "demo_pkg/guide.md",
    ]
    inside = records["demo_pkg/__init__.py:outside.<locals>.inside"]
    assert inside.text.startswith("First line.\n\n    indented\nThis function")
    assert inside.uri == f"pkg:pypi/demo-pkg@1.0#demo_pkg/__init__.py:{inside.position}"
    assert MODULE.splitlines()[inside.position - 1].strip().startswith('"""First line.')
    assert inside.group == "demo_pkg/__init__.py"
    assert records["METADATA"].text.startswith("# Demo")
    assert {r.licence for r in records.values()} == {"MIT"}


def test_a_module_that_is_no_python_is_quarantined_with_its_line(site):
    [bad] = [r for r in read()[1] if r.problem]
    assert bad.problem.startswith("not Python: demo_pkg/broken.py line 2 (bytes 0-")
    assert bad.raw == (site / "demo_pkg/broken.py").read_bytes()


def test_the_origin_depends_on_what_is_read_and_on_nothing_else(site):
    recipe = IngestRecipe(reader="installed-docs", source="pypi-docs.demo-pkg", snapshot="1.0")
    before = origin_of(recipe)
    (site / "demo_pkg-1.0.dist-info/INSTALLER").write_text("uv")
    (site / "demo_pkg/tests/test_demo.py").write_text("changed")
    (site / "demo_pkg/empty.py").write_text("x = 2\n")
    assert origin_of(recipe) == before
    (site / "demo_pkg/guide.md").write_text("changed")
    assert origin_of(recipe) != before


def test_what_is_not_installed_or_in_another_version_is_named(site):
    with pytest.raises(ValueError, match=r"no-such-thing is not installed. Run pip install 'no-such-thing==1'"):
        d.distribution("pypi-docs.no-such-thing", "1")
    with pytest.raises(ValueError, match=r"version 1\.0 of demo-pkg is installed"):
        d.distribution("pypi-docs.demo-pkg", "2.0")
    with pytest.raises(ValueError, match=r"is named pypi-docs\.NAME"):
        d.distribution("demo-pkg", "1.0")


def test_installed_distributions_are_normalised_and_sorted(site):
    found = d.installed_distributions()
    assert ("demo-pkg", "1.0") in found
    assert found == sorted(found)
    [row] = d.measured_distributions(names=["demo-pkg"])
    assert (row["docs"], row["files"], row["licence"]) == (8, 5, "MIT")


def test_of_a_distribution_that_is_there_twice_the_first_on_the_path_counts(site, tmp_path, monkeypatch):
    other = tmp_path / "before" / "demo_pkg-2.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text(METADATA.replace("Version: 1.0", "Version: 2.0"))
    monkeypatch.syspath_prepend(str(other.parent))
    assert dict(d.installed_distributions())["demo-pkg"] == "2.0" == metadata.version("demo-pkg")


def test_names_defined_in_branches_are_numbered_in_the_order_of_the_file():
    tree = ast.parse('if a:\n  def f(): "one"\nelse:\n  def f(): "two"\ntry:\n  pass\nexcept E:\n  def f(): "three"')
    assert [(x.name, x.text, x.line) for x in d.docstrings(tree)] == [
        ("f", "one", 2),
        ("f#2", "two", 4),
        ("f#3", "three", 8),
    ]
