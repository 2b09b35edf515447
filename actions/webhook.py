"""webhook: posts alerts as JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

from bpfd import options
from bpfd.actions.http import TIMEOUT_S, Poster, url_of
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event
from bpfd.plugin import Action


class Webhook(Action):
    """Post each alert as JSON to a URL, signed as standardwebhooks.com has it if there is a secret."""

    name = "webhook"
    settings = {
        "url": "where to; url_env or url_file if it is a secret",
        "url_env": "the environment variable that holds the URL",
        "url_file": "the file that holds the URL",
        "headers": "a table of more header lines",
        "secret_env": "the environment variable that holds the signing secret, plain or as whsec_BASE64",
        "secret_file": "the file that holds the signing secret",
        "bearer_env": "the environment variable that holds a token for the Authorization header",
        "bearer_file": "the file that holds that token",
        "timeout": "how long one post may take; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._poster = Poster(url_of(settings), options.seconds(settings, "timeout", TIMEOUT_S, 0.1, 300))
        self._headers = {"Content-Type": "application/json", **options.headers(settings, "headers")}
        if (token := options.secret(settings, "bearer")) is not None:
            if not token.isascii() or not token.isprintable():
                raise ActionError("bearer_env: the token holds characters that a header can't")
            self._headers["Authorization"] = f"Bearer {token}"
        secret = options.secret(settings, "secret")
        self._key = None if secret is None else _key(secret)

    def act(self, event: Event) -> None:
        """Post one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Post `alert`; the header `webhook-id` carries its id."""
        body = alert.to_json()
        headers = {**self._headers, "webhook-id": alert.id}
        if self._key is not None:
            stamp = str(int(time.time()))
            signed = hmac.digest(self._key, f"{alert.id}.{stamp}.".encode() + body, hashlib.sha256)
            headers["webhook-timestamp"] = stamp
            headers["webhook-signature"] = "v1," + base64.b64encode(signed).decode()
        self._poster.check(self._poster.post(body, headers))


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ActionError("secret_env: what follows whsec_ is not base64") from None
