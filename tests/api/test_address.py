"""The forms of an address."""

from __future__ import annotations

import pytest

from bpfd.api.address import TcpAddress, UnixAddress, parse_address
from bpfd.errors import ApiError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/bpfd/bpfd.sock", UnixAddress("/run/bpfd/bpfd.sock")),
        ("unix:/run/x", UnixAddress("/run/x")),
        ("/run/bpfd/bpfd.sock", UnixAddress("/run/bpfd/bpfd.sock")),
        ("127.0.0.1:7701", TcpAddress("127.0.0.1", 7701)),
        ("tcp://localhost:1", TcpAddress("localhost", 1)),
        ("[::1]:80", TcpAddress("::1", 80)),
    ],
)
def test_an_address_is_read_in_each_of_its_forms(text: str, address: object) -> None:
    parsed = parse_address(text)
    assert parsed == address
    assert parse_address(str(parsed)) == parsed


def test_a_relative_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert parse_address("./x.sock") == UnixAddress(f"{tmp_path}/x.sock")


@pytest.mark.parametrize(
    "text", ["", "unix:", "unix://", "host", ":80", "1.2.3.4:99999", "http://x:80", "a b:1", "/x\0y", "/" + "x" * 108]
)
def test_what_is_no_address_is_refused_with_a_form_that_is_one(text: str) -> None:
    with pytest.raises(ApiError, match=r"unix:///run/bpfd/bpfd\.sock|use a shorter one") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback_is_known(host: str, is_loopback: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is is_loopback
