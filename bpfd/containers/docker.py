"""Follows Docker, if there is one: names, images and labels of containers, never waited for by an event."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger("bpfd.docker")

SOCKET = Path("/var/run/docker.sock")
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
MOST_TEXT = 4096
MOST_LABELS = 256
_TIMEOUT_S = 10


class Described(Protocol):
    """Who is told: the container index."""

    def describe(self, container_id: str, name: str, image: str, labels: Mapping[str, str]) -> None: ...


class DockerWatch:
    """Lists Docker's containers, then follows its events; comes back when Docker does. `start` and `stop` it once."""

    def __init__(self, index: Described, socket: Path = SOCKET) -> None:
        self._index, self._socket = index, socket
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bpfd-docker", daemon=True)
        self._client: Any = None
        self._events: Any = None
        self._complained = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; joins within a second."""
        self._stopping.set()
        for closing in (self._events, self._client):
            try:
                if closing is not None:
                    closing.close()
            except Exception:
                log.debug("closing the connection to Docker", exc_info=True)
        self._thread.join(1.0)

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            # The package is loaded only where there is a Docker: it takes 12 MB.
            if self._socket.exists():
                try:
                    self._follow()
                    wait_s = FIRST_WAIT_S
                except Exception as error:
                    self._complain(f"{type(error).__name__}: {error}")
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _follow(self) -> None:
        import docker

        self._client = docker.DockerClient(base_url=f"unix://{self._socket}", timeout=_TIMEOUT_S)
        try:
            # Subscribed before listing, so that no container is missed in between.
            self._events = self._client.events(decode=True, filters={"type": "container"})
            for container in self._client.api.containers():
                self._tell_listed(container)
            self._complained = ""
            for event in self._events:
                if self._stopping.is_set():
                    return
                self._tell_event(event)
        finally:
            self._client.close()

    def _tell_listed(self, container: object) -> None:
        if not isinstance(container, dict):
            return
        names = container.get("Names")
        name = names[0] if isinstance(names, list) and names else ""
        self._tell(container.get("Id"), name, container.get("Image"), container.get("Labels"))

    def _tell_event(self, event: object) -> None:
        if not isinstance(event, dict) or event.get("Action") not in ("create", "start", "rename", "update"):
            return
        actor = event.get("Actor")
        if not isinstance(actor, dict) or not isinstance(actor.get("Attributes"), dict):
            return
        attributes = actor["Attributes"]
        labels = {key: value for key, value in attributes.items() if key not in ("name", "image")}
        self._tell(actor.get("ID"), attributes.get("name"), attributes.get("image"), labels)

    def _tell(self, container_id: object, name: object, image: object, labels: object) -> None:
        """Pass on what has the right types and sizes; a reply may be anything."""
        if not isinstance(container_id, str) or not 12 <= len(container_id) <= 128:
            return
        kept = {
            str(key)[:MOST_TEXT]: str(value)[:MOST_TEXT]
            for key, value in (list(labels.items())[:MOST_LABELS] if isinstance(labels, dict) else ())
        }
        self._index.describe(container_id, _text(name).removeprefix("/"), _text(image), kept)

    def _complain(self, what: str) -> None:
        if what != self._complained and not self._stopping.is_set():
            log.warning("%s: Docker can't be asked: %s; trying again", self._socket, what)
        self._complained = what


def _text(value: object) -> str:
    return value[:MOST_TEXT] if isinstance(value, str) else ""
