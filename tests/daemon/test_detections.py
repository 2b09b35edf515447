"""The detections of contrib/rules/falco: real processes fire each, and none is fired by what it must leave alone.

All of them are in force in one daemon, beside the other rules of contrib/rules.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon.actor import Elder, act
from tests.daemon.detection_deeds import FIRES, READS, SERVERS, SILENT
from tests.daemon.running import JsonEvent, RunningDaemon
from tests.dockerd import Dockerd

RULES = Path(__file__).parents[2] / "contrib" / "rules"
DETECTIONS = RULES / "falco"
NAMES = sorted(path.stem for path in DETECTIONS.glob("*.toml") if path.stem != "definitions")
OLD_S = 5.0
"""From what age on a server is no longer new."""
START_S = 240.0
"""How long a daemon with so many tracers may take, on a machine that is busy, to compile them all."""


@pytest.fixture(scope="module")
def tools(brief: Path) -> Iterator[Path]:
    """A folder of programs that end at once, which any user may run."""
    with tempfile.TemporaryDirectory(prefix="bpfd-tools-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(brief, folder / "true")
        codes = " ".join(code for table in (FIRES, SILENT) for codes in table.values() for code in codes)
        for program in {*re.findall(r"(?:start|program)\('([^']+)'", codes)} - {"true"}:
            (folder / program).symlink_to("true")
        yield folder


@pytest.fixture(scope="module")
def elders(tools: Path) -> Iterator[Mapping[str, Elder]]:
    """Servers that grow old while the daemon starts."""
    code = {"db_program_spawn_process": ("mysqld", "start('true')"), "later": ("nginx", READS)}
    code |= {name: (name, READS) for name in SERVERS}
    made: dict[str, Elder] = {}
    try:
        for key, (name, deed) in code.items():
            made[key] = Elder(name, deed, tools)
        yield made
    finally:
        for elder in made.values():
            elder.close()


@pytest.fixture(scope="module")
def detecting(
    elders: Mapping[str, Elder], tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Iterator[RunningDaemon]:
    """A daemon with all the rules that bpfd brings."""
    made = RunningDaemon(tmp_path_factory.mktemp("detecting"), cache_dir)
    try:
        for path in (*RULES.glob("*.toml"), *DETECTIONS.glob("*.toml")):
            shutil.copy(path, made.rules_dir)
        yield made.start(within_s=START_S)
    finally:
        made.close()


def fired(rule: str, pid: int) -> Callable[[JsonEvent], bool]:
    return lambda event: event["rule"] == rule and event["pid"] == pid


def fired_in(rule: str, container: str) -> Callable[[JsonEvent], bool]:
    return lambda event: event["rule"] == rule and event["containerID"] == container


def test_all_detections_are_in_force_beside_the_other_rules_and_nothing_is_wrong_with_them(
    detecting: RunningDaemon,
) -> None:
    rules = {rule["name"]: rule for rule in detecting.json("ls")}
    assert set(NAMES) <= set(rules)
    assert {name: rule for name, rule in rules.items() if rule["problem"] or rule["warnings"]} == {}
    severities = {rules[name]["severity"] for name in NAMES if name != "syscall_returns_eaccess"}
    assert (severities, rules["syscall_returns_eaccess"]["severity"]) == ({"warning"}, "informational")


def test_every_detection_is_tried() -> None:
    assert sorted(FIRES) == sorted(SILENT) == NAMES


@pytest.mark.parametrize("rule", [name for name in NAMES if FIRES[name]])
def test_a_detection_is_fired_by_each_deed_that_it_names(detecting: RunningDaemon, tools: Path, rule: str) -> None:
    acted = {act(code, tools): code for code in FIRES[rule]}
    deeds = {code for pid, code in acted.items() if detecting.wait_for(fired(rule, pid))}
    assert deeds == set(FIRES[rule])


@pytest.mark.parametrize("rule", [name for name in NAMES if FIRES[name]])
def test_a_detection_leaves_alone_what_it_must(detecting: RunningDaemon, tools: Path, rule: str) -> None:
    left_alone = {act(code, tools): code for code in SILENT[rule]}
    assert noticed_before(act(FIRES[rule][0], tools), rule, left_alone, detecting) == []


def noticed_before(marker: int, rule: str, left_alone: Mapping[int, str], detecting: RunningDaemon) -> list[str]:
    """What a rule noticed of what it must leave alone, once it has noticed the process `marker`, which came after."""
    [end] = detecting.wait_for(fired(rule, marker))[:1]
    return [left_alone[event["pid"]] for event in detecting.events(rule, end) if event["pid"] in left_alone]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_reads_a_sensitive_file_later_than_at_its_start_is_noticed(
    detecting: RunningDaemon, elders: Mapping[str, Elder], name: str
) -> None:
    pid = elders[name].act(OLD_S)
    [event] = detecting.wait_for(fired("read_sensitive_file_trusted_after_startup", pid))
    assert (event["command"], event["data"]["path"]) == (name, "/etc/shadow")


def test_a_server_that_reads_a_sensitive_file_at_its_start_is_left_alone(
    detecting: RunningDaemon, elders: Mapping[str, Elder], tools: Path
) -> None:
    rule = "read_sensitive_file_trusted_after_startup"
    left_alone = {act(code, tools): code for code in SILENT[rule]}
    assert noticed_before(elders["later"].act(OLD_S), rule, left_alone, detecting) == []


def test_a_database_server_that_starts_a_program_later_than_at_its_start_is_noticed(
    detecting: RunningDaemon, elders: Mapping[str, Elder], tools: Path
) -> None:
    rule = "db_program_spawn_process"
    left_alone = {act(code, tools): code for code in SILENT[rule]}
    pid = elders[rule].act(OLD_S)
    assert noticed_before(pid, rule, left_alone, detecting) == []
    [event] = [event for event in detecting.lines.read() if fired(rule, pid)(event)]
    assert (event["command"], event["data"]["parent"]) == ("true", "mysqld")


@pytest.fixture
def contained(dockerd: Dockerd, brief: Path) -> Callable[..., str]:
    """Runs a command in a container that has a bash to its end: the container's id."""
    volumes = {str(brief): {"bind": "/bin/bash", "mode": "ro"}}

    def run(command: str | list[str]) -> str:
        container = dockerd.run(command, volumes=volumes)
        container.wait()
        container.remove(force=True)
        return str(container.id)

    return run


