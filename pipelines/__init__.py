"""Raw text to token shards.

Compiled kernels are cached in a folder named by the sources of all of them: numba itself looks only at the file of the
function that is called, and would go on with the old code of a function that this one calls.
"""

import os
from hashlib import sha256
from pathlib import Path


def _kernels() -> Path:
    """Where kernels of exactly these sources are kept; numba makes the folder."""
    here = Path(__file__).resolve().parent
    hasher = sha256()
    for path in sorted(here.rglob("*.py")):
        if b"numba" in (source := path.read_bytes()):
            hasher.update(source)
    home = here / "__pycache__"
    if not os.access(home if home.exists() else here, os.W_OK):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemma"
    return home / f"kernels-{hasher.hexdigest()[:16]}"


os.environ.setdefault("NUMBA_CACHE_DIR", str(_kernels()))
