"""Learns the names, images and labels of containers from Docker, whenever there is one, and what becomes of them."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from bpfd.containers.lives import Listed, State
from bpfd.event import Container, printable, utf8

if TYPE_CHECKING:
    from bpfd.containers.engine import Engine

log = logging.getLogger("bpfd.containers")

ADDRESS = "unix:///var/run/docker.sock"
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0
STEADY_S = 30.0
"""A connection that held for so long was a good one: the next one is tried at once, and its problems are news."""

_ID = re.compile(r"[0-9a-f]{64}")
_MOST_NAME = 256
_MOST_IMAGE = 1024
_MOST_LABELS = 256
_MOST_LABEL = 4096
_NOT_LABELS = ("name", "image", "oldName")
"""What an event's attributes hold beside the container's labels (moby, daemon/events.go)."""
_EXIT_CODE = "exitCode"
"""What those of `die` hold; a label of that name takes its place."""
_EXITED = re.compile(r"Exited \((\d{1,3})\)")
"""How the list tells it (moby, container/state.go, State.String)."""
_STATES: Mapping[str, State] = {
    "create": "created",
    "start": "running",
    "pause": "paused",
    "unpause": "running",
    "die": "exited",
    "destroy": "destroyed",
}
"""What containers are after an event."""
_LISTED: Mapping[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "paused",
    "restarting": "exited",
    "removing": "exited",
    "exited": "exited",
    "dead": "exited",
}
"""The states of the list (moby, container/state.go, State.StateString), as they are told here."""
_AHEAD_NS = 60 * 10**9
"""Times further in the future are not believed."""


def address_of_docker() -> str:
    """Where the environment says that Docker is, or else where it usually is."""
    return os.environ.get("DOCKER_HOST") or ADDRESS


def running() -> dict[str, str]:
    """The names of all containers that Docker runs now, by their full ids. Takes 0.2 s.

    Raises OSError if there is no Docker to ask, or ValueError if what it says is no answer.
    """
    address = address_of_docker()
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise OSError(f"only unix:///… is followed, not {printable(address)}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:  # cheaper than to import the package in vain
        probe.settimeout(0.5)
        probe.connect(path)
    from bpfd.containers.engine import Engine

    engine = Engine(path)
    try:
        listed = engine.running()
    finally:
        engine.close()
    found = [one for container in (listed if isinstance(listed, list) else ()) for one in _of_list(container)]
    return {container_id: name for container_id, name, _, _ in found}


class Described(Protocol):
    """Who is told: the container index."""

    def describe(self, container_id: str, name: str, image: str, labels: Mapping[str, str]) -> None: ...

    def by_id(self, container_id: str) -> Container: ...


class Followed(Protocol):
    """Who is told what becomes of containers, while somebody wants to know."""

    @property
    def is_followed(self) -> bool: ...

    def docker_listed(self, listed: Iterable[Listed], at: int, is_whole: bool) -> None: ...

    def docker_said(self, container_id: str, state: State | None, at: int, exit_code: int | None) -> None: ...

    def docker_left(self) -> None: ...

    def docker_is_away(self) -> None: ...


class DockerWatch:
    """Follows a Docker on a thread of its own, through its comings and goings. `start` and `stop` it once.

    Nothing waits for it. Its `create` events tell of a container before the first process of it runs. A Docker that
    is not there is no error; anything else is logged once until it has gone well for a while.
    """

    def __init__(self, index: Described, address: str = "", lives: Followed | None = None) -> None:
        """`address`: unix:///…; the environment's DOCKER_HOST, or the usual socket, if empty."""
        self._index, self._lives = index, lives
        self._address = address or address_of_docker()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        """Do not wait for the next try."""
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="bpfd-docker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, whatever Docker does; within a second."""
        self._stopping.set()
        self.again()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def again(self) -> bool:
        """Begin anew, with a list of all that there is: somebody has begun to follow containers. Any thread.

        False: nothing is followed, or will be.
        """
        self._hurry.set()
        with self._lock:
            if self._engine is not None:
                self._engine.cut()
        return self._thread.is_alive()

    def _run(self) -> None:
        path = self._address.removeprefix("unix://")
        if not path.startswith("/"):
            self._complain(
                f"DOCKER_HOST: {printable(self._address)}: only unix:///… is followed; containers stay unnamed"
            )
            return
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            began = time.monotonic()
            if self._reachable(path):
                self._follow(path)
            elif self._lives is not None:
                self._lives.docker_is_away()
            if time.monotonic() - began >= STEADY_S:
                wait_s, self._complaint = FIRST_WAIT_S, ""
            if self._hurry.wait(wait_s):
                self._hurry.clear()
                wait_s = FIRST_WAIT_S
            else:
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _reachable(self, path: str) -> bool:
        """Whether somebody listens: the package takes some MB, and is for machines with a Docker alone."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            try:
                probe.connect(path)
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                return False
            except OSError as error:
                self._complain(f"docker: {path}: cannot be reached: {error}; containers stay unnamed")
                return False
        return True

    def _follow(self, path: str) -> None:
        """Follow it until it ends. Every error is a line in the log, the same one only once."""
        try:
            from bpfd.containers.engine import Engine

            engine = Engine(path)
            with self._lock:
                self._engine = engine
                if self._stopping.is_set():
                    engine.cut()
            try:
                self._listen(engine)
            finally:
                with self._lock:
                    self._engine = None
                engine.close()
                if self._lives is not None:
                    self._lives.docker_left()
        except Exception as error:  # whatever a library makes of what Docker says: the daemon goes on without names
            if not self._hurry.is_set():
                self._complain(
                    f"docker: {path}: {printable(str(error))[:300]}; containers stay unnamed until it is back"
                )

    def _listen(self, engine: Engine) -> None:
        with engine.events() as events:  # first, so that nothing falls between the list and the events
            at, running = time.time_ns(), engine.running()
            for container in running if isinstance(running, list) else ():
                self._take(_of_list(container))
            self._list(engine, running, at)
            log.debug("docker: following the containers of %s", self._address)
            for event in events:
                action = _action_of(event)
                if action != "die":  # its attributes are not labels alone
                    self._take(_of_event(event))
                self._say(engine, event, action)

    def _take(self, found: Iterator[tuple[str, str, str, dict[str, str]]]) -> None:
        for container_id, name, image, labels in found:
            self._index.describe(container_id, name, image, labels)

    def _list(self, engine: Engine, running: Any, at: int) -> None:
        """Tell those who follow containers what there is; only what runs, where the whole list can't be had."""
        if self._lives is None or not self._lives.is_followed:
            return
        listed, is_whole = running, False
        try:
            listed, is_whole = engine.everything(), True
        except (OSError, ValueError) as error:
            if engine.is_cut:  # to begin anew: the first list that is told must be the whole one
                raise
            self._complain(f"docker: {printable(str(error))[:300]}; of containers that do not run nothing is known")
        if isinstance(listed, list):
            found = [one for container in listed for one in _listed(container)]
            self._lives.docker_listed(found, at, is_whole)

    def _say(self, engine: Engine, event: Any, action: str) -> None:
        """Tell those who follow containers what happened to one."""
        if self._lives is None or not self._lives.is_followed or (action != "oom" and action not in _STATES):
            return
        actor = event["Actor"] if isinstance(event.get("Actor"), dict) else {}
        container_id = actor.get("ID")
        if not isinstance(container_id, str) or not _ID.fullmatch(container_id):
            return
        exit_code = self._exit_code(engine, container_id, actor.get("Attributes")) if action == "die" else None
        self._lives.docker_said(container_id, _STATES.get(action), _time_of(event), exit_code)

    def _exit_code(self, engine: Engine, container_id: str, attributes: Any) -> int | None:
        if _EXIT_CODE not in self._index.by_id(container_id).labels:
            return _number(attributes.get(_EXIT_CODE)) if isinstance(attributes, dict) else None
        try:
            state = engine.inspect(container_id)["State"]
            return _number(str(state["ExitCode"]))
        except (OSError, ValueError, KeyError, TypeError):  # it has been removed by now
            return None

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s", text)


