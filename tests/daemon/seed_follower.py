"""A client made from the seed's proto that prints every event as JSON; a program of its own.

`seed_follower.py TARGET`
"""

import json
import sys

import grpc
import seed_pb2 as pb
import seed_pb2_grpc

NAMES = ("PID", "TGID", "UID", "GID", "command", "returnValue", "containerID", "containerRuntime", "tracer")

with grpc.insecure_channel(sys.argv[1]) as channel:
    trace = seed_pb2_grpc.APIStub(channel).LiveTrace(pb.LiveTraceRequest())
    trace.initial_metadata()
    print("following", file=sys.stderr, flush=True)
    for event in trace:
        print(json.dumps({name: getattr(event, name) for name in NAMES} | {"data": dict(event.data)}), flush=True)
