"""Document ids: their order is that of their bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines import doc_ids

HALF = st.sampled_from([bytes(8), b"\0" * 7 + b"\1", b"\1" + b"\0" * 7, b"\xff" * 8]) | st.binary(
    min_size=8, max_size=8
)


@given(st.lists(st.tuples(HALF, HALF).map(b"".join)))
def test_ids_are_ordered_by_their_bytes_and_equal_ones_stay_in_place(ids):
    column = np.frombuffer(b"".join(ids), "S16") if ids else np.zeros(0, "S16")
    assert doc_ids.order(column).tolist() == sorted(range(len(ids)), key=lambda row: (ids[row], row))
