"""email: mails alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import orjson

from bpfd import options
from bpfd.actions import tls
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.event import Event, printable
from bpfd.format import line
from bpfd.plugin import Action

if TYPE_CHECKING:
    import smtplib
    import ssl

_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Email(Action):
    """Mail each alert over SMTP."""

    name = "email"
    settings = {
        "host": "the mail server",
        "port": "its port; 587, 465 for tls, 25 for none",
        "tls": "starttls (the default), tls, or none",
        "user": "the user to log in as; left out: no log-in",
        "password_env": "the environment variable that holds the password",
        "password_file": "the file that holds it",
        "from": "the sender's address",
        "to": "a list of addresses",
        "timeout": "how long one mail may take; 60s",
    }
    per_rule = ("to",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._host = options.text(settings, "host")
        self._security = options.choice(settings, "tls", tuple(_PORTS), "starttls")
        self._port = options.whole(settings, "port", _PORTS[self._security], 1, 65535)
        self._user = options.text(settings, "user") if "user" in settings else ""
        self._password = options.secret(settings, "password", required=bool(self._user)) or ""
        if self._user and self._security == "none":
            raise ActionError("tls: must not be none with a user: the password would travel in the clear")
        self._from = _addresses("from", (options.text(settings, "from"),))[0]
        self._to = _addresses("to", options.texts(settings, "to"))
        self._timeout_s = options.seconds(settings, "timeout", 60, 0.1, 600)
        self._context = _tls() if self._security != "none" else None

    def act(self, event: Event) -> None:
        """Mail one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Mail `alert`; its Message-ID is made of its id. Raises `ActionError`, without what the server said."""
        import smtplib  # only for those who mail

        try:
            server = self._connect()
            try:
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(self._message(alert))
                self._take_leave(server)
            finally:
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            self._fail(all(code >= 500 for code, _ in error.recipients.values()), "refuses the recipients")
        except smtplib.SMTPAuthenticationError:
            self._fail(False, "refuses the user or the password")
        except smtplib.SMTPResponseException as error:
            self._fail(
                isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500, f"answers {error.smtp_code}"
            )
        except smtplib.SMTPNotSupportedError:
            self._fail(False, "does not offer what is asked for; see tls and user")
        except (smtplib.SMTPException, OSError, ValueError) as error:  # what it says may be no text at all
            self._fail(False, self._reason(error))

    def _reason(self, error: Exception) -> str:
        import smtplib

        if isinstance(error, TimeoutError) or "timed out" in str(error):
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return "closed the connection, or talked without an end"
        return tls.reason(error) if isinstance(error, OSError) else "its answer is not SMTP"

    def _take_leave(self, server: smtplib.SMTP) -> None:
        """Say good-bye; the mail was taken, whatever the answer is."""
        import smtplib

        try:
            server.quit()
        except (smtplib.SMTPException, OSError, ValueError):
            pass

    def _connect(self) -> smtplib.SMTP:
        from bpfd.actions import smtp  # only for those who mail

        if self._security == "tls":
            return smtp.Encrypted(self._host, self._port, self._timeout_s, context=self._context)
        server = smtp.Plain(self._host, self._port, self._timeout_s)
        if self._security == "starttls":
            try:
                server.starttls(context=self._context)
            except BaseException:
                server.close()
                raise
        return server

    def _fail(self, for_good: bool, reason: str) -> None:
        kind = RejectedError if for_good else ActionError
        raise kind(f"{self._host}:{self._port}: {reason}") from None

    def _message(self, alert: Alert) -> EmailMessage:
        event = alert.event
        message = EmailMessage()
        message["From"] = self._from
        message["To"] = self._to
        subject = printable(f"[bpfd] {event.rule or event.tracer} on {event.host}: {event.command}[{event.pid}]")
        message["Subject"] = subject.encode("utf-8", "backslashreplace").decode()[:200]
        message["Date"] = format_datetime(datetime.fromtimestamp(event.time // 10**9, UTC))
        message["Message-ID"] = f"<{alert.id}@{self._from.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        text = printable(alert.text) + "\n\n" if alert.text else ""
        details = orjson.dumps(alert.as_dict(), option=orjson.OPT_INDENT_2).decode()
        before = "".join(f"  before: {line(one)}\n" for one in alert.context)
        message.set_content(f"{text}{line(event)}\n{before}\n{details}\n".encode("utf-8", "backslashreplace").decode())
        return message


def _tls() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _addresses(key: str, texts: tuple[str, ...]) -> tuple[Address, ...]:
    try:
        made = tuple(Address(addr_spec=text) for text in texts)
    except (ValueError, IndexError, TypeError):
        made = ()
    if not made or not all(address.domain for address in made):
        raise ActionError(f"{key}: must be mail addresses, such as oncall@example.org")
    return made
