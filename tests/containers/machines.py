"""Real cgroups that look like a container's, and a machine that follows them, in each mode that one may be in."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bpfd.containers.cgroups import Hierarchy, find_hierarchy
from bpfd.containers.index import ContainerIndex
from bpfd.containers.life_watch import LifeWatch
from bpfd.containers.shown import Places
from bpfd.plugin import ContainerChange
from tests.containers.cgroup_dirs import remove
from tests.containers.fake_docker import eventually

HERE = Places.here()
MODES = {"v2": Places(HERE.v2, None, None), "hybrid": HERE, "v1": Places(None, HERE.freezer, HERE.memory)}
CONTROLLERS = "cgroup.controllers"


class Machine:
    """An index and a watch of it, told of cgroups as the kernel would."""

    def __init__(self, places: Places, hierarchy: Hierarchy) -> None:
        self.places, self.hierarchy = places, hierarchy
        self.index = ContainerIndex(hierarchy)
        self.watch = LifeWatch(self.index, places)
        self.index.on_cgroup, self.index.on_gone = self.watch.cgroup_came, self.watch.cgroup_went
        self.changes: list[ContainerChange] = []

    def follow(self) -> None:
        self.index.scan()
        self.watch.follow(self.changes.append)

    def close(self) -> None:
        self.watch.unfollow(self.changes.append)
        self.watch.close()
        self.index.close()

    def of(self, container_id: str) -> list[str]:
        """What was told of a container."""
        return [change.action for change in list(self.changes) if change.container.id == container_id]

    def await_of(self, container_id: str, *actions: str) -> None:
        """Wait until exactly this was told of it."""
        eventually(lambda: len(self.of(container_id)) >= len(actions))
        assert self.of(container_id) == list(actions)


class Box:
    """A container of cri-o, as far as its cgroups tell, in every hierarchy of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.id = machine, secrets.token_hex(32)
        places = machine.places
        mounts = dict.fromkeys(Path(place[0]) for place in (places.v2, places.freezer, places.memory) if place)
        self.name = f"bpfd-test-{secrets.token_hex(8)}/crio-{self.id}.scope"
        self.paths = [mount / self.name for mount in mounts]
        self.processes: list[subprocess.Popen[bytes]] = []

    def make(self, *, is_heard_of: bool = True) -> None:
        for path in self.paths:
            path.mkdir(parents=True)
        self.cgroup = (self.machine.hierarchy.mount / self.name).stat().st_ino
        if is_heard_of:
            self.machine.index.created(self.cgroup, f"/{self.name}")

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a process in it."""
        procs = " ".join(f"{path}/cgroup.procs" for path in self.paths)
        script = f'for f in {procs}; do echo $$ > $f; done; exec "$@"'
        process = subprocess.Popen(["sh", "-c", script, "sh", *words], stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def freeze(self, frozen: bool) -> None:
        """As its runtime does: by v1 where there is a v1 freezer."""
        for path in self.paths:
            if (path / "freezer.state").exists():
                (path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
                return
        (self.paths[0] / "cgroup.freeze").write_text(str(int(frozen)))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def remove(self, *, is_heard_of: bool = True) -> None:
        for path in self.paths:
            remove(path.parent)
        if is_heard_of:
            self.machine.index.removed(self.cgroup)

    def close(self) -> None:
        for path in self.paths:
            for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (path / name).exists():
                    (path / name).write_text(text)
        self.end()
        for path in self.paths:
            if path.parent.exists():
                remove(path.parent)


def has_memory(places: Places) -> bool:
    """Whether one of its hierarchies limits memory."""
    return places.memory is not None or bool(places.v2 and "memory" in Path(places.v2[0], CONTROLLERS).read_text())


@contextmanager
def a_machine(mode: str) -> Iterator[Machine]:
    made = Machine(MODES[mode], find_hierarchy(prefer_v1=mode == "v1"))
    try:
        yield made
    finally:
        made.close()
