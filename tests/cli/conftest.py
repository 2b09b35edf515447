from tests.api.serving import control, server, socket_dir
from tests.cli.program import Bpfd, bpfd

__all__ = ["Bpfd", "bpfd", "control", "server", "socket_dir"]
