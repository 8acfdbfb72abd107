"""Every command of the README runs, as it is written, on a finished store; and every verb is in the README."""

import re
import shlex
from pathlib import Path
from pydoc_data.topics import topics

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
NOT_HERE = ("make ", "stemma ui", "stemma serve", "git ")  # make test is what runs us; ui and serve do not end


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [
        line[2:].split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]
    return [line for line in lines if not line.startswith(NOT_HERE)]


def test_every_command_of_the_readme_runs(finished, tmp_path):
    """In the order of the README, on one copy of a finished run."""
    workplace = finished.copy(tmp_path / "copy")
    own = tmp_path / "notes"
    own.mkdir()
    for name, text in sorted(topics.items()):  # real prose that every Python carries
        (own / f"{name}.txt").write_text(text, encoding="utf-8")
    found = commands()
    assert len(found) >= 8
    for line in found:
        words = shlex.split(line.replace("/tmp/", f"{tmp_path}/").replace("~/notes", str(own)))
        assert words[0] == "stemma", line
        workplace.stemma(*words[1:])


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "ui",
        "status",
        "show",
        "preview",
        "generate",
        "serve",
        "export",
        "artifacts",
        "gc",
        "source add",
        "source list",
        "audit checkpoint",
        "audit step",
        "audit document",
        "audit verify",
        "audit overlap",
        "audit verify-run",
        "plan",
        "replay",
        "report",
        "scaling",
    ],
)
def test_every_verb_is_in_the_readme(verb):
    assert f"stemma {verb}" in README.read_text(encoding="utf-8")


def test_the_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (README.parent / t).exists()]
    assert missing == []
