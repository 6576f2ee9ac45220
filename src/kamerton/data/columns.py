"""Where a field of a row comes from: a column, or a template that joins several columns."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kamerton.data.values import number_text, value_at

__all__ = ["columns_of", "read_column"]

_NAME = re.compile(r"\{([^{}]+)\}")


def columns_of(source: str) -> tuple[str, ...]:
    """Name the columns of a source.

    Args:
        source: A column or dotted path; or a template with such in braces.

    Returns:
        The column alone, or those of the template in order.
    """
    return tuple(_NAME.findall(source)) or (source,)


def read_column(fields: Mapping[str, Any], source: str) -> Any:
    """Read a source from a row.

    Args:
        fields: The row.
        source: A source that `columns_of` takes.

    Returns:
        The value of a column, or the text of a template, in which columns without a value leave
        nothing, "\\n" is a line break, and white space at both ends is taken off. None where no
        column has a value.
    """
    names = _NAME.findall(source)
    if not names or source in fields:
        return value_at(fields, source)
    texts = {name: _text(value_at(fields, name)) for name in names}
    if not any(text.strip() for text in texts.values()):
        return None
    # A shell and TOML's single quotes leave the two characters of a line break as they are.
    return _NAME.sub(lambda found: texts[found[1]], source.replace("\\n", "\n")).strip()


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float):
        return number_text(value)
    return json.dumps(value, ensure_ascii=False)