def test_bash_in_a_container_is_noticed_unless_the_container_is_there_for_it(
    detecting: RunningDaemon, tools: Path, contained: Callable[..., str]
) -> None:
    rule = "run_shell_in_container"
    silent = [act(code, tools) for code in SILENT[rule]]
    named = [f"printf {name} >/proc/self/comm; bash; true" for name in ("bash", "docker")]
    left_alone = {contained(command): command for command in (["bash"], "sh; true", *named)}
    fires = contained("bash; true"), contained("printf nginx >/proc/self/comm; bash; true")
    for container in fires:
        [event] = detecting.wait_for(fired_in(rule, container))
    before = detecting.events(rule, event)
    assert [left_alone.get(event["containerID"]) for event in before if event["containerID"] in left_alone] == []
    assert [event for event in before if event["pid"] in silent] == []


def test_bash_that_docker_exec_starts_is_noticed(detecting: RunningDaemon, dockerd: Dockerd, brief: Path) -> None:
    container = dockerd.run(["sleep", "1000"], volumes={str(brief): {"bind": "/bin/bash", "mode": "ro"}})
    container.exec_run(["bash"])
    rule = "run_shell_in_container"
    assert detecting.wait_for(fired_in(rule, str(container.id)))
    container.remove(force=True)


def test_tools_for_users_are_left_alone_in_containers_and_other_deeds_are_noticed_there(
    detecting: RunningDaemon, tools: Path, contained: Callable[..., str]
) -> None:
    container = contained("adduser --help; passwd --help; echo x >/bin/evil; echo x >/etc/evil; rm /bin/evil")
    marker = act(FIRES["user_mgmt_binaries"][0], tools)
    [end] = detecting.wait_for(fired("user_mgmt_binaries", marker))
    assert [one for one in detecting.events("user_mgmt_binaries", end) if one["containerID"] == container] == []
    for rule in ("write_binary_dir", "write_etc", "modify_binary_dirs_unlink"):
        assert detecting.wait_for(fired_in(rule, container))
