"""The gRPC API: `bpfd.v1`, the first bpfd's own service `grpc.API`, health and reflection."""
