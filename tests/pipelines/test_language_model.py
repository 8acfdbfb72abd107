"""The language model: the same arrays from the package and from the cache, and a cache that cannot mislead."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.language_model import ARRAYS, DIGESTS, LABELS, keep, load_model, mapped, unpacked


@pytest.fixture
def kept(tmp_path):
    keep(load_model(), tmp_path / "home")
    return tmp_path / "home"


def test_what_is_mapped_is_what_the_package_holds(kept):
    one, other = unpacked("x"), mapped(kept, "x")
    assert one.labels == other.labels
    for name in ARRAYS:
        first, second = getattr(one, name), getattr(other, name)
        assert np.array_equal(first, second), name
        assert first.dtype == second.dtype, name
        assert not first.flags.writeable, name
        assert not second.flags.writeable, name


@pytest.mark.parametrize("name", [f"{ARRAYS[4]}.npy", LABELS, DIGESTS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_cache_is_no_cache(kept, name, damage):
    path = kept / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[-20] ^= 1
        path.write_bytes(data)
    assert mapped(kept, "x") is None


def test_the_cache_is_made_once_and_mended(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path))
    load_model.cache_clear()
    first = load_model()
    (home,) = (tmp_path / "language").iterdir()
    (home / f"{ARRAYS[0]}.npy").unlink()  # first: written over, it would change under those who have it mapped
    (home / f"{ARRAYS[0]}.npy").write_bytes(b"torn")
    load_model.cache_clear()
    again = load_model()
    assert np.array_equal(first.label_of, again.label_of)
    assert mapped(home, first.digest) is not None
    assert [path.name for path in (tmp_path / "language").iterdir()] == [home.name]
    load_model.cache_clear()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "file"))
    load_model.cache_clear()
    assert len(load_model().labels) > 90
    load_model.cache_clear()
