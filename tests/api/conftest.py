from tests.api.serving import client, control, server, socket_dir

__all__ = ["client", "control", "server", "socket_dir"]
