"""Makes the Python code of the proto files: `python -m bpfd.api.generate`, after a change to one of them.

Needs the development tools. The generated code is committed, so that an installation needs no compiler.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROTOS = ("bpfd/api/bpfd.proto", "bpfd/api/legacy.proto")
"""Named from the repository's root, so that the generated modules import each other as `bpfd.api.…`."""


def generate(root: Path, out: Path) -> None:
    """Write the modules of every proto under `root` to `out`/bpfd/api. Raises RuntimeError if the compiler fails."""
    from grpc_tools import protoc

    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"-I{root}", *outputs, *PROTOS])
    if status:
        raise RuntimeError(f"protoc ended with {status}")


if __name__ == "__main__":
    repository = Path(__file__).resolve().parents[1]
    generate(repository, Path(sys.argv[1]) if len(sys.argv) > 1 else repository)
