"""py3langid's model, unpacked once on a machine and mapped into memory by every process that reads it.

The package ships it as LZMA, which takes 0.6 s and 100 MB in every worker; the arrays as they are take 15 ms, and
all workers share their pages. What lies in the cache is checked against its digests each time it is opened.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.provenance.manifest import hashed


class Model(NamedTuple):
    """A naive Bayes classifier over byte n-grams that an automaton finds; arrays are read-only."""

    labels: list[str]  # distinct languages
    label_of: npt.NDArray[np.int64]  # class -> label: a language in two scripts is two classes
    next_row: npt.NDArray[np.uint32]  # row * 256 + byte -> state
    states: npt.NDArray[np.int32]  # state -> row, which states share; feature that ends there, or their number
    weights_512: npt.NDArray[np.int16]  # feature, class: in 512ths, which they are exactly
    prior: npt.NDArray[np.float32]  # class
    digest: str  # of the model file


UNITS = 512.0  # weights are half-precision floats between -16 and -2: whole numbers of 512ths
ARRAYS = Model._fields[1:-1]
LABELS, DIGESTS = "labels.json", "digests.json"


@functools.cache
def load_model() -> Model:
    """The model that ships in the package."""
    import py3langid
    from py3langid.langid import MODEL_FILE

    _, digest = hashed(Path(py3langid.__file__).parent / MODEL_FILE)
    home = Path(os.environ.get("STEMMA_CACHE", "~/.cache/stemma")).expanduser() / "language" / f"{digest}-512"
    if (found := mapped(home, digest)) is not None:
        return found
    model = unpacked(digest)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time and memory, no more
        keep(model, home)
    return mapped(home, digest) or model


def unpacked(digest: str) -> Model:
    """The model as the package reads it.

    Raises:
        ValueError: if the package ships another kind of model.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    features = np.array(found.tk_output, np.int32)
    weights = np.array(found.nb_ptc, np.float64) * UNITS
    if not np.array_equal(weights, weights.astype(np.int16)):
        raise ValueError("py3langid's weights are no 512ths; install the version of requirements.lock.")
    labels = list(dict.fromkeys(found.nb_classes))
    model = Model(
        labels,
        np.array([labels.index(c) for c in found.nb_classes], np.int64),
        np.array(found.tk_nextmove, np.uint32),
        np.stack([np.array(found.tk_row, np.int32), np.where(features < 0, len(weights), features)], axis=1),
        weights.astype(np.int16),
        np.array(found.nb_pc, np.float32),
        digest,
    )
    for name in ARRAYS:  # a kernel is compiled for arrays that may be written, or for those that may not
        getattr(model, name).flags.writeable = False
    return model


def keep(model: Model, home: Path) -> None:
    """Write the model into a folder that appears whole; one that was there and was of no use goes."""
    scratch = home.with_name(f"{home.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        (scratch / LABELS).write_text(json.dumps(model.labels), encoding="utf-8")
        for name in ARRAYS:
            np.save(scratch / f"{name}.npy", getattr(model, name))
        digests = {path.name: hashed(path)[1] for path in sorted(scratch.iterdir())}
        (scratch / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        scratch.rename(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def mapped(home: Path, digest: str) -> Model | None:
    """The model from its folder, or None if that does not hold exactly what was written."""
    try:
        digests = json.loads((home / DIGESTS).read_bytes())
        files = [home / LABELS, *(home / f"{name}.npy" for name in ARRAYS)]
        if any(hashed(path)[1] != digests[path.name] for path in files):
            return None
        labels, *arrays = files
        whole = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in arrays}
        return Model(labels=json.loads(labels.read_bytes()), **whole, digest=digest)
    except (OSError, ValueError, KeyError, TypeError):
        return None
