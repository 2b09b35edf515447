from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateRuleRequest(_message.Message):
    __slots__ = ("toml", "source", "replace")
    TOML_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    toml: str
    source: str
    replace: bool
    def __init__(self, toml: _Optional[str] = ..., source: _Optional[str] = ..., replace: _Optional[bool] = ...) -> None: ...

class CreateRuleResponse(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: Rule
    def __init__(self, rule: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...

class RemoveRuleRequest(_message.Message):
    __slots__ = ("name", "tracer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    name: str
    tracer: str
    def __init__(self, name: _Optional[str] = ..., tracer: _Optional[str] = ...) -> None: ...

class RemoveRuleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRulesRequest(_message.Message):
    __slots__ = ("with_toml",)
    WITH_TOML_FIELD_NUMBER: _ClassVar[int]
    with_toml: bool
    def __init__(self, with_toml: _Optional[bool] = ...) -> None: ...

class ListRulesResponse(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[RuleStatus]
    def __init__(self, rules: _Optional[_Iterable[_Union[RuleStatus, _Mapping]]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("name", "tracer", "actions", "container_runtimes", "filter_events", "source", "toml")
    class FilterEventsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    FILTER_EVENTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TOML_FIELD_NUMBER: _ClassVar[int]
    name: str
    tracer: str
    actions: _containers.RepeatedScalarFieldContainer[str]
    container_runtimes: _containers.RepeatedScalarFieldContainer[str]
    filter_events: _containers.MessageMap[str, Values]
    source: str
    toml: str
    def __init__(self, name: _Optional[str] = ..., tracer: _Optional[str] = ..., actions: _Optional[_Iterable[str]] = ..., container_runtimes: _Optional[_Iterable[str]] = ..., filter_events: _Optional[_Mapping[str, Values]] = ..., source: _Optional[str] = ..., toml: _Optional[str] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class RuleStatus(_message.Message):
    __slots__ = ("name", "tracer", "rule", "source", "problem", "matched", "disabled", "observe", "severity", "warnings", "kept")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    tracer: str
    rule: Rule
    source: str
    problem: str
    matched: int
    disabled: bool
    observe: bool
    severity: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    kept: bool
    def __init__(self, name: _Optional[str] = ..., tracer: _Optional[str] = ..., rule: _Optional[_Union[Rule, _Mapping]] = ..., source: _Optional[str] = ..., problem: _Optional[str] = ..., matched: _Optional[int] = ..., disabled: _Optional[bool] = ..., observe: _Optional[bool] = ..., severity: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., kept: _Optional[bool] = ...) -> None: ...

class ExplainRuleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ExplainRuleResponse(_message.Message):
    __slots__ = ("name", "tracer", "exact", "reason", "clauses", "seen", "passed", "matched", "probe_ns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLAUSES_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    PROBE_NS_FIELD_NUMBER: _ClassVar[int]
    name: str
    tracer: str
    exact: bool
    reason: str
    clauses: _containers.RepeatedCompositeFieldContainer[ClauseStatus]
    seen: int
    passed: int
    matched: int
    probe_ns: float
    def __init__(self, name: _Optional[str] = ..., tracer: _Optional[str] = ..., exact: _Optional[bool] = ..., reason: _Optional[str] = ..., clauses: _Optional[_Iterable[_Union[ClauseStatus, _Mapping]]] = ..., seen: _Optional[int] = ..., passed: _Optional[int] = ..., matched: _Optional[int] = ..., probe_ns: _Optional[float] = ...) -> None: ...

class ClauseStatus(_message.Message):
    __slots__ = ("text", "in_kernel", "reason")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IN_KERNEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    text: str
    in_kernel: bool
    reason: str
    def __init__(self, text: _Optional[str] = ..., in_kernel: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class LiveTraceRequest(_message.Message):
    __slots__ = ("rule", "tracer", "near_miss")
    RULE_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    NEAR_MISS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    tracer: str
    near_miss: bool
    def __init__(self, rule: _Optional[str] = ..., tracer: _Optional[str] = ..., near_miss: _Optional[bool] = ...) -> None: ...

class LiveTraceResponse(_message.Message):
    __slots__ = ("lost", "events", "missed")
    LOST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    lost: int
    events: _containers.RepeatedCompositeFieldContainer[Event]
    missed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lost: _Optional[int] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., missed: _Optional[_Iterable[str]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("time", "host", "rule", "tracer", "pid", "tgid", "tid", "ppid", "uid", "gid", "command", "return_value", "container_id", "container_runtime", "container", "data", "ns_pid", "data_order")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TIME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TRACER_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    TGID_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    PPID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    RETURN_VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_RUNTIME_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NS_PID_FIELD_NUMBER: _ClassVar[int]
    DATA_ORDER_FIELD_NUMBER: _ClassVar[int]
    time: int
    host: str
    rule: str
    tracer: str
    pid: int
    tgid: int
    tid: int
    ppid: int
    uid: int
    gid: int
    command: str
    return_value: int
    container_id: str
    container_runtime: str
    container: Container
    data: _containers.ScalarMap[str, str]
    ns_pid: int
    data_order: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, time: _Optional[int] = ..., host: _Optional[str] = ..., rule: _Optional[str] = ..., tracer: _Optional[str] = ..., pid: _Optional[int] = ..., tgid: _Optional[int] = ..., tid: _Optional[int] = ..., ppid: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., command: _Optional[str] = ..., return_value: _Optional[int] = ..., container_id: _Optional[str] = ..., container_runtime: _Optional[str] = ..., container: _Optional[_Union[Container, _Mapping]] = ..., data: _Optional[_Mapping[str, str]] = ..., ns_pid: _Optional[int] = ..., data_order: _Optional[_Iterable[str]] = ...) -> None: ...

class Container(_message.Message):
    __slots__ = ("name", "image", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    image: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., image: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListTracersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTracersResponse(_message.Message):
    __slots__ = ("tracers",)
    TRACERS_FIELD_NUMBER: _ClassVar[int]
    tracers: _containers.RepeatedCompositeFieldContainer[TracerStatus]
    def __init__(self, tracers: _Optional[_Iterable[_Union[TracerStatus, _Mapping]]] = ...) -> None: ...

class TracerStatus(_message.Message):
    __slots__ = ("name", "doc", "fields", "probes", "state", "problem", "received", "lost")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    name: str
    doc: str
    fields: _containers.RepeatedCompositeFieldContainer[Field]
    probes: _containers.RepeatedScalarFieldContainer[str]
    state: str
    problem: str
    received: int
    lost: int
    def __init__(self, name: _Optional[str] = ..., doc: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., probes: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., problem: _Optional[str] = ..., received: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "doc", "type", "length", "also", "optional", "example")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ALSO_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    doc: str
    type: str
    length: int
    also: str
    optional: bool
    example: str
    def __init__(self, name: _Optional[str] = ..., doc: _Optional[str] = ..., type: _Optional[str] = ..., length: _Optional[int] = ..., also: _Optional[str] = ..., optional: _Optional[bool] = ..., example: _Optional[str] = ...) -> None: ...

class ListActionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListActionsResponse(_message.Message):
    __slots__ = ("actions",)
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[ActionStatus]
    def __init__(self, actions: _Optional[_Iterable[_Union[ActionStatus, _Mapping]]] = ...) -> None: ...

class ActionStatus(_message.Message):
    __slots__ = ("name", "doc", "responds", "settings")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    RESPONDS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    doc: str
    responds: bool
    settings: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., doc: _Optional[str] = ..., responds: _Optional[bool] = ..., settings: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "host", "kernel", "started", "tracers", "counters", "problems")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TRACERS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    version: str
    host: str
    kernel: str
    started: int
    tracers: _containers.RepeatedCompositeFieldContainer[TracerStatus]
    counters: _containers.ScalarMap[str, int]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., host: _Optional[str] = ..., kernel: _Optional[str] = ..., started: _Optional[int] = ..., tracers: _Optional[_Iterable[_Union[TracerStatus, _Mapping]]] = ..., counters: _Optional[_Mapping[str, int]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class ListResponsesRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListResponsesResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[Response]
    def __init__(self, responses: _Optional[_Iterable[_Union[Response, _Mapping]]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("time", "action", "rule", "target", "result", "detail", "event")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    time: int
    action: str
    rule: str
    target: str
    result: str
    detail: str
    event: str
    def __init__(self, time: _Optional[int] = ..., action: _Optional[str] = ..., rule: _Optional[str] = ..., target: _Optional[str] = ..., result: _Optional[str] = ..., detail: _Optional[str] = ..., event: _Optional[str] = ...) -> None: ...

class TestActionRequest(_message.Message):
    __slots__ = ("action",)
    ACTION_FIELD_NUMBER: _ClassVar[int]
    action: str
    def __init__(self, action: _Optional[str] = ...) -> None: ...

class TestActionResponse(_message.Message):
    __slots__ = ("delivered", "problem", "seconds")
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    delivered: bool
    problem: str
    seconds: float
    def __init__(self, delivered: _Optional[bool] = ..., problem: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("action",)
    ACTION_FIELD_NUMBER: _ClassVar[int]
    action: str
    def __init__(self, action: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    def __init__(self, letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("id", "action", "rule", "time", "tries", "problem")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    action: str
    rule: str
    time: int
    tries: int
    problem: str
    def __init__(self, id: _Optional[str] = ..., action: _Optional[str] = ..., rule: _Optional[str] = ..., time: _Optional[int] = ..., tries: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class RetryDeadLettersRequest(_message.Message):
    __slots__ = ("action",)
    ACTION_FIELD_NUMBER: _ClassVar[int]
    action: str
    def __init__(self, action: _Optional[str] = ...) -> None: ...

class RetryDeadLettersResponse(_message.Message):
    __slots__ = ("retried",)
    RETRIED_FIELD_NUMBER: _ClassVar[int]
    retried: int
    def __init__(self, retried: _Optional[int] = ...) -> None: ...

class CreateMuteRequest(_message.Message):
    __slots__ = ("rule", "where", "for_ns", "why")
    class WhereEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RULE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    FOR_NS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    rule: str
    where: _containers.ScalarMap[str, str]
    for_ns: int
    why: str
    def __init__(self, rule: _Optional[str] = ..., where: _Optional[_Mapping[str, str]] = ..., for_ns: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class CreateMuteResponse(_message.Message):
    __slots__ = ("mute",)
    MUTE_FIELD_NUMBER: _ClassVar[int]
    mute: Mute
    def __init__(self, mute: _Optional[_Union[Mute, _Mapping]] = ...) -> None: ...

class RemoveMuteRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RemoveMuteResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMutesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMutesResponse(_message.Message):
    __slots__ = ("mutes",)
    MUTES_FIELD_NUMBER: _ClassVar[int]
    mutes: _containers.RepeatedCompositeFieldContainer[Mute]
    def __init__(self, mutes: _Optional[_Iterable[_Union[Mute, _Mapping]]] = ...) -> None: ...

class Mute(_message.Message):
    __slots__ = ("id", "rule", "where", "until", "made", "why", "hidden")
    class WhereEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    rule: str
    where: _containers.ScalarMap[str, str]
    until: int
    made: int
    why: str
    hidden: int
    def __init__(self, id: _Optional[str] = ..., rule: _Optional[str] = ..., where: _Optional[_Mapping[str, str]] = ..., until: _Optional[int] = ..., made: _Optional[int] = ..., why: _Optional[str] = ..., hidden: _Optional[int] = ...) -> None: ...