def _of_list(container: Any) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """One container of the list (ContainerSummary of the API): id, name, image, labels; or nothing, if it is none."""
    if not isinstance(container, dict):
        return
    names = container.get("Names")
    own = [name for name in names if isinstance(name, str) and name.count("/") == 1] if isinstance(names, list) else []
    yield from _checked(container.get("Id"), own[0] if own else "", container.get("Image"), container.get("Labels"), ())


def _of_event(event: Any) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """One event (EventMessage of the API); or nothing, if it is none."""
    actor = event.get("Actor") if isinstance(event, dict) else None
    attributes = actor.get("Attributes") if isinstance(actor, dict) else None
    if isinstance(actor, dict) and isinstance(attributes, dict):
        name, image = attributes.get("name"), attributes.get("image")
        yield from _checked(actor.get("ID"), name, image, attributes, _NOT_LABELS)


def _action_of(event: Any) -> str:
    action = event.get("Action") if isinstance(event, dict) else None
    return action if isinstance(action, str) else ""


def _time_of(event: Any) -> int:
    """When it happened; now, if it does not say so sensibly."""
    now, at = time.time_ns(), event.get("timeNano")
    return at if type(at) is int and 0 < at < now + _AHEAD_NS else now


def _listed(container: Any) -> Iterator[Listed]:
    """One container of the list, as far as it says what state it is in."""
    if not isinstance(container, dict):
        return
    container_id, state, status = (container.get(key) for key in ("Id", "State", "Status"))
    if isinstance(container_id, str) and _ID.fullmatch(container_id) and isinstance(state, str) and state in _LISTED:
        found = _EXITED.match(status) if isinstance(status, str) else None
        yield Listed(container_id, _LISTED[state], int(found[1]) if found else None)


def _number(text: object) -> int | None:
    """An exit code."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4 else None


def _checked(
    container_id: object, name: object, image: object, labels: object, leave_out: tuple[str, ...]
) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    if not isinstance(container_id, str) or not _ID.fullmatch(container_id):
        return
    kept: dict[str, str] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if len(kept) >= _MOST_LABELS:
            break
        if isinstance(key, str) and isinstance(value, str) and key not in leave_out:
            kept[utf8(key[:_MOST_NAME])] = utf8(value[:_MOST_LABEL])
    yield container_id, _text(name, _MOST_NAME).lstrip("/"), _text(image, _MOST_IMAGE), dict(sorted(kept.items()))


def _text(value: object, most: int) -> str:
    return utf8(value[:most]) if isinstance(value, str) else ""
