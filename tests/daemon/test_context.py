"""An alert can carry what the same process tree or container did just before."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.actions.receivers import http_receiver
from tests.daemon.running import RunningDaemon, until
from tests.daemon.test_reactions import config, rule, told
from tests.dockerd import Dockerd

HISTORY = 'tracer = "exec"\nmode = "observe"\n'


def test_an_alert_carries_what_its_process_tree_did_before(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("history", HISTORY)
        daemon.write_rule("secret", rule(secret, '"hook"', "context = 5"))
        daemon.start(config=config(receiver))
        stranger = subprocess.Popen(["sh", "-c", "sleep 0.1; exec true stranger"], start_new_session=True)
        stranger.wait()
        subprocess.run(["sh", "-c", f"true one; /bin/true two; /bin/echo three; cat {secret}"], check=True)
        until(lambda: receiver.requests, lambda: daemon.log)
        [alert] = told(receiver)
    before = [event["data"]["argv"] for event in alert["alert"]["context"]]
    script = f"true one; /bin/true two; /bin/echo three; cat {secret}"
    assert before[-4:] == [f"sh -c {script}", "/bin/true two", "/bin/echo three", f"cat {secret}"]
    assert "true stranger" not in before
    times = [event["time"] for event in alert["alert"]["context"]]
    assert times == sorted(times)
    assert len(before) <= 5


def test_an_alert_of_a_container_carries_what_that_container_did(
    daemon: RunningDaemon, dockerd: Dockerd, tmp_path: Path
) -> None:
    daemon.environment["DOCKER_HOST"] = dockerd.address
    with http_receiver() as receiver:
        daemon.write_rule("history", HISTORY)
        daemon.write_rule("secret", rule("/etc/shadow", '"hook"', "context = 3\n[container]\nhost = false"))
        daemon.start(config=config(receiver))
        dockerd.run("true other; sleep 60")
        dockerd.run("/bin/echo one; /bin/echo two; cat /etc/shadow; sleep 60")
        until(lambda: receiver.requests, lambda: daemon.log)
        [alert] = told(receiver)
    assert [event["data"]["argv"] for event in alert["alert"]["context"]] == [
        "/bin/echo one", "/bin/echo two", "cat /etc/shadow",
    ]  # fmt: skip
    assert {event["containerID"] for event in alert["alert"]["context"]} == {alert["containerID"]}
