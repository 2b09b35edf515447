"""What containers do on the network is told with the container, by a daemon that a user starts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.daemon.running import JsonEvent, RunningDaemon
from tests.dockerd import Dockerd

RULE = 'tracer = "{tracer}"\ncontainerRuntimes = ["docker"]\n[filterEvents.{port}]\nis = ["4321"]\n'
PORTS = {"bind": "port", "listen": "port", "tcpaccept": "sport", "tcpconnect": "dport", "tcpdrop": "dport"}


def of(rule: str) -> Callable[[JsonEvent], bool]:
    return lambda event: event["rule"] == rule


@pytest.fixture
def watching(daemon: RunningDaemon, dockerd: Dockerd) -> RunningDaemon:
    """A daemon with a rule for port 4321 in containers for each tracer of the network."""
    for tracer, port in PORTS.items():
        daemon.write_rule(tracer, RULE.format(tracer=tracer, port=port))
    daemon.environment["DOCKER_HOST"] = dockerd.address
    return daemon.start()


def test_a_containers_listener_and_its_connections_are_told_with_the_container(
    watching: RunningDaemon, dockerd: Dockerd
) -> None:
    listens = "grep -qs ':10E1 .* 0A ' /proc/net/tcp /proc/net/tcp6"  # port 4321, TCP_LISTEN
    talk = (
        "until [ -e /tmp/go ]; do nc 127.0.0.1 4321; sleep 0.1; done; "
        f"nc -l -p 4321 & until {listens}; do sleep 0.05; done; echo x | nc 127.0.0.1 4321; sleep 1000"
    )
    container = dockerd.run(talk, name="talks")
    # What comes before Docker has said how it is called has its id alone.
    watching.wait_for(lambda event: event["container"]["name"] == "talks")
    container.exec_run(["touch", "/tmp/go"])
    for tracer in ("bind", "listen", "tcpconnect", "tcpaccept"):
        (event, *_) = watching.wait_for(lambda event, tracer=tracer: of(tracer)(event) and event["returnValue"] >= 0)
        assert (event["containerID"], event["command"], event["uid"]) == (container.id, "nc", 0)
        assert (event["data"][PORTS[tracer]], event["container"]["name"]) == ("4321", "talks")
    container.remove(force=True)
    assert watching.json("status")["counters"]["tracer.tcpconnect.untracked"] == 0


def test_a_connection_that_a_container_is_refused_later_is_told_with_the_container_and_not_the_host(
    watching: RunningDaemon, dockerd: Dockerd
) -> None:
    watching.write_rule("host", RULE.format(tracer="tcpconnect", port="dport").replace("docker", "not-found"))
    watching.bpfd("create", str(watching.rules_dir / "host.toml"), "--replace")
    container = dockerd.run("nc 127.0.0.1 4321; sleep 1000", name="refused")
    (event, *_) = watching.wait_for(of("tcpconnect"))
    assert (event["returnValue"], event["containerID"], event["command"]) == (-111, container.id, "nc")
    container.remove(force=True)
    subprocess.run(["unshare", "-n", "sh", "-c", "ip link set lo up; busybox nc 127.0.0.1 4321"], check=False)
    (host, *_) = watching.wait_for(of("host"))
    assert (host["containerID"], host["returnValue"]) == ("", -111)
    assert len([event for event in watching.lines.read() if event["rule"] == "host"]) == 1


def test_a_packet_that_is_dropped_is_told_with_the_container_of_its_socket_and_hits_no_process(
    watching: RunningDaemon, dockerd: Dockerd
) -> None:
    more = 'actions = ["kill", "stdout"]\nwhere = "kernel"\n'
    watching.create("killing", more + RULE.format(tracer="tcpdrop", port="dport"))
    talk = "until [ -e /tmp/go ]; do sleep 0.05; done; nc 127.0.0.1 4321; sleep 1000"
    container = dockerd.run(talk, name="stopped")
    container.reload()
    words = ["nsenter", "-t", str(container.attrs["State"]["Pid"]), "-n", "iptables", "-A", "OUTPUT", "-p", "tcp"]
    subprocess.run([*words, "--dport", "4321", "-j", "DROP"], check=True)
    container.exec_run(["touch", "/tmp/go"])
    for rule in ("tcpdrop", "killing"):
        (event, *_) = watching.wait_for(of(rule))
        assert event["data"]["reason"] == "NETFILTER_DROP"
        assert "kernelAction" not in event["data"]
        assert (event["containerID"], event["pid"], event["command"], event["uid"]) == (container.id, 0, "", 0)
    assert "nc" in [row[-1] for row in container.top(ps_args="-eo pid,comm")["Processes"]]
    container.remove(force=True)
