"""Markdown in the UI: what comes from data stands there as text, never as markup."""

import json
import re
from typing import Any


def literal(value: Any) -> str:
    """A value as code in a cell of a table: nothing in it is markup, and nothing in it ends the cell."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def num_bytes(text: str) -> int:
    """Room that a text takes in the event log, which is JSON of ASCII."""
    return len(json.dumps(text)) - 2
