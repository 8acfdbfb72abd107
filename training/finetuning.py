"""x"""

from typing import Any


def finetuning(*a: Any) -> Any: ...
