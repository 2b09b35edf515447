"""python -m tests.bench [SECTION…] [--json FILE]"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from tests.bench import alert_cost, container_cost, daemon_cost, kernel_cost, start_cost, tracer_cost
from tests.bench.table import Section, Table

SECTIONS: dict[str, Section] = {
    "tracers": tracer_cost.measure,
    "kernel": kernel_cost.measure,
    "daemon": daemon_cost.measure,
    "alerts": alert_cost.measure,
    "containers": container_cost.measure,
    "start": start_cost.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all if none is named"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to FILE too")
    args = parser.parse_args()
    unknown = set(args.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if os.geteuid() != 0:
        parser.error("loads BPF programs; run it as root")
    table = Table()
    print(f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} processors")
    for name in args.sections or SECTIONS:
        SECTIONS[name](table)
    if args.json:
        table.save(args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
