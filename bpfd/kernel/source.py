"""The C text of a tracer's program: its layout, its file, and what it includes, as one text.

bcc rewrites only what stands in the main file, so what a tracer includes with quotes is put in its place here; `#line`
keeps the compiler's messages pointing at the real files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from bpfd.errors import LoadError
from bpfd.kernel.record import c_declarations
from bpfd.plugin import Field

OWN_HEADERS = Path(__file__).parent
LICENSE = "#define BPF_LICENSE Dual MIT/GPL\n"
"""bcc puts it into the section that the kernel reads."""
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"[ \t]*$')


MADE = Path("made")
"""The file that the compiler names where a program's text was made."""


def program_text(program: Path | str, fields: tuple[Field, ...]) -> str:
    """All of `program`, a file or a text. Raises `LoadError` naming the file that can't be read or found."""
    lines = _expand(program, set()) if isinstance(program, Path) else _expand_lines(MADE, program.split("\n"), set())
    return LICENSE + c_declarations(fields) + "\n".join(lines) + "\n"


def wants_all_types(text: str) -> bool:
    """Does the program ask for every type of the kernel (`#include <vmlinux.h>`)?"""
    return re.search(r"(?m)^[ \t]*#[ \t]*include[ \t]*<vmlinux\.h>", text) is not None


def _expand(path: Path, seen: set[Path]) -> list[str]:
    if path in seen:
        return []
    seen.add(path)
    try:
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    return _expand_lines(path, lines, seen)


def _expand_lines(path: Path, lines: list[str], seen: set[Path]) -> list[str]:
    expanded = [f"#line 1 {json.dumps(str(path))}"]
    for number, line in enumerate(lines, 1):
        included = _INCLUDE.match(line)
        if included is None:
            expanded.append(line)
            continue
        expanded += _expand(_find(included[1], path, number), seen)
        expanded.append(f"#line {number + 1} {json.dumps(str(path))}")
    return expanded


def _find(name: str, by: Path, line: int) -> Path:
    for folder in (OWN_HEADERS,) if by == MADE else (by.parent, OWN_HEADERS):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise LoadError(f'{by}:{line}: #include "{name}": no such file beside it or in {OWN_HEADERS}')
