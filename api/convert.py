"""Between the daemon's data and protobuf messages, in both APIs. All text becomes valid UTF-8, all numbers fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from bpfd.api import bpfd_pb2, legacy_pb2
from bpfd.control import ActionStatus, DeadLetter, RuleExplanation, RuleStatus, Status, TracerStatus
from bpfd.event import Container, Event, utf8
from bpfd.ledger import Entry
from bpfd.mutes import Mute
from bpfd.rules.model import Rule

FOLLOWED = ("bpfd-followed", "yes")
"""Among the headers of a trace that was not refused: a refusal has headers too, and its status comes after them."""
_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF


def event_to_v1(event: Event) -> bpfd_pb2.Event:
    """Everything that the event's JSON carries."""
    container = event.container
    message = bpfd_pb2.Event(
        time=_signed(event.time, 64),
        host=utf8(event.host),
        rule=utf8(event.rule),
        tracer=utf8(event.tracer),
        pid=event.pid & _U32,
        tgid=event.pid & _U32,
        tid=event.tid & _U32,
        ns_pid=event.ns_pid & _U32,
        ppid=event.ppid & _U32,
        uid=event.uid & _U32,
        gid=event.gid & _U32,
        command=utf8(event.command),
        return_value=_signed(event.return_value, 64),
        container_id=utf8(container.id),
        container_runtime=utf8(container.runtime),
        data=_texts(event.data),
        data_order=_list(event.data),
    )
    if container.name or container.image or container.labels:
        message.container.name = utf8(container.name)
        message.container.image = utf8(container.image)
        message.container.labels.update(_texts(container.labels))
    return message


def event_from_v1(message: bpfd_pb2.Event) -> Event:
    """The event again, as a client shows it; its JSON is that of the daemon's event."""
    return Event(
        time=message.time,
        tracer=message.tracer,
        pid=message.pid,
        tid=message.tid,
        ns_pid=message.ns_pid,
        ppid=message.ppid,
        uid=message.uid,
        gid=message.gid,
        command=message.command,
        return_value=message.return_value,
        data={key: message.data[key] for key in message.data_order} or dict(message.data),
        container=Container(
            id=message.container_id,
            runtime=message.container_runtime,
            name=message.container.name,
            image=message.container.image,
            labels=dict(sorted(message.container.labels.items())),
        ),
        rule=message.rule,
        host=message.host,
    )


def event_to_legacy(event: Event) -> legacy_pb2.Event:
    """What the first bpfd's API has of an event. A return value keeps its low 32 bits, as a C int does."""
    return legacy_pb2.Event(
        PID=event.pid & _U32,
        TGID=event.pid & _U32,
        UID=event.uid & _U32,
        GID=event.gid & _U32,
        command=utf8(event.command),
        returnValue=_signed(event.return_value, 32),
        data=_texts(event.data),
        containerID=utf8(event.container.id),
        containerRuntime=utf8(event.container.runtime),
        tracer=utf8(event.tracer),
    )


def rule_to_v1(rule: Rule, *, with_toml: bool) -> bpfd_pb2.Rule:
    return bpfd_pb2.Rule(
        name=utf8(rule.name),
        tracer=utf8(rule.tracer),
        actions=_list(rule.actions),
        container_runtimes=_list(rule.runtimes),
        filter_events={utf8(key): bpfd_pb2.Values(values=_list(values)) for key, values in rule.filters.items()},
        source=utf8(rule.source),
        toml=utf8(rule.text) if with_toml else "",
    )


def rule_to_legacy(rule: Rule) -> legacy_pb2.Rule:
    return legacy_pb2.Rule(
        name=utf8(rule.name),
        tracer=utf8(rule.tracer),
        filterEvents={utf8(key): legacy_pb2.Filter(values=_list(values)) for key, values in rule.filters.items()},
        containerRuntimes=_list(rule.runtimes),
        actions=_list(rule.actions),
    )


def rule_status_to_v1(status: RuleStatus, *, with_toml: bool) -> bpfd_pb2.RuleStatus:
    rule = status.rule
    message = bpfd_pb2.RuleStatus(
        name=utf8(status.name),
        tracer=utf8(status.tracer),
        rule=None if rule is None else rule_to_v1(rule, with_toml=with_toml),
        source=utf8(status.source),
        problem=utf8(status.problem),
        matched=status.matched & _U64,
        kept=status.kept,
    )
    if rule is not None:
        message.disabled, message.observe = not rule.enabled, rule.mode == "observe"
        message.severity = rule.severity
        message.warnings.extend(_list(rule.warnings))
    return message


