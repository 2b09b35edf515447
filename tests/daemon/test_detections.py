"""The detections of contrib/rules/falco: real processes fire each, and none is fired by what it must leave alone.

All of them are in force in one daemon, beside the other rules of contrib/rules.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.daemon.actor import Elder, act
from tests.daemon.running import JsonEvent, RunningDaemon
from tests.dockerd import Dockerd

RULES = Path(__file__).parents[2] / "contrib" / "rules"
DETECTIONS = RULES / "falco"
NAMES = sorted(path.stem for path in DETECTIONS.glob("*.toml") if path.stem != "definitions")
OLD_S = 5.0
"""From what age on a server is no longer new."""
START_S = 240.0
"""How long a daemon with so many tracers may take, on a machine that is busy, to compile them all."""

SERVERS = ("nginx", "httpd", "lighttpd", "mysqld", "docker", "sshd")
READERS = (
    "sudo su iptables ps systemd-logind lsb_release check-new-relea dumpe2fs accounts-daemon bash cron crond".split()
)
SHELLS_PARENTS = (
    "bash sshd sudo docker su tmux screen emacs systemd flock fs-bash nginx monit supervisord cron crond".split()
)
CALLED = "become({!r}); {}"
READS = "opened('/etc/shadow')"
BELOW_ETC = "over('/etc'); touch('/etc/sudoers', '/etc/sudoers.d/x', '/etc/pam.d/x', '/etc/pam.conf', '/etc/shadow-');"
BASH = "start('bash')"
IN_SSHD = "become('sshd'); start('true', {!r})"
NETWORK = {
    "listen": ("listening()", "listening(INET6, '::1')"),
    "accept": (
        "here = listening(); connected(here); become({0!r}); here.accept()",
        "here = listening(INET6, '::1'); connected(here); become({0!r}); here.accept()",
    ),
    "connect": (
        "here = listening(); become({0!r}); connected(here)",
        "here = listening(INET6, '::1'); become({0!r}); connected(here)",
        "become({0!r}); socket.socket(INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 53))",
        "become({0!r}); socket.socket(INET).connect_ex(('127.0.0.1', 1))",
    ),
}
SYSTEM_TOOLS = ("ls", "cat", "[", "sha512sum", "login", "newgrp", "passwd", "vipw", "useradd", "deluser")


def called(names: Sequence[str], code: str) -> list[str]:
    return [CALLED.format(name, code) for name in names]


def network(kind: str, names: Sequence[str]) -> list[str]:
    begin = "become({0!r}); " if kind == "listen" else ""
    return [f"{begin}{code}".format(name) for name in names for code in NETWORK[kind]]


FIRES: Mapping[str, list[str]] = {
    "write_binary_dir": [
        "over('/usr/bin'); opened('/usr/bin/evil', WRITE | CREATE)",
        "over('/usr/sbin'); opened('/sbin/evil', WRITE | CREATE)",
        "over('/usr/bin'); touch('/usr/bin/ls'); child(lambda: opened('/bin/ls', WRITE))",
        "over('/usr/bin'); touch('/usr/bin/ls'); child(lambda: opened('/bin/ls', BOTH))",
        "over('/usr/bin'); touch('/usr/bin/ls'); child(lambda: opened('/bin/ls', WRITE | TRUNCATE))",
        "over('/usr/bin'); child(lambda: opened('/usr/bin/evil', READ | CREATE))",
        "over('/usr/bin', '/tmp'); os.symlink('/usr/bin/evil', '/tmp/x'); opened('/tmp/x', WRITE | CREATE)",
        "over('/usr/bin'); libc.creat(b'/bin/evil', 0o755)",
        "over('/usr/bin'); touch('/usr/bin/ls'); child(lambda: opened('/usr/bin/ls', READ | TRUNCATE))",
    ],
    "write_etc": [
        "over('/etc'); opened('/etc/hosts', WRITE | CREATE)",
        "over('/etc'); os.makedirs('/etc/a/b'); os.chdir('/etc/a'); opened('b/../c', WRITE | CREATE)",
        "over('/etc'); touch('/etc/hosts'); child(lambda: opened('/proc/self/root/etc/hosts', BOTH))",
    ],
    "read_sensitive_file_untrusted": [
        READS,
        "opened('/etc/shadow', BOTH)",
        *(
            f"{BELOW_ETC} opened('{name}')"
            for name in ("/etc/sudoers", "/etc/sudoers.d/x", "/etc/pam.d/x", "/etc/pam.conf", "/etc/shadow-")
        ),
        *called(["shadow", "nginx2"], READS),
    ],
    "read_sensitive_file_trusted_after_startup": [],
    "db_program_spawn_process": [],
    "modify_binary_dirs_rename": [
        "over('/usr'); touch('/usr/bin/ls'); os.rename('/usr/bin/ls', '/usr/ls')",
        "over('/usr/bin'); touch('/usr/bin/ls'); os.rename('/usr/bin/ls', '/bin/dir')",
        "over('/usr'); touch('/usr/x', '/usr/sbin/y'); os.rename('/usr/x', '/sbin/x')",
        "over('/usr'); touch('/usr/bin/a/x'); os.chdir('/usr/bin'); os.rename('a/x', '/usr/x')",
    ],
    "modify_binary_dirs_unlink": [
        "over('/usr/bin'); touch('/usr/bin/ls'); os.unlink('/bin/ls')",
        "over('/usr/sbin'); touch('/usr/sbin/a/b'); os.unlink('/usr/sbin/a/b')",
        "over('/usr/sbin'); os.mkdir('/usr/sbin/a'); os.rmdir('/usr/sbin/a')",
    ],
    "mkdir_binary_dirs": [
        "over('/usr/bin'); os.mkdir('/bin/...')",
        "over('/usr/sbin'); os.mkdir('/usr/sbin/a'); child(lambda: os.mkdir('/usr/sbin/a/b'))",
    ],
    "syscall_returns_eaccess": [
        "os.setresuid(NOBODY, NOBODY, NOBODY); opened('/etc/shadow')",
        "over('/tmp'); os.chmod('/tmp', 0o700); child(lambda: (os.setuid(NOBODY), os.access('/tmp/x', os.F_OK)))",
    ],
    "change_thread_namespace": [
        "libc.setns(os.open('/proc/self/ns/net', READ), 0)",
        "os.setresuid(NOBODY, NOBODY, NOBODY); libc.setns(os.open('/proc/self/ns/net', READ), 0)",
        "libc.setns(os.pidfd_open(os.getppid()), 0x40000000)",
    ],
    "run_shell_untrusted": called(["httpd", "java", "sh", "python3", "sshd2"], BASH),
    "system_user_interactive": [
        *(IN_SSHD.format(user) for user in "bin daemon games lp mail nobody sync uucp www-data".split()),
        "become('systemd-logind'); start('true', 'www-data')",
        "become('sshd'); below('-bash', program('true', 'www-data'))",
    ],
    "run_shell_in_container": [],
    "system_binaries_network_activity_listen": network("listen", SYSTEM_TOOLS),
    "system_binaries_network_activity_accept": network("accept", SYSTEM_TOOLS[::3]),
    "system_binaries_network_activity_connect": network("connect", SYSTEM_TOOLS[::3]),
    "ssh_error_syslog": [
        "to_log(b'<38>Nov 29 01:42:18 sshd[42]: Invalid user admin from 192.0.2.7')",
        "to_log(b'<38>sshd[42]: Connection closed by 192.0.2.7 [preauth]')",
    ],
    "non_sudo_setuid": [
        "os.setresuid(NOBODY, NOBODY, NOBODY); os.setuid(NOBODY)",
        "os.setresuid(NOBODY, NOBODY, NOBODY); libc.setuid(0)",
        "os.setresuid(NOBODY, 0, 0); os.setuid(0)",
    ],
    "user_mgmt_binaries": [
        f"start('{name}')"
        for name in "adduser deluser useradd usermod chpasswd passwd vipw chage newgrp login groupadd gpasswd".split()
    ],
    "create_files_below_dev": [
        "over('/dev'); opened('/dev/hidden', WRITE | CREATE)",
        "over('/dev'); opened('/dev/...', READ | CREATE)",
        "over('/dev'); opened('/dev/null2', BOTH | CREATE)",
    ],
    "installer_bash_starts_network_server": [
        "become('fs-bash'); child(listening)",
        "become('fs-bash'); below('sh', listening)",
    ],
    "installer_bash_starts_session": [
        "become('fs-bash'); child(os.setsid)",
        "become('fs-bash'); below('sh', os.setsid)",
    ],
}
"""Deeds that each detection must notice; old servers and containers have tests of their own."""

SILENT: Mapping[str, list[str]] = {
    "write_binary_dir": [
        "opened('/usr/bin/env')",
        "opened('/usr/bin', READ | os.O_DIRECTORY)",
        "over('/usr/bin'); os.mkdir('/usr/bin/a'); opened('/usr/bin/a/b', WRITE | CREATE)",
        "over('/usr/local'); os.mkdir('/usr/local/bin'); opened('/usr/local/bin/b', WRITE | CREATE)",
        "over('/usr/bin'); os.mkfifo('/usr/bin/pipe'); opened('/usr/bin/pipe', BOTH)",
        "over('/usr/bin'); opened('/usr/bin/none', WRITE)",
    ],
    "write_etc": [
        "opened('/etc/hostname')",
        "over('/tmp'); os.mkdir('/tmp/etc'); opened('/tmp/etc/hosts', WRITE | CREATE)",
        "over('/etc'); opened('/etc/none', WRITE)",
    ],
    "read_sensitive_file_untrusted": [
        *called([*SERVERS, *READERS], READS),
        f"{BELOW_ETC} opened('/etc/shadow-', WRITE)",
        "opened('/etc/passwd')",
        "over('/etc'); opened('/etc/shadow')",
        f"{BELOW_ETC} opened('/etc/sudoers.d')",
        "opened('/etc/shadow', os.O_PATH)",
    ],
    "read_sensitive_file_trusted_after_startup": called(SERVERS, READS),
    "db_program_spawn_process": called(["mysqld"], "start('true')"),
    "modify_binary_dirs_rename": [
        *called(["dpkg", "rpm"], "over('/usr/bin'); touch('/usr/bin/ls'); os.rename('/usr/bin/ls', '/usr/bin/dir')"),
        "over('/tmp'); touch('/tmp/usr/bin/ls'); os.rename('/tmp/usr/bin/ls', '/tmp/usr/bin/dir')",
        "over('/usr'); touch('/usr/binary/ls'); os.rename('/usr/binary/ls', '/usr/binary/dir')",
        "over('/usr/bin'); libc.rename(b'/usr/bin/none', b'/usr/bin/dir')",
    ],
    "modify_binary_dirs_unlink": [
        *called(["dpkg", "rpm"], "over('/usr/bin'); touch('/usr/bin/ls'); os.unlink('/usr/bin/ls')"),
        "over('/tmp'); touch('/tmp/bin/ls'); os.unlink('/tmp/bin/ls')",
        "over('/usr/bin'); libc.unlink(b'/usr/bin/none')",
    ],
    "mkdir_binary_dirs": [
        *called(["dpkg", "rpm"], "over('/usr/bin'); os.mkdir('/usr/bin/a')"),
        "over('/tmp'); os.makedirs('/tmp/usr/bin/a')",
        "over('/usr'); os.mkdir('/usr/binary')",
        "over('/usr/bin'); libc.mkdir(b'/usr/bin/none/a', 0o755)",
    ],
    "syscall_returns_eaccess": [
        "opened('/no-such-file')",
        "os.setresuid(NOBODY, NOBODY, NOBODY); libc.setuid(0); libc.kill(1, 0)",
    ],
    "change_thread_namespace": [
        *called(["docker", "bpfd"], "libc.setns(os.open('/proc/self/ns/net', READ), 0)"),
        "libc.unshare(0x40000000)",
    ],
    "run_shell_untrusted": [
        *called([*SHELLS_PARENTS, ""], BASH),
        "become('httpd'); start('true')",
        "become('httpd'); os.chdir(tools); child(lambda: libc.execl(b'/no/bash', b'bash', None))",
    ],
    "system_user_interactive": [
        "become('sshd'); start('true')",
        IN_SSHD.format("backup"),
        "become('sshd-helper'); orphan(program('true', 'www-data'))",
    ],
    "run_shell_in_container": [f"become('httpd'); {BASH}"],
    "system_binaries_network_activity_listen": [
        *network("listen", ("curl", "lsof")),
        "become('ls'); listening(UNIX)",
    ],
    "system_binaries_network_activity_accept": network("accept", ("curl", "lsof")),
    "system_binaries_network_activity_connect": [
        *network("connect", ("curl", "lsof")),
        "here = listening(UNIX); become('ls'); connected(here)",
        "become('ls'); socket.socket(INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 0))",
        "here = listening(); there = connected(here); become('ls'); there.send(b'x'); here.accept()",
    ],
    "ssh_error_syslog": [
        "to_log(b'<38>Nov 29 01:42:18 sshd[42]: Accepted publickey for alice')",
        "to_log(b'Invalid user admin', '/dev/other')",
    ],
    "non_sudo_setuid": [
        *called(["sudo", "su"], "os.setresuid(NOBODY, NOBODY, NOBODY); libc.setuid(0)"),
        "os.setuid(NOBODY)",
        "os.setresuid(NOBODY, NOBODY, NOBODY); libc.setgid(0)",
    ],
    "user_mgmt_binaries": [
        "start('su')",
        "start('sudo')",
        "start('true')",
        "child(lambda: libc.execl(b'/no/adduser'))",
    ],
    "create_files_below_dev": [
        "over('/dev'); become('blkid'); opened('/dev/hidden', WRITE | CREATE)",
        "over('/dev'); opened('/dev/null', WRITE | CREATE)",
        "over('/dev'); os.mkdir('/dev/deeper'); opened('/dev/deeper/hidden', WRITE | CREATE)",
        "over('/tmp'); os.mkdir('/tmp/dev'); opened('/tmp/dev/hidden', WRITE | CREATE)",
        "opened('/dev/null', WRITE | CREATE)",
        "opened('/dev/zero', WRITE | CREATE)",
        "opened('/dev/zero')",
    ],
    "installer_bash_starts_network_server": [
        "become('fs-bash'); listening()",
        "become('not-fs-bash'); child(listening)",
        "become('fs-bash'); child(lambda: listening(UNIX))",
    ],
    "installer_bash_starts_session": [
        "child(lambda: (become('fs-bash'), os.setsid()))",
        "become('bash'); child(os.setsid)",
    ],
}
"""Of each detection what it must leave alone, and what nearly is what it notices."""


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
