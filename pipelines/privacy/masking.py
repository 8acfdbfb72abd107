"""Privacy: what identifies a person or opens a door gives way to a placeholder; where, is kept; what, is not."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from pipelines.provenance.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# The order in which rules take their places: what one has taken, no later one sees. An e-mail address is taken whole,
# whatever its parts look like; then what a checksum or an issuer's prefix proves; then what only a shape tells.
RULES = ("email", "secret", "crypto", "iban", "credit_card", "national_id", "ip", "phone")
PLACEHOLDERS = {f"masked_{rule}": f"<{rule}>" for rule in RULES}
EMAIL, IP = "<email>", "<ip>"
MASKED_EMAIL, MASKED_IP = "masked_email", "masked_ip"

# every text with a public address matches this (the public IPv6 addresses begin with 2 or 3 and three more digits)
IP_HINT = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9a-fA-F]{3}:[0-9a-fA-F:]"


class PrivacyRecipe(Recipe):
    """What is masked. Each rule and the standard that it follows stand in a file of their own (see docs of fields)."""

    mask_email: bool = Field(default=True, description="replace e-mail addresses by <email> (RFC 5322, RFC 1034)")
    mask_secret: bool = Field(
        default=True,
        description="replace keys and tokens with an issuer's prefix, JSON Web Tokens, private keys (RFC 7519, RFC 7468) "
        "and random strings assigned to names like api_key by <secret>",
    )
    mask_crypto: bool = Field(
        default=True,
        description="replace Bitcoin, Litecoin, Dogecoin and Ethereum addresses by <crypto> (BIP 173, ERC-55)",
    )
    mask_iban: bool = Field(default=True, description="replace IBANs by <iban> (ISO 13616)")
    mask_credit_card: bool = Field(default=True, description="replace card numbers by <credit_card> (ISO/IEC 7812)")
    mask_national_id: bool = Field(
        default=True,
        description="replace identity, tax and social security numbers of 24 countries by <national_id>; those without "
        "a strong check digit only behind a word that names them",
    )
    mask_ip: bool = Field(default=True, description="replace public IP addresses by <ip> (RFC 6890, RFC 4291)")
    mask_phone: bool = Field(
        default=True, description="replace phone numbers by <phone> (ITU-T E.164 and national plans)"
    )


class Span(NamedTuple):
    """A place that was masked, in characters of the text before masking. Never holds the value."""

    rule: str
    start: int
    length: int


def masked_column(texts: pa.LargeStringArray, recipe: PrivacyRecipe) -> tuple[pa.LargeStringArray, pa.Table]:
    """The texts with placeholders, and the places that they replace: row, rule, start, length; in order.

    Start and length are in characters of the text before masking. A row depends on nothing but itself; masking what
    is masked changes nothing.

    Raises:
        ValueError: if a text is null.
    """
    import pyarrow as pa

    from pipelines.words import pieces

    done, spans, row = [], [], 0
    for piece in pieces(texts.cast(pa.large_string())):
        text, table = _masked_piece(piece, recipe, row)
        done.append(text)
        spans.append(table)
        row += len(piece)
    tables = pa.concat_tables([_spans_table([], [], [], []), *spans])
    if not tables.num_rows:
        return texts.cast(pa.large_string()), tables
    return pa.concat_arrays(done) if len(done) > 1 else done[0], tables


def masked(text: str, recipe: PrivacyRecipe) -> tuple[str, list[Span]]:
    """The text with placeholders, and the spans that they replace, in order."""
    import pyarrow as pa

    column, spans = masked_column(pa.array([text], pa.large_string()), recipe)
    rows = zip(*(spans[name].to_pylist() for name in ("rule", "start", "length")), strict=True)
    return column[0].as_py(), [Span(*row) for row in rows]


def personal_spans(text: str, recipe: PrivacyRecipe) -> list[Span]:
    """Where personal data stands, in order, without overlaps."""
    return masked(text, recipe)[1]


def _masked_piece(piece: pa.LargeStringArray, recipe: PrivacyRecipe, first_row: int) -> tuple[pa.Array, pa.Table]:
    import numpy as np
    import pyarrow as pa

    from pipelines.privacy.masking_kernel import found, replaced
    from pipelines.privacy.text import character_flags
    from pipelines.words import text_buffers

    data, offsets = text_buffers(piece)
    data, rows = data[offsets[0] : offsets[-1]], offsets - offsets[0]
    is_on = np.array([getattr(recipe, f"mask_{rule}") for rule in RULES])
    places = found(data.copy(), rows, np.flatnonzero(data == ord("@")), is_on, character_flags())
    if not len(places):
        return piece, _spans_table([], [], [], [])
    places = places[np.lexsort((places[:, 2], places[:, 0]))]
    out, ends, characters = replaced(data, rows, places, *_marks())
    text = pa.LargeStringArray.from_buffers(len(piece), pa.py_buffer(ends), pa.py_buffer(out))
    rules = pa.array(list(PLACEHOLDERS)).take(pa.array(places[:, 1]))
    return text, _spans_table(places[:, 0] + first_row, rules, characters[:, 0], characters[:, 1])


def _spans_table(*columns: object) -> pa.Table:
    import pyarrow as pa

    fields = {"row": pa.int64(), "rule": pa.string(), "start": pa.int64(), "length": pa.int64()}
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, t) for c, t in zip(columns, fields.values(), strict=True)]
    return pa.table(arrays, pa.schema(fields.items()))


@functools.cache
def _marks() -> tuple[np.ndarray, np.ndarray]:
    """The placeholders as uint8 [rules, longest], and their sizes."""
    import numpy as np

    texts = [p.encode() for p in PLACEHOLDERS.values()]
    sizes = np.array([len(t) for t in texts], np.int64)
    return np.frombuffer(b"".join(t.ljust(sizes.max()) for t in texts), np.uint8).reshape(len(texts), -1), sizes