def explanation_to_v1(explanation: RuleExplanation) -> bpfd_pb2.ExplainRuleResponse:
    return bpfd_pb2.ExplainRuleResponse(
        name=utf8(explanation.name),
        tracer=utf8(explanation.tracer),
        exact=explanation.exact,
        reason=utf8(explanation.reason),
        clauses=[
            bpfd_pb2.ClauseStatus(text=utf8(clause.text), in_kernel=clause.in_kernel, reason=utf8(clause.reason))
            for clause in explanation.clauses
        ],
        seen=explanation.seen & _U64,
        passed=explanation.passed & _U64,
        matched=explanation.matched & _U64,
        probe_ns=explanation.probe_ns,
    )


def tracer_to_v1(status: TracerStatus) -> bpfd_pb2.TracerStatus:
    return bpfd_pb2.TracerStatus(
        name=utf8(status.name),
        doc=utf8(status.doc),
        fields=[
            bpfd_pb2.Field(
                name=utf8(field.name),
                doc=utf8(field.doc),
                type=field.type,
                length=field.length & _U32 if field.is_string else 0,
                also=utf8(field.also),
                optional=field.optional,
                example=utf8(field.example),
            )
            for field in status.fields
        ],
        probes=_list(status.probes),
        state=status.state,
        problem=utf8(status.problem),
        received=status.received & _U64,
        lost=status.lost & _U64,
    )


def action_to_v1(status: ActionStatus) -> bpfd_pb2.ActionStatus:
    return bpfd_pb2.ActionStatus(
        name=utf8(status.name), doc=utf8(status.doc), responds=status.responds, settings=_texts(status.settings)
    )


def response_to_v1(entry: Entry) -> bpfd_pb2.Response:
    return bpfd_pb2.Response(
        time=_signed(entry.time_ns, 64),
        action=utf8(entry.action),
        rule=utf8(entry.rule),
        target=utf8(entry.target),
        result=utf8(entry.result),
        detail=utf8(entry.detail),
        event=json.dumps(entry.event, ensure_ascii=False),
    )


def dead_letter_to_v1(letter: DeadLetter) -> bpfd_pb2.DeadLetter:
    return bpfd_pb2.DeadLetter(
        id=utf8(letter.id),
        action=utf8(letter.action),
        rule=utf8(letter.rule),
        time=_signed(letter.time, 64),
        tries=letter.tries & _U32,
        problem=utf8(letter.problem),
    )


def mute_to_v1(mute: Mute) -> bpfd_pb2.Mute:
    return bpfd_pb2.Mute(
        id=utf8(mute.id),
        rule=utf8(mute.rule),
        where=_texts(mute.where),
        until=_signed(mute.until_ns, 64),
        made=_signed(mute.made_ns, 64),
        why=utf8(mute.why),
        hidden=mute.hidden & _U64,
    )


def status_to_v1(status: Status) -> bpfd_pb2.GetStatusResponse:
    return bpfd_pb2.GetStatusResponse(
        version=utf8(status.version),
        host=utf8(status.host),
        kernel=utf8(status.kernel),
        started=_signed(status.started, 64),
        tracers=[tracer_to_v1(tracer) for tracer in status.tracers],
        counters={utf8(name): count & _U64 for name, count in status.counters.items()},
        problems=_list(status.problems),
    )


def rule_to_toml(
    name: str,
    tracer: str,
    filter_events: Mapping[str, Iterable[str]],
    runtimes: Iterable[str] = (),
    actions: Iterable[str] = (),
) -> str:
    """The rule file that says this, whatever the strings hold: parsing it gives them back, and nothing else."""
    lines = [f"name = {_string(name)}", f"tracer = {_string(tracer)}"]
    for key, values in (("actions", actions), ("containerRuntimes", runtimes)):
        array = _array(values)
        if array != "[]":
            lines.append(f"{key} = {array}")
    for field, values in filter_events.items():
        lines += ["", f"[filterEvents.{_string(field)}]", f"values = {_array(values)}"]
    return "\n".join(lines) + "\n"


def _array(values: Iterable[str]) -> str:
    return f"[{', '.join(_string(value) for value in values)}]"


def _string(text: str) -> str:
    """`text` as a TOML basic string. JSON's escapes are TOML's too; DEL alone JSON lets be and TOML not."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: Iterable[str]) -> list[str]:
    return [utf8(value) for value in values]


def _texts(table: Mapping[str, str]) -> dict[str, str]:
    return {utf8(key): utf8(value) for key, value in table.items()}


def _signed(number: int, bits: int) -> int:
    """The low `bits` of `number`, as a signed integer of that width."""
    half = 1 << (bits - 1)
    return (number + half) % (half * 2) - half
