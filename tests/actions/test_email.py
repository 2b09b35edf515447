"""email mails alerts over SMTP."""

from __future__ import annotations

import email
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from bpfd.actions.email import Email
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from tests.actions.receivers import line_receiver, serving

Serve = Callable[..., dict[str, Any]]


class Mailbox:
    """Keeps what it is mailed, and answers as planned."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.to_recipients = "250 OK"
        self.to_data = "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]) -> str:
        envelope.rcpt_tos.append(to)
        return self.to_recipients

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return self.to_data

    def log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2", handled=False)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def serve(mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a mail server; gives the settings that reach it."""
    running: list[Controller] = []

    def _serve(tls: bool = False) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if tls:
            authority = trustme.CA()
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("localhost").configure_cert(context)
            authority.cert_pem.write_to_path(tmp_path / "ca.pem")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            more = {"tls_context": context, "require_starttls": True, "authenticator": mailbox.log_in}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        running.append(Controller(mailbox, "127.0.0.1", port, **more))
        running[-1].start()
        settings = {"host": "localhost", "port": port, "from": "bpfd@example.org", "to": ["oncall@example.org"]}
        return {**settings, "tls": "starttls" if tls else "none"}

    yield _serve
    for controller in running:
        controller.stop()


def test_a_mail_says_what_happened_and_carries_the_id(serve: Serve, mailbox: Mailbox, alert: Alert) -> None:
    Email({**serve(), "to": ["a@example.org", "b@example.org"]}).send(alert)
    mail = mailbox.mails[0]
    assert mail["Subject"] == "[bpfd] secrets on here: c\\nat[42]"
    assert mail["To"] == "a@example.org, b@example.org"
    assert mail["Message-ID"] == f"<{alert.id}@example.org>"
    text = mail.get_content()
    assert "secrets open c\\nat[42] uid=1000 docker:web returned=ENOENT" in text
    assert '"containerID": "0123456789ab' in text
    assert "\x1b" not in text


