"""notify: tells any service that the library apprise knows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable
from bpfd.format import line
from bpfd.plugin import Action

_LONGEST_TITLE = 200


class Notify(Action):
    """Tell any of a hundred services that the library apprise knows; needs `pip install bpfd[notify]`."""

    name = "notify"
    settings = {
        "url_env": "the environment variable that holds the service's URL in apprise's form; it holds the secret",
        "url_file": "the file that holds it",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        url = options.secret(settings, "url", required=True)
        try:
            import apprise
        except ImportError:
            raise ActionError("notify: the package apprise is missing; install bpfd[notify]") from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs URLs with their secrets
        self._service = apprise.Apprise()
        if not self._service.add(url or ""):
            raise ActionError("url_env: is not a URL that apprise knows")

    def act(self, event: Event) -> None:
        """Tell one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Tell `alert`. apprise says only whether the service took it."""
        event = alert.event
        title = printable(f"{event.rule or event.tracer} on {event.host or 'this host'}")[:_LONGEST_TITLE]
        said = printable(alert.text)
        body = f"{said}\n{line(event)}\n{alert.id}" if said else f"{line(event)}\n{alert.id}"
        if not self._service.notify(body=body, title=title, body_format="text"):
            raise ActionError("notify: the service did not take it")
