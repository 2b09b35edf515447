"""A client made from the seed's proto; a program of its own, so that it knows nothing of bpfd's messages.

`seed_client.py TARGET`: creates, lists, follows one event, removes; prints what it saw as JSON.
"""

import json
import sys

import grpc
import seed_pb2 as pb
import seed_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    api = seed_pb2_grpc.APIStub(channel)
    rule = pb.Rule(name="sh", tracer="open", containerRuntimes=["docker"], actions=["stdout"])
    rule.filterEvents["filename"].values.extend(["/etc/shadow", 'a"b\n\x7f'])
    api.CreateRule(pb.CreateRuleRequest(rule=rule))
    api.CreateRule(pb.CreateRuleRequest(rule=rule))
    rules = [str(item) for item in api.ListRules(pb.ListRulesRequest()).rules]
    trace = api.LiveTrace(pb.LiveTraceRequest())
    event = next(trace)
    trace.cancel()
    api.RemoveRule(pb.RemoveRuleRequest(name="sh", tracer="open"))
    codes = []
    for call, request in (
        (api.RemoveRule, pb.RemoveRuleRequest(name="sh")),
        (api.CreateRule, pb.CreateRuleRequest()),
        (api.CreateRule, pb.CreateRuleRequest(rule=pb.Rule(name="x" * 300, tracer="open"))),
    ):
        try:
            call(request)
        except grpc.RpcError as error:
            codes.append(error.code().name)
    same = rules == [str(rule)]
    names = ("PID", "TGID", "UID", "GID", "command", "returnValue", "containerID", "containerRuntime", "tracer")
    shown = {name: getattr(event, name) for name in names} | {"data": dict(event.data)}
    print(json.dumps({"same": same, "event": shown, "codes": codes}))