def test_the_password_travels_encrypted(
    serve: Serve, mailbox: Mailbox, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPFD_TEST_PASSWORD", "hunter2")
    Email({**serve(tls=True), "user": "me", "password_env": "BPFD_TEST_PASSWORD"}).send(alert)
    assert len(mailbox.mails) == 1
    assert mailbox.logins == [(b"me", b"hunter2")]


def test_a_wrong_password_is_an_error_that_does_not_show_it(
    serve: Serve, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPFD_TEST_PASSWORD", "hunter3")
    with pytest.raises(ActionError, match="refuses the user or the password") as caught:
        Email({**serve(tls=True), "user": "me", "password_env": "BPFD_TEST_PASSWORD"}).send(alert)
    assert "hunter3" not in str(caught.value)


def test_a_certificate_of_a_stranger_is_not_taken(
    serve: Serve, mailbox: Mailbox, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = serve(tls=True)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ActionError):
        Email(settings).send(alert)
    assert mailbox.mails == []


@pytest.mark.parametrize(
    ("recipients", "data", "error"),
    [
        ("550 no such user", "250 OK", RejectedError),
        ("451 later", "250 OK", ActionError),
        ("250 OK", "554 spam", RejectedError),
        ("250 OK", "452 full", ActionError),
    ],
)
def test_what_the_server_refuses_for_good_is_not_tried_again(
    serve: Serve, mailbox: Mailbox, alert: Alert, recipients: str, data: str, error: type[ActionError]
) -> None:
    mailbox.to_recipients, mailbox.to_data = recipients, data
    with pytest.raises(ActionError) as caught:
        Email(serve()).send(alert)
    assert type(caught.value) is error


TAKES = [b"220 hi\r\n", b"250 hi\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([], "no answer within 0.5 s"),
        ([b"220 hi\r\n"], "no answer within 0.5 s"),
        ([b""], "closed the connection"),
        ([b"220 hi\r\n", b""], "closed the connection"),
        ([*TAKES, b""], "closed the connection"),
        ([b"garbage\r\n"], "answers -1"),
        ([b"\xff\0" * 10_000 + b"\r\n"], ""),
        ([b"220 hi\r\n", b"\xff\0\r\n", b"\xff\0\r\n"], ""),
        ([*TAKES, b"garbage\r\n"], "answers -1"),
        ([*TAKES, b"421 busy\r\n"], "answers 421"),
        ([b"421 busy\r\n"], "answers 421"),
        ([b"554 no\r\n"], "answers 554"),
    ],
)
def test_a_server_that_hangs_talks_nonsense_or_goes_half_way_is_an_error(
    alert: Alert, said: list[bytes], text: str
) -> None:
    with line_receiver(said) as receiver:
        host, _, port = receiver.address.partition(":")
        timeout = 2 if text and "no answer" not in text else 0.5  # after nonsense it waits for an answer to its RSET
        settings = {"host": host, "port": int(port), "from": "a@b.c", "to": ["a@b.c"], "tls": "none"}
        began = time.monotonic()
        with pytest.raises(ActionError) as caught:
            Email({**settings, "timeout": timeout}).send(alert)
        assert time.monotonic() - began < 4
    assert type(caught.value) is ActionError
    assert text in str(caught.value)


@pytest.mark.parametrize("secure", ["none", "starttls", "tls"])
@pytest.mark.parametrize("pace", ["drips", "floods"])
def test_a_server_that_never_stops_talking_is_cut_off(alert: Alert, pace: str, secure: str) -> None:
    def talk(client: socket.socket) -> None:
        client.sendall(b"220 hi\r\n" if secure != "tls" else b"")
        while True:
            client.sendall(b"250-more\r\n" * (1 if pace == "drips" else 1000))
            time.sleep(0.02 if pace == "drips" else 0)

    with serving(talk) as port:
        settings = {"host": "127.0.0.1", "port": port, "from": "a@b.c", "to": ["a@b.c"], "tls": secure, "timeout": 1}
        began = time.monotonic()
        with pytest.raises(ActionError):
            Email(settings).send(alert)
        assert time.monotonic() - began < 5


def test_a_mail_that_was_taken_is_not_sent_again_for_a_bad_good_bye(alert: Alert) -> None:
    for bye in (b"garbage\r\n", b"500 what\r\n", b""):
        with line_receiver([*TAKES, b"250 taken\r\n", bye]) as receiver:
            host, _, port = receiver.address.partition(":")
            Email({"host": host, "port": int(port), "from": "a@b.c", "to": ["a@b.c"], "tls": "none"}).send(alert)


def test_the_password_is_kept_from_a_server_that_denies_it_speaks_tls(
    alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPFD_TEST_PASSWORD", "hunter2")
    with line_receiver([b"220 hi\r\n", b"250-hi\r\n250 AUTH PLAIN LOGIN\r\n", b"250 OK\r\n"]) as liar:
        host, _, port = liar.address.partition(":")
        settings = {"host": host, "port": int(port), "from": "a@b.c", "to": ["a@b.c"], "user": "me"}
        with pytest.raises(ActionError, match="does not offer what is asked for; see tls and user"):
            Email({**settings, "password_env": "BPFD_TEST_PASSWORD"}).send(alert)
    assert b"AUTH" not in liar.heard
    assert b"MAIL" not in liar.heard


def test_a_server_that_is_not_there_or_says_nothing_is_an_error(alert: Alert) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = {"host": "127.0.0.1", "port": port, "from": "a@b.c", "to": ["a@b.c"], "tls": "none", "timeout": 0.2}
        with pytest.raises(ActionError, match=r"127\.0\.0\.1"):
            Email(settings).send(alert)
    with pytest.raises(ActionError, match="Connection refused"):
        Email(settings).send(alert)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"from": "nobody"}, "from: must be mail addresses"),
        ({"to": ["a@b.c\nBcc: x@y.z"]}, "to: must be mail addresses"),
        ({"to": []}, "to: must be mail addresses"),
        ({"tls": "maybe"}, "tls: must be one of"),
        ({"user": "me"}, "password_env: is missing"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ActionError, match=text):
        Email({"host": "localhost", "from": "a@b.c", "to": ["a@b.c"], **change})


def test_a_password_in_the_clear_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFD_TEST_PASSWORD", "hunter2")
    with pytest.raises(ActionError, match="tls: must not be none with a user"):
        Email(
            {
                "host": "h",
                "from": "a@b.c",
                "to": ["a@b.c"],
                "user": "me",
                "password_env": "BPFD_TEST_PASSWORD",
                "tls": "none",
            }
        )
