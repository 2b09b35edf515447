"""For every detection of contrib/rules/falco, deeds that it must notice, and what it must leave alone.

Code for the programs of actor.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
