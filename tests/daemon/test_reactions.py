"""What a rule says of its alerts and responses is what the daemon does."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from tests.actions.receivers import HttpReceiver, answer, http_receiver
from tests.daemon.running import RunningDaemon, until
from tests.dockerd import Dockerd


def rule(path: Path | str, actions: str, more: str = "") -> str:
    return f'tracer = "open"\nactions = [{actions}]\n{more}\n[filterEvents.filename]\nis = ["{path}"]\n'


def config(receiver: HttpReceiver) -> str:
    return f'[actions.hook]\ntype = "webhook"\nurl = "{receiver.url}"\n'


def told(receiver: HttpReceiver) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in list(receiver.requests)]


def kinds(receiver: HttpReceiver) -> list[str]:
    return [event["alert"]["kind"] for event in told(receiver)]


def test_repeats_are_folded_into_a_summary_that_is_sent_when_the_daemon_ends(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"hook", "stdout"', 'fold = "1h"\nby = ["command"]'))
        daemon.start(config=config(receiver))
        for _ in range(5):
            secret.read_text()
        until(lambda: daemon.rule("secret")["matched"] == 5, lambda: daemon.log)
        until(lambda: kinds(receiver) == ["event"], lambda: daemon.log)
        daemon.stop()
        assert kinds(receiver) == ["event", "summary"]
        summary = told(receiver)[1]["alert"]
    assert (summary["count"], summary["values"]["filename"]) == (5, [str(secret)])
    printed = daemon.lines.read()
    assert [event["alert"]["kind"] for event in printed] == ["event", "summary"]
    assert printed[1]["alert"]["count"] == 5


def test_a_rules_rate_bounds_its_alerts_and_the_rest_is_in_the_summary(daemon: RunningDaemon, tmp_path: Path) -> None:
    noisy, quiet = tmp_path / "noisy", tmp_path / "quiet"
    with http_receiver() as receiver:
        daemon.write_rule("noisy", rule(noisy, '"hook"', 'rate = "2/h"\nburst = 3'))
        daemon.write_rule("quiet", rule(quiet, '"hook"'))
        daemon.start(config=config(receiver))
        for _ in range(50):
            noisy.write_text("")
        quiet.write_text("")
        until(lambda: len(receiver.requests) == 4, lambda: str(kinds(receiver)))
        daemon.stop()
        events = told(receiver)
    assert sorted(event["rule"] for event in events) == ["noisy"] * 4 + ["quiet"]
    [summary] = [event for event in events if event["alert"]["kind"] == "summary"]
    assert (summary["rule"], summary["alert"]["count"]) == ("noisy", 47)


def test_a_response_ends_the_whole_tree_where_the_rule_says_so(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.write_rule("tree", rule(tmp_path / "forbidden", '"kill"', "tree = true"))
    daemon.start()
    script = f"sleep 1000 & echo $!; read line; : < {tmp_path}/forbidden; wait"
    (tmp_path / "forbidden").touch()
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdin
        assert shell.stdout
        child = Path(f"/proc/{int(shell.stdout.readline())}")
        assert child.exists()
        shell.stdin.write("\n")
        shell.stdin.close()
        assert shell.wait(15) == -9
        until(lambda: not child.exists() or ") Z " in (child / "stat").read_text(), lambda: daemon.log)


def test_a_pause_is_taken_back_after_a_restart_also_if_its_rule_is_gone(
    daemon: RunningDaemon, dockerd: Dockerd
) -> None:
    container = dockerd.run("sleep 1000")
    secret = f"/etc/secret-{secrets.token_hex(4)}"  # a rule sees the containers of other tests too
    rule_file = daemon.write_rule("frozen", rule(secret, '"pause"', 'for = "15s"\n[container]\nhost = false'))
    daemon.environment["DOCKER_HOST"] = dockerd.address
    daemon.start()

    def state() -> str:
        container.reload()
        return str(container.status)

    dockerd.client.api.exec_start(dockerd.client.api.exec_create(container.id, ["cat", secret])["Id"])
    until(lambda: state() == "paused", lambda: daemon.log)
    daemon.kill()
    rule_file.unlink()
    daemon.write_rule("other", rule("/nothing/is/named/like/this", '"stdout"'))
    assert state() == "paused"
    daemon.start()
    until(lambda: state() == "running", lambda: daemon.log, 40)
    until(lambda: [one for one in daemon.json("actions", "log") if one["result"] == "undone"], lambda: daemon.log)


def test_an_action_that_a_rule_cannot_have_spoils_no_other_rule_and_is_shown(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.write_rule("bad", rule(tmp_path / "a", '"slack", "stdout"'))
    daemon.write_rule("good", rule(tmp_path / "b", '"stdout"'))
    lines = daemon.fail_to_start("--strict")
    assert lines[-1].startswith("rule bad: action slack: webhook_env: set it")
    daemon.start()
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    assert {event["rule"] for event in daemon.wait_for(lambda event: True, 2)} == {"bad", "good"}
    assert daemon.rule("bad")["problem"].startswith("action slack: webhook_env")
    assert any(line.startswith("rule bad: action slack") for line in daemon.json("status")["problems"])
    said = daemon.place / "wrong.toml"
    said.write_text(rule(tmp_path / "c", '"slack"'))
    assert "action slack: webhook_env: set it" in daemon.bpfd("create", str(said), code=1)


def test_a_rule_that_observes_says_whom_it_would_have_hit(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"kill", "hook"', 'mode = "observe"\nseverity = "critical"'))
        daemon.start(config=config(receiver))
        subprocess.run(["touch", str(secret)], check=True)
        until(lambda: told(receiver), lambda: daemon.log)
        [event] = told(receiver)
    assert (event["command"], event["alert"]["kind"], event["alert"]["severity"]) == ("touch", "notice", "critical")
    assert event["alert"]["text"] == (
        f"kill would have been carried out on process {event['pid']} (touch): the rule only observes"
    )


def test_a_receiver_that_is_down_does_not_keep_the_daemon_from_ending(daemon: RunningDaemon, tmp_path: Path) -> None:
    with http_receiver() as receiver:
        receiver.reply = answer("503 Service Unavailable")
        daemon.write_rule("secret", rule(tmp_path / "secret", '"hook"', 'fold = "1h"'))
        daemon.start(config=config(receiver))
        for _ in range(3):
            (tmp_path / "secret").write_text("")
        until(lambda: receiver.requests, lambda: daemon.log)
        daemon.stop()
        receiver.requests.clear()
        receiver.reply = answer("200 OK")
        daemon.start(config=config(receiver))
        until(lambda: sorted(kinds(receiver)) == ["event", "summary"], lambda: str(kinds(receiver)), 40)


def test_a_daemon_that_only_observes_ends_nobody_and_says_whom_it_would_have(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"kill", "hook"'))
        daemon.write_rule("inside", rule(f"{secret}2", '"kill"', 'where = "kernel"').replace("filename", "path"))
        Path(f"{secret}2").write_text("")
        daemon.start("--observe", config=config(receiver))
        for path in (secret, f"{secret}2"):
            assert subprocess.run(["cat", str(path)], check=True).returncode == 0
        until(lambda: len(receiver.requests) == 2, lambda: daemon.log)
        alerts = {(event["rule"], event["alert"]["kind"]): event["alert"] for event in told(receiver)}
    assert set(alerts) == {("secret", "event"), ("secret", "notice")}
    [printed] = daemon.wait_for(lambda event: event["rule"] == "inside")  # by the default action
    assert printed["alert"]["kind"] == "notice"
    assert alerts["secret", "notice"]["text"].endswith("(cat): bpfd only observes")
    assert "kill would have been carried out on process" in daemon.log


def test_what_the_configuration_protects_is_never_hit(daemon: RunningDaemon, dockerd: Dockerd, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    container = dockerd.run("sleep 1000", name="registry")
    daemon.environment["DOCKER_HOST"] = dockerd.address
    daemon.write_rule("host", rule(secret, '"kill"'))
    inside = f"/etc/secret-{secrets.token_hex(4)}"  # a rule sees the containers of other tests too
    daemon.write_rule("inside", rule(inside, '"container_kill"', "[container]\nhost = false"))
    daemon.start(config=f'protected = ["tail", "container:{container.id}"]\n')
    reader = subprocess.Popen(["tail", "-f", str(secret)])
    dockerd.client.api.exec_start(dockerd.client.api.exec_create(container.id, ["head", inside])["Id"])
    counters = ("action.kill.refused", "action.container_kill.refused")
    try:
        until(lambda: all(daemon.json("status")["counters"].get(one) for one in counters), lambda: daemon.log)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()
    container.reload()
    assert container.status == "running"


def test_responses_beyond_the_limit_become_an_alert(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"interrupt"'))
        daemon.start(config=f'default_actions = ["hook"]\n[limits]\nresponses_per_rule = 2\n{config(receiver)}')
        ended = [subprocess.run(["tail", "-f", str(secret), "--pid", "1"], check=False, timeout=60) for _ in range(2)]
        assert [one.returncode for one in ended] == [-2, -2]
        subprocess.run(["cat", str(secret)], check=True)
        until(lambda: receiver.requests, lambda: daemon.log)
        [event] = told(receiver)
    assert event["alert"]["text"] == (
        f"interrupt was not carried out on process {event['pid']} (cat): there were too many responses within a minute"
    )
