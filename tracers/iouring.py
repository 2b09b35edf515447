"""What programs have done through io_uring, past the system calls that others watch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags, TracerMap
from bpfd.tracers import constants
from bpfd.tracers.names import plain
from bpfd.tracers.open import flags_text

SETUP = {
    name: 1 << bit
    for bit, name in enumerate(
        "IORING_SETUP_IOPOLL IORING_SETUP_SQPOLL IORING_SETUP_SQ_AFF IORING_SETUP_CQSIZE IORING_SETUP_CLAMP "
        "IORING_SETUP_ATTACH_WQ IORING_SETUP_R_DISABLED IORING_SETUP_SUBMIT_ALL IORING_SETUP_COOP_TASKRUN "
        "IORING_SETUP_TASKRUN_FLAG IORING_SETUP_SQE128 IORING_SETUP_CQE32 IORING_SETUP_SINGLE_ISSUER "
        "IORING_SETUP_DEFER_TASKRUN IORING_SETUP_NO_MMAP IORING_SETUP_REGISTERED_FD_ONLY IORING_SETUP_NO_SQARRAY "
        "IORING_SETUP_HYBRID_IOPOLL IORING_SETUP_CQE_MIXED".split()
    )
}
"""include/uapi/linux/io_uring.h"""


def operations() -> Mapping[int, str]:
    """This kernel's operations, without the end mark of the enum."""
    names = constants.of_kernel("io_uring_op", "IORING_OP_", cut=True)
    return {number: name for number, name in names.items() if name != "LAST"}


class IouringTracer(BPFTracer):
    """What programs have done through io_uring: no tracer of system calls sees it.

    A request is told when it is submitted, with what it is for, and when it is complete, with its result as
    `returnValue`: `request` and the process tie the two together. Names are those that the kernel copied, so the
    program can't change them any more; `path` is the name made absolute, not followed, or where the operation is on a
    descriptor the path of its file. A program that does much through io_uring makes two events for each operation:
    name in a rule the `action` and `operation` that matter. It misses the addresses of connections, the names of
    extended attributes and files by the ring's own table (IOSQE_FIXED_FILE). Requests that the kernel refuses before
    they are prepared are not submitted: they are complete at once. What the kernel's own threads do for a process
    (IORING_SETUP_SQPOLL, workers) has the process's `pid`, and their names as `command`: iou-sqp-PID, iou-wrk-PID.
    Linux 6.4 or later.
    """

    name = "iouring"
    fields = (
        Field("action", "create, submit or complete", length=16, example="submit"),
        Field(
            "operation",
            "submit and complete: what is done; a number if it has no name",
            length=constants.NAME_BYTES,
            optional=True,
            example="OPENAT",
        ),
        Field("filename", "the name of the file", length=4096, optional=True, example="../etc/shadow"),
        Field(
            "path",
            "the name made absolute, or the path of the descriptor's file",
            length=8192,
            late=True,
            normalised=True,
            optional=True,
            example="/etc/shadow",
        ),
        Field(
            "new_filename",
            "renames and links: the new name",
            length=4096,
            optional=True,
            example="/var/lib/.hidden",
        ),
        Field(
            "new_path",
            "renames and links: the new name made absolute",
            length=8192,
            late=True,
            normalised=True,
            optional=True,
            example="/var/lib/.hidden",
        ),
        Field("flags", "opens: how", type="u64", show=flags_text, optional=True, example="O_RDONLY|O_CLOEXEC"),
        Field(
            "request",
            "submit and complete: what the program calls the request (user_data)",
            type="u64",
            optional=True,
            example="7",
        ),
        Field(
            "polled", "submit: by a thread of the kernel, without a call", type="bool", optional=True, example="true"
        ),
        Field("entries", "create: the room for requests", type="u64", optional=True, example="256"),
        Field(
            "setup_flags",
            "create: how the ring works",
            type="u64",
            show=Flags(SETUP),
            optional=True,
            example="IORING_SETUP_SQPOLL",
        ),
    )
    program = Path(__file__).with_name("iouring.c")
    probes = (
        "tracepoint:io_uring:io_uring_create",
        "tracepoint:io_uring:io_uring_submit_req",
        "tracepoint:io_uring:io_uring_complete",
    )

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        constants.fill(maps, operations())

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """Flags belong to opens alone; paths are made plain."""
        operation = data.get("operation", "")
        if operation.isdigit():
            constants.settle(data, "operation", operations())
        if data["action"] == "submit" and data["operation"].startswith("OPENAT"):
            data.setdefault("flags", flags_text(0))
        for field in ("path", "new_path"):
            if field in data:
                data[field] = plain(data[field])
