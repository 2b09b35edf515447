"""The committed code is what the proto files say."""

from __future__ import annotations

from pathlib import Path

from bpfd.api.generate import generate

API = Path(__file__).parents[2] / "api"


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    generate(API.parent, tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / "bpfd/api").iterdir()}
    committed = {path.name: path.read_text() for path in API.glob("*_pb2*")}
    assert made == committed
