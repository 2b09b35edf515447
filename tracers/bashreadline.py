"""Lines typed into interactive bash, on the host and in containers."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field

_READLINE = "bash,rbash,sh+libreadline.so:readline"


class BashreadlineTracer(BPFTracer):
    """Lines typed into interactive bash, on the host and in containers, those started later too.

    Attaches to the function readline() in every file that runs as bash, rbash or sh, or in the libreadline that it
    uses: a line is told when it is given to the shell, before it is carried out. Containers have files of their own:
    they are attached to as their bash starts, and let go once none runs. It misses bash under another name, the line
    at which a bash is just waiting when the tracer is loaded, and what a bash without line editing reads (a script, a
    pipe).
    """

    name = "bashreadline"
    fields = (
        Field("line", "what was typed, as the shell gets it, without the line's end", length=4096, example="sudo -i"),
    )
    program = Path(__file__).with_name("bashreadline.c")
    probes = (f"uprobe:{_READLINE}", f"uretprobe:{_READLINE}")
    ring_bytes = 256 << 10
    counts = ("untracked",)
