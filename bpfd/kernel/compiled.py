"""Compiled programs as plain data, and the folder that keeps them, so that the compiler runs once for each program.

What is kept is what came of a text, its definitions, the kernel's types and the compiler: the same of all four gives
the same program, and anything else another file. The folder belongs to root and nobody else may write there, as for
headers.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bpfd.kernel import loader
from bpfd.kernel.headers import find_library

log = logging.getLogger(__name__)

FOLDER = "programs"
MOST_KEPT = 256
"""How many programs are kept; those that were not used for longest go first."""
MOST_BYTES = 16 << 20
SELF = 0x3BBFD5E1
"""Stands in compiled programs for the daemon's process id, which is another at each start."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map to make: the numbers of BPF_MAP_CREATE (include/uapi/linux/bpf.h)."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program, ready for the kernel but for its maps: instructions that name one have its place in `maps`."""

    maps: tuple[MapSpec, ...]
    functions: Mapping[str, bytes]
    """By name, the instructions of each, 8 bytes an instruction."""


def from_answer(answer: Mapping[str, Any]) -> Compiled:
    """What the loader's child answers, made a program. Raises ValueError, KeyError, TypeError: it is none."""
    maps = tuple(MapSpec(str(one["name"]), *(_number(one[key]) for key in _NUMBERS)) for one in answer["maps"])
    functions = {str(name): base64.b64decode(text, validate=True) for name, text in answer["functions"].items()}
    if any(len(code) % 8 or not code for code in functions.values()):
        raise ValueError("a function has no whole instructions")
    return Compiled(maps, functions)


_NUMBERS = ("type", "key_size", "value_size", "max_entries", "flags")


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(f"{value!r} is no number of 32 bits")
    return value


def key_of(job: Mapping[str, Any]) -> str:
    """The name of what comes of compiling `job`."""
    known = [job["text"], job["cflags"], Path(job["headers"]).name, SELF, _compiler()]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@cache
def _compiler() -> tuple[str, str]:
    """What tells one compiler from another: its library's file, which has its version, and what asks it."""
    library = find_library("bcc")
    return str(library and library.resolve()), hashlib.sha256(Path(loader.__file__).read_bytes()).hexdigest()


class Kept:
    """The folder of compiled programs. Any thread, any number of daemons."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir / FOLDER

    def read(self, key: str) -> Compiled | None:
        """The program that was kept under `key`; None: there is none, or it is damaged, or somebody else's."""
        path = self._folder / key
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > MOST_BYTES:
                    raise ValueError("it belongs to somebody else, or others may write it")
                digest, _, text = file.read().partition(b"\n")
            if digest.decode("ascii", "replace") != hashlib.sha256(text).hexdigest():
                raise ValueError("it is damaged")
            found = from_answer(json.loads(text))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            log.warning("%s: is not used: %s", path, error)
            return None
        return found

    def write(self, key: str, compiled: Compiled) -> None:
        """Keep a program. A disk that does not take it only means that it is compiled again."""
        functions = {name: base64.b64encode(code).decode() for name, code in compiled.functions.items()}
        text = json.dumps({"maps": [asdict(one) for one in compiled.maps], "functions": functions}).encode()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, half = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
                os.replace(half, self._folder / key)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(half)
                raise
            self._make_room()
        except OSError as error:
            log.warning("%s: compiled programs cannot be kept: %s", self._folder, error.strerror)

    def _make_room(self) -> None:
        kept = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - MOST_KEPT)]:
            path.unlink(missing_ok=True)
