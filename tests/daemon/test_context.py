"""An alert can carry what the same process tree or container did just before."""

from __future__ import annotations

import secrets
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


def test_an_alert_of_a_container_carries_what_that_container_did(daemon: RunningDaemon, dockerd: Dockerd) -> None:
    secret = f"/etc/secret-{secrets.token_hex(4)}"  # a rule sees the containers of other tests too
    daemon.environment["DOCKER_HOST"] = dockerd.address
    with http_receiver() as receiver:
        daemon.write_rule("history", HISTORY)
        daemon.write_rule("secret", rule(secret, '"hook"', "context = 3\n[container]\nhost = false"))
        daemon.start(config=config(receiver))
        dockerd.run("true other; sleep 60")
        dockerd.run(f"/bin/echo one; /bin/echo two; cat {secret}; sleep 60")
        until(lambda: receiver.requests, lambda: daemon.log)
        [alert] = told(receiver)
    assert [event["data"]["argv"] for event in alert["alert"]["context"]] == [
        "/bin/echo one", "/bin/echo two", f"cat {secret}",
    ]  # fmt: skip
    assert {event["containerID"] for event in alert["alert"]["context"]} == {alert["containerID"]}
