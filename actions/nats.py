"""nats: publishes alerts to NATS."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bpfd import options
from bpfd.actions import tls
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.event import Event, printable, utf8
from bpfd.plugin import Action

if TYPE_CHECKING:
    from nats.aio.client import Client

_TOKEN = re.compile(r"\{(rule|tracer|host|severity)\}")
_SUBJECT = re.compile(r"[^\s.*>{}]+(\.[^\s.*>{}]+)*", re.ASCII)
_TOO_LARGE = frozenset({10054, 10097})
"""JetStream's errors for a message or a header that is over the stream's limit: server/errors.json."""
_CLOSE_S = 1.0
_MOST_BYTES = 1 << 20
"""How long a message from the server may be; all that we ask for are answers of a line."""


class Nats(Action):
    """Publish each alert as JSON to NATS, kept by JetStream unless told otherwise; needs `pip install bpfd[nats]`.

    The header `Nats-Msg-Id` carries the alert's id, by which JetStream drops repeats itself.
    """

    name = "nats"
    settings = {
        "servers": 'a list, tried in this order: ["tls://one:4222", "tls://two:4222"]; nats:// is without TLS',
        "subject": "where to; {rule}, {tracer}, {host}, {severity} stand for the alert's; bpfd.alerts",
        "jetstream": "whether a stream must have kept it; false: that the server has it is enough; true",
        "user": "the user to log in as; left out: no log-in",
        "password_env": "the environment variable that holds the password",
        "password_file": "the file that holds it",
        "token_env": "the environment variable that holds a token instead of user and password",
        "token_file": "the file that holds it",
        **tls.SETTINGS,
        "timeout": "how long one alert may take, connecting included; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._servers = [_server(text) for text in options.texts(settings, "servers")]
        if not self._servers:
            raise ActionError("servers: must name one at least")
        self._subject = options.text(settings, "subject", "bpfd.alerts")
        if not _SUBJECT.fullmatch(_TOKEN.sub("x", self._subject)) or not self._subject.isprintable():
            raise ActionError('subject: must be words with dots between them, such as "bpfd.alerts.{rule}"')
        self._jetstream = options.yes(settings, "jetstream", True)
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 300)
        self._user = options.text(settings, "user") if "user" in settings else ""
        self._password = options.secret(settings, "password", required=bool(self._user)) or ""
        self._token = options.secret(settings, "token") or ""
        if self._token and self._user:
            raise ActionError("token_env: stands beside user; set one of them")
        bare = [one for one in self._servers if one.scheme != "tls" and not tls.is_here(one.hostname)]
        if bare and (self._user or self._token):
            raise ActionError("servers: must be tls:// with a user or a token, which would travel in the clear")
        self._tls = tls.context(settings)
        try:
            import nats  # noqa: F401 - 17 MB, for those who use it
        except ImportError:
            raise ActionError("nats: the package nats-py is missing; install bpfd[nats]") from None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._where = ""
        self._trouble: asyncio.Future[str] | None = None

    def act(self, event: Event) -> None:
        """Publish one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Publish `alert`, and wait until it is taken."""
        self._run(self._limited(alert))

    def close(self) -> None:
        """Close the connection, and join the thread."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._drop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` on the loop's thread, which answers the server's pings between two alerts."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
            self._thread.start()
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _limited(self, alert: Alert) -> None:
        import nats.errors
        import nats.js.errors

        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publish(await self._connected(), alert)
        except nats.errors.MaxPayloadError:
            raise RejectedError(f"{self._where}: the alert is larger than the server takes") from None
        except nats.js.errors.APIError as error:
            kind = RejectedError if error.err_code in _TOO_LARGE else ActionError
            raise kind(f"{self._where}: {printable(str(error.description))[:200]}") from None
        except nats.js.errors.NoStreamResponseError:
            raise ActionError(
                f"{self._where}: no stream keeps {self._subject}; make one, or set jetstream = false"
            ) from None
        except (OSError, nats.errors.Error, ValueError, KeyError, TypeError) as error:  # garbage raises anything
            text = f"{self._where}: {self._reason(error)}"
            await self._drop()
            raise ActionError(text) from None
        except ActionError:
            await self._drop()
            raise

    async def _publish(self, client: Client, alert: Alert) -> None:
        subject = _TOKEN.sub(lambda found: _word(_value(alert, found[1])), self._subject)
        headers = {"Nats-Msg-Id": alert.id}
        if self._jetstream:
            stream = client.jetstream(timeout=self._timeout_s)
            await self._or_trouble(stream.publish(subject, alert.to_json(), headers=headers))
        else:
            await client.publish(subject, alert.to_json(), headers=headers)
            await self._or_trouble(client.flush(max(1, int(self._timeout_s))))  # an error would come before its answer

    async def _or_trouble(self, work: Coroutine[Any, Any, object]) -> None:
        """Wait for `work`, but no longer than the connection lasts and the server has no objection."""
        assert self._trouble is not None
        task = asyncio.ensure_future(work)
        try:
            first: set[asyncio.Future[Any]] = {task, self._trouble}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if self._trouble.done():
                raise ConnectionError(self._trouble.result())
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _connected(self) -> Client:
        """The connection; a new one to the first server that takes us if there is none."""
        if self._client is not None and self._client.is_connected and self._trouble and not self._trouble.done():
            return self._client
        await self._drop()
        problem = ""
        for server in self._servers:
            self._where = server.netloc
            try:
                async with asyncio.timeout(self._timeout_s / (len(self._servers) + 1)):
                    return await self._connect(server.geturl(), server.scheme == "tls")
            except Exception as error:  # garbage raises anything; and the next one may be better
                problem = f"{self._where}: {self._reason(error)}"
                await self._drop()
        raise ActionError(problem)

    async def _connect(self, url: str, encrypted: bool) -> Client:
        """Connect to one server; to no other that it may tell of, and never without TLS where that is asked for."""
        from nats.aio.client import Client

        self._client = client = Client()
        client._ps = _bounded_parser(client)
        self._trouble = trouble = asyncio.get_running_loop().create_future()

        async def on_error(error: Exception) -> None:
            if not trouble.done():
                trouble.set_result(self._reason(error))

        async def on_closed() -> None:
            if not trouble.done():
                trouble.set_result("closed the connection")

        def only_encrypted(secret: str) -> str:
            # The library would send it in the clear to whoever says that TLS is not wanted.
            if encrypted and not client._server_info.get("tls_required"):
                raise ActionError("does not offer TLS")
            return secret

        await client.connect(
            servers=[url],
            name="bpfd",
            error_cb=on_error,
            closed_cb=on_closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self._timeout_s,  # type: ignore[arg-type]  # it is handed to asyncio, which takes parts
            tls=self._tls if encrypted else None,
            user=(lambda: only_encrypted(self._user)) if self._user else None,
            password=(lambda: only_encrypted(self._password)) if self._user else None,
            token=(lambda: only_encrypted(self._token)) if self._token else None,
        )
        only_encrypted("")
        return client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.close(), _CLOSE_S)
            except Exception:  # noqa: S110 - it is broken, which is why it is closed
                pass

    def _reason(self, error: Exception) -> str:
        if self._trouble is not None and self._trouble.done():
            return self._trouble.result()
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        return tls.reason(error)


def _bounded_parser(client: Client) -> Any:
    """The library's parser, which keeps whatever a server says is one message, with an end to that."""
    import nats.errors
    from nats.protocol.parser import Parser

    class Bounded(Parser):
        async def parse(self, data: bytes = b"") -> None:
            if len(self.buf) + len(data) > _MOST_BYTES:
                raise nats.errors.ProtocolError
            await super().parse(data)

    return Bounded(client)


def _value(alert: Alert, name: str) -> str:
    event = alert.event
    return {"rule": event.rule, "tracer": event.tracer, "host": event.host, "severity": alert.severity}[name]


def _word(text: str) -> str:
    """`text` as one word of a subject."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", utf8(text))[:128] or "_"


def _server(text: str) -> Any:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"nats", "tls"} or not parts.hostname or parts.path or parts.query or "@" in parts.netloc:
        raise ActionError("servers: each must be tls://HOST:PORT or nats://HOST:PORT, without a user")
    return parts._replace(netloc=parts.netloc if port else f"{parts.netloc}:4222")
