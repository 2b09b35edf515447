"""Reads the values of an action's table in the configuration, each with its check.

Every function takes the table, the key and what stands for a key that is left out, and raises `ActionError` with
`key: what is wrong` for a wrong value. No message repeats a value: it may be a secret at the wrong place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bpfd.errors import ActionError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECRET_BYTES = 64 * 1024


def text(table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A string that is not empty. `default` None: the key is required."""
    value = table.get(key, default)
    if value is None:
        raise ActionError(f"{key}: is missing; set it")
    if not isinstance(value, str) or (key in table and not value):
        raise ActionError(f"{key}: must be a text in quotes")
    return value


def texts(table: Mapping[str, Any], key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
    """A list of strings."""
    value = table.get(key, default)
    if value is None:
        raise ActionError(f"{key}: is missing; set it")
    if isinstance(value, str) or not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ActionError(f'{key}: must be a list of texts, such as ["one", "two"]')
    return tuple(value)


def choice(table: Mapping[str, Any], key: str, choices: Sequence[str], default: str) -> str:
    """One of `choices`."""
    value = table.get(key, default)
    if value not in choices:
        raise ActionError(f"{key}: must be one of {', '.join(choices)}")
    return str(value)


def yes(table: Mapping[str, Any], key: str, default: bool) -> bool:
    """true or false."""
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise ActionError(f"{key}: must be true or false")
    return value


def whole(table: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    value = table.get(key, default)
    if type(value) is not int or not low <= value <= high:
        raise ActionError(f"{key}: must be a whole number from {low} to {high}")
    return value


def seconds(table: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """A time: a number of seconds, or a text such as "90s", "5m", "12h", "7d"."""
    value = table.get(key, default)
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", value)):
        value = float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ActionError(f'{key}: must be a time from {low:g} to {high:g} seconds, such as 30 or "5m"')
    return float(value)


def size(table: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A number of bytes, or a text such as "64k", "10m", "2g"."""
    value = table.get(key, default)
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,12})([kmg]?)", value.lower())):
        value = int(found[1]) * _BYTES[found[2]]
    if type(value) is not int or not low <= value <= high:
        raise ActionError(f'{key}: must be a size from {low} to {high} bytes, such as 65536 or "10m"')
    return value


def headers(table: Mapping[str, Any], key: str) -> dict[str, str]:
    """A table of texts, fit to be header lines: printable ASCII."""
    value = table.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ActionError(f"{key}: must be a table of texts")
    for name, item in value.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not (item.isascii() and item.isprintable()):
            raise ActionError(f"{key}: {name!r} is no header, or its value holds more than printable ASCII")
    return dict(value)


def secret(table: Mapping[str, Any], key: str, required: bool = False) -> str | None:
    """A secret: `KEY_env` names the environment variable that holds it, `KEY_file` the file.

    The configuration itself never holds one. White space at its end is cut. None: neither key is set.
    """
    variable, path = table.get(f"{key}_env"), table.get(f"{key}_file")
    if variable is not None and path is not None:
        raise ActionError(f"{key}_env: stands beside {key}_file; set one of them")
    if variable is not None:
        return _from_environment(f"{key}_env", variable)
    if path is not None:
        return _from_file(f"{key}_file", path)
    if required:
        raise ActionError(f"{key}_env: is missing; set it or {key}_file")
    return None


def _from_environment(key: str, variable: object) -> str:
    if not isinstance(variable, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ActionError(f"{key}: must be the name of an environment variable, not the secret itself")
    if value := os.environ.get(variable, "").strip():
        return value
    raise ActionError(f"{key}: the environment variable is not set, or empty")


def _from_file(key: str, path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ActionError(f"{key}: must be the absolute path of a file")
    try:
        with Path(path).open("rb") as file:
            value = file.read(_SECRET_BYTES + 1).decode().strip()
    except UnicodeDecodeError:
        raise ActionError(f"{key}: the file is not UTF-8 text") from None
    except OSError as error:
        raise ActionError(f"{key}: the file cannot be read: {error.strerror}") from None
    if not value or len(value) > _SECRET_BYTES:
        raise ActionError(f"{key}: the file is empty or too long for a secret")
    return value
