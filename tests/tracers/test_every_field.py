"""A table of every tracer and every field of it, each seen with a right value in a real event.

The table is printed (pytest -s), and kept as `fields.md` below pytest's cache directory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bpfd import tracers
from bpfd.event import Event, printable
from bpfd.kernel import follow
from bpfd.kernel.program import Build
from bpfd.plugin import AnyTracer, BPFTracer, Tracer, TracerFamily
from bpfd.quicklook import QuickLook
from bpfd.rules import fields, model
from bpfd.settings import Settings
from bpfd.tracers.open import OpenTracer
from tests.daemon.running import START_S, until
from tests.dockerd import Dockerd
from tests.tracers.loads import CANNOT_HAPPEN, LOADS, OF_CONTAINERS, WITHOUT_BPF, Told, Value
from tests.tracers.test_ticker import Taken
from tests.tracers.tracing import tracing

Row = tuple[str, str, str]
"""Tracer, field, and the value that it was seen with."""
SHOWN = 60


def registered() -> dict[str, type[AnyTracer]]:
    """Every built-in tracer, and the example of each family."""
    found: dict[str, type[AnyTracer]] = {}
    for one in tracers.bpfd_register_tracers():
        if issubclass(one, TracerFamily):
            made = one.find(one.example)
            assert made is not None
            found[one.example] = made
        else:
            found[one.name] = one
    return found


TRACERS = registered()
IN_KERNEL = [name for name, tracer in TRACERS.items() if issubclass(tracer, BPFTracer)]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    lines = ["| tracer | field | seen |", "| --- | --- | --- |"]
    lines += [f"| {tracer} | {field} | {_shown(value)} |" for tracer, field, value in sorted(rows)]
    text = "\n".join(lines)
    print(f"\n{text}")
    cache = request.config.cache
    if cache is not None:
        (cache.mkdir("bpfd") / "fields.md").write_text(f"{text}\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """New shells are looked for more often than a busy machine would want."""
    monkeypatch.setattr(follow, "SWEEP_S", 0.2)


def test_every_tracer_has_an_entry() -> None:
    assert sorted(TRACERS) == sorted([*LOADS, *WITHOUT_BPF, *OF_CONTAINERS])


@pytest.mark.parametrize("name", IN_KERNEL)
def test_every_field_is_seen_with_a_right_value(name: str, build: Build, folder: Path, table: list[Row]) -> None:
    assert name in LOADS, "the tracer has no entry in loads.py"
    tracer = TRACERS[name]
    assert issubclass(tracer, BPFTracer)
    with tracing(tracer, build) as bench:
        bench.judge_by([model.All()])
        wanted = LOADS[name](folder)
        events: list[Event] = []

        def missing() -> list[Told]:
            events.extend(event for event, _ in bench.events())
            return [told for told in wanted if not _found(told, events)]

        until(lambda: not missing(), lambda: (missing(), _of(wanted, events)))
    seen = {field: _found(told, events)[field] for told in wanted for field in told.data}
    _check_and_note(tracer, seen, table)


@pytest.mark.parametrize("name", sorted(WITHOUT_BPF))
def test_every_field_of_a_tracer_without_bpf_is_seen_with_a_right_value(name: str, table: list[Row]) -> None:
    tracer = TRACERS[name]
    assert issubclass(tracer, Tracer)
    made, taken = tracer(), Taken()
    made.start(taken)
    try:
        told = taken.wait_for(len(WITHOUT_BPF[name]), 15)
    finally:
        made.stop()
    for wanted, data in zip(WITHOUT_BPF[name], told, strict=True):
        assert _holds(wanted, data), data
    _check_and_note(tracer, {field: value for data in told for field, value in data.items()}, table)


@pytest.mark.parametrize("name", sorted(OF_CONTAINERS))
def test_every_field_of_a_tracer_that_follows_containers_is_seen_with_a_right_value(
    name: str, dockerd: Dockerd, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, table: list[Row]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", dockerd.address)
    events: list[Event] = []
    with QuickLook(TRACERS[name], model.All(), Settings(cache_dir=cache_dir), lambda: None) as look:
        until(lambda: _is_dockers_word(look, dockerd), lambda: "Docker is not followed", START_S)
        wanted = OF_CONTAINERS[name](dockerd)

        def missing() -> list[Mapping[str, Value]]:
            events.extend(look.take())
            return [one for one in wanted if not any(_holds(one, event.data) for event in events)]

        until(lambda: not missing(), lambda: (missing(), events))
    seen = {key: event.data[key] for one in wanted for event in events if _holds(one, event.data) for key in one}
    _check_and_note(TRACERS[name], seen, table)


def _is_dockers_word(look: QuickLook, dockerd: Dockerd) -> bool:
    """Whether Docker is heard of a container that is made, but never runs, and so has no cgroup."""
    probe = dockerd.client.containers.create(dockerd.image, ["true"], network_mode="none")
    probe.remove()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        if any(event.container.id == probe.id for event in look.take()):
            return True
        time.sleep(0.01)
    return False


def test_every_field_of_every_event_is_seen_with_a_right_value(
    dockerd: Dockerd, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, table: list[Row]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", dockerd.address)
    read = "while :; do read line </etc/shadow; cat /nothing 2>/dev/null; sleep 0.1; done"
    container = dockerd.run(read, name="every-field", user="65534:65534")
    assert container.id is not None
    try:
        container.reload()
        init = int(container.attrs["State"]["Pid"])
        asks = model.All((model.Test("ancestors", "exists"), model.Test("filename", "is", ("/etc/shadow", "/nothing"))))
        events: list[Event] = []
        with QuickLook(OpenTracer, asks, Settings(cache_dir=cache_dir), lambda: None, container.id) as look:

            def both() -> bool:
                events.extend(look.take())
                return len({event.command for event in events if event.container.name}) > 1

            until(both, lambda: events)
        shell = next(event for event in events if event.pid == init and event.container.name)
        cat = next(event for event in events if event.command == "cat" and event.container.name)
    finally:
        container.remove(force=True)
    own = {field.name: fields.value(shell, field.name) or "" for field in fields.OWN}
    right = {
        "command": "sh",
        "pid": str(init),
        "tgid": str(init),
        "tid": str(init),
        "nsPid": "1",
        "ppid": str(shell.ppid),
        "uid": "65534",
        "gid": "65534",
        "returnValue": "-13",
        "user": "nobody",
        "containerInit": "True",
        "host": Path("/proc/sys/kernel/hostname").read_text().strip(),
        "containerID": container.id,
        "containerRuntime": "docker",
        "containerName": "every-field",
        "containerImage": dockerd.image,
    }
    assert right.items() <= own.items()
    assert own.keys() - right.keys() == {"time", "parent", "ancestors", "duration"}
    assert own["parent"] == own["ancestors"].split()[0]
    assert (cat.parent, cat.ppid, cat.ancestors.split()[0], cat.container_init) == ("sh", init, "sh", False)
    assert 0 < cat.duration < shell.duration < 600 * 10**9
    assert abs(shell.time - cat.time) < 60 * 10**9
    table += [("(every event)", name, value) for name, value in own.items()]


def _check_and_note(tracer: type[AnyTracer], seen: Mapping[str, str], table: list[Row]) -> None:
    table += [(tracer.name, field, value) for field, value in seen.items()]
    unseen = [field.name for field in tracer.fields if field.name not in seen]
    cannot = {field: why() for (name, field), why in CANNOT_HAPPEN.items() if name == tracer.name and field in unseen}
    table += [(tracer.name, field, f"cannot happen here: {why}") for field, why in cannot.items() if why]
    assert [field for field in unseen if not cannot.get(field)] == [], "not seen: give the tracer's load a deed"
    assert seen.keys() <= {field.name for field in tracer.fields}


def _shown(value: str) -> str:
    """A value in a cell of Markdown; of a long one the end, which tells paths apart."""
    text = printable(value).replace("|", "\\|")
    return text if len(text) <= SHOWN else f"…{text[1 - SHOWN :]}"


def _found(told: Told, events: list[Event]) -> Mapping[str, str]:
    """The data of the event that was to be told; empty: it was not."""
    return next((event.data for event in events if event.pid == told.pid and _holds(told.data, event.data)), {})


def _holds(wanted: Mapping[str, Value], data: Mapping[str, str]) -> bool:
    return all(
        name in data and (value == data[name] if isinstance(value, str) else value(data[name]))
        for name, value in wanted.items()
    )


def _of(wanted: list[Told], events: list[Event]) -> list[Mapping[str, str]]:
    """What was told of the processes instead."""
    pids = {told.pid for told in wanted}
    return [event.data for event in events if event.pid in pids][-20:]
