"""The values of an action's table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpfd import options
from bpfd.errors import ActionError


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: options.text({}, "url"), "url: is missing; set it"),
        (lambda: options.text({"url": 3}, "url"), "url: must be a text in quotes"),
        (lambda: options.text({"url": ""}, "url", "x"), "url: must be a text in quotes"),
        (lambda: options.texts({"to": "me"}, "to"), 'to: must be a list of texts, such as ["one", "two"]'),
        (lambda: options.texts({"to": [1]}, "to"), 'to: must be a list of texts, such as ["one", "two"]'),
        (lambda: options.choice({"a": []}, "a", ("x", "y"), "x"), "a: must be one of x, y"),
        (lambda: options.yes({"a": 1}, "a", True), "a: must be true or false"),
        (lambda: options.whole({"a": True}, "a", 1, 0, 9), "a: must be a whole number from 0 to 9"),
        (lambda: options.whole({"a": 10}, "a", 1, 0, 9), "a: must be a whole number from 0 to 9"),
        (
            lambda: options.seconds({"a": "5y"}, "a", 1, 0, 9),
            'a: must be a time from 0 to 9 seconds, such as 30 or "5m"',
        ),
        (
            lambda: options.seconds({"a": "5m"}, "a", 1, 0, 9),
            'a: must be a time from 0 to 9 seconds, such as 30 or "5m"',
        ),
        (
            lambda: options.seconds({"a": True}, "a", 1, 0, 9),
            'a: must be a time from 0 to 9 seconds, such as 30 or "5m"',
        ),
        (
            lambda: options.size({"a": "5x"}, "a", 1, 0, 9),
            'a: must be a size from 0 to 9 bytes, such as 65536 or "10m"',
        ),
        (lambda: options.headers({"a": {"x": 1}}, "a"), "a: must be a table of texts"),
        (
            lambda: options.headers({"a": {"x": "a\nb"}}, "a"),
            "a: 'x' is no header, or its value holds more than printable ASCII",
        ),
        (
            lambda: options.headers({"a": {"x": "\u65e5"}}, "a"),
            "a: 'x' is no header, or its value holds more than printable ASCII",
        ),
        (lambda: options.secret({}, "token", required=True), "token_env: is missing; set it or token_file"),
        (
            lambda: options.secret({"token_env": "A", "token_file": "/b"}, "token"),
            "token_env: stands beside token_file; set one of them",
        ),
        (
            lambda: options.secret({"token_env": "xoxb-my-secret"}, "token"),
            "token_env: must be the name of an environment variable, not the secret itself",
        ),
        (
            lambda: options.secret({"token_env": "BPFD_TEST_UNSET"}, "token"),
            "token_env: the environment variable is not set, or empty",
        ),
        (
            lambda: options.secret({"token_file": "relative"}, "token"),
            "token_file: must be the absolute path of a file",
        ),
        (
            lambda: options.secret({"token_file": "/nowhere/at/all"}, "token"),
            "token_file: the file cannot be read: No such file or directory",
        ),
        (
            lambda: options.secret({"token_file": "/dev/null"}, "token"),
            "token_file: the file is empty or too long for a secret",
        ),
        (
            lambda: options.secret({"token_file": "/dev/zero"}, "token"),
            "token_file: the file is empty or too long for a secret",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_key_and_not_repeated(read: Callable[[], Any], message: str) -> None:
    with pytest.raises(ActionError) as caught:
        read()
    assert str(caught.value) == message


def test_good_values_are_read() -> None:
    table = {"t": "5m", "n": 3, "s": "10m", "f": 0.5, "l": ["a"], "h": {"X-A": "b"}, "y": False}
    assert options.seconds(table, "t", 1, 0, 1000) == 300
    assert options.seconds(table, "f", 1, 0, 1000) == 0.5
    assert options.seconds({}, "f", 7, 0, 1000) == 7
    assert options.size(table, "s", 1, 0, 1 << 30) == 10 << 20
    assert options.whole(table, "n", 1, 0, 9) == 3
    assert options.texts(table, "l") == ("a",)
    assert options.headers(table, "h") == {"X-A": "b"}
    assert options.yes(table, "y", True) is False
    assert options.text({}, "x", "") == ""


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("BPFD_TEST_TOKEN", "from-env")
    assert options.secret({"token_env": "BPFD_TEST_TOKEN"}, "token") == "from-env"
    assert options.secret({"token_file": str(tmp_path / "token")}, "token") == "from-file"
    assert options.secret({}, "token") is None
