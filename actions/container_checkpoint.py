"""container_checkpoint: keeps an image of a container's processes and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.actions.containers import ContainerAction
from bpfd.errors import ActionError, TargetGoneError, WithheldError
from bpfd.event import printable

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer
    from requests import Response

_PREFIX = "bpfd-"


class ContainerCheckpoint(ContainerAction):
    """Keep a checkpoint of the container, its memory included, for whoever looks into it; Docker with CRIU can.

    Docker calls this experimental: dockerd needs `--experimental`, and criu beside it. Checkpoints are large, so a
    container has a few at most: the first ones, which nobody who causes more can have replaced.
    """

    name = "container_checkpoint"
    settings = {
        **ContainerAction.settings,
        "timeout": "how long one call of Docker's API may take; 60s",
        "dir": "the folder on the engine's machine to keep them in; left out: the engine's own",
        "exit": "whether the container is ended with it; false",
        "most": "how many a container has at most; 3",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__({"timeout": 60, **settings})
        self._dir = options.text(settings, "dir") if "dir" in settings else ""
        if self._dir and not self._dir.startswith("/"):
            raise ActionError("dir: must be the absolute path of a folder")
        self._exit = options.yes(settings, "exit", False)
        self._most = options.whole(settings, "most", 3, 1, 1000)

    def by_api(self, found: DockerContainer) -> None:
        """Make a checkpoint. Raises `WithheldError` if there are enough, and `ActionError` if the engine can't."""
        # The library has no words for this call; it is in the engine's API all the same.
        api = self.docker().api
        url = f"{api.base_url}/v{api.api_version}/containers/{found.id}/checkpoints"
        where = {"dir": self._dir} if self._dir else {}
        listed = api.get(url, params=where, timeout=self._timeout_s)
        _check(found, listed)
        if _ours(listed) >= self._most:
            raise WithheldError(f"container {found.short_id}: has {self._most} checkpoints already; see most")
        wanted = {"CheckpointID": f"{_PREFIX}{time.time_ns()}", "CheckpointDir": self._dir, "Exit": self._exit}
        _check(found, api.post(url, json=wanted, timeout=self._timeout_s))


def _ours(listed: Response) -> int:
    try:
        table = listed.json() or []  # null: there are none
        return sum(str(one["Name"]).startswith(_PREFIX) for one in table)
    except (ValueError, TypeError, KeyError):
        raise ActionError("docker: its list of checkpoints is none") from None


def _check(found: DockerContainer, answer: Response) -> None:
    """Raise what `answer` means, if it is not a success."""
    if answer.status_code < HTTPStatus.BAD_REQUEST:
        return
    name = f"container {found.short_id}"
    said = _said(answer)
    if "No such container" in said or "is not running" in said:
        raise TargetGoneError(f"{name}: it has gone")
    if answer.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED}:
        raise ActionError(f"docker: {name}: the engine makes no checkpoints; start dockerd with --experimental")
    hint = "; install criu on the engine's machine" if "criu" in said and "not found" in said else ""
    raise ActionError(f"docker: {name}: {said}{hint}")


def _said(answer: Response) -> str:
    try:
        text = str(answer.json()["message"])
    except (ValueError, TypeError, KeyError):
        text = f"answered {answer.status_code}"
    return printable(text.strip())[:300]
