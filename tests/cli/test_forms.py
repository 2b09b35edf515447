"""How `bpfd run` prints events: as a table, as CSV, and as JSON lines."""

from __future__ import annotations

import csv
import io
import json

import pytest

from bpfd.cli.forms import WIDEST, Csv, JsonLines, Table
from bpfd.event import HOST
from bpfd.plugin import Field
from tests.api.fake_control import EVENT

FIELDS = (
    Field("filename", "", length=4096, example="/etc/shadow"),
    Field("mode", "", type="u64", example="0644"),
)
OPENED = EVENT._replace(data={"filename": "/etc/shadow", "mode": "0644"}, user="www")
HOSTILE = 'a\n\x1b[2J\u202eb\udcff,"c'


def table_of(*events: object, screen_lines: int = 0) -> list[str]:
    table = Table(FIELDS, screen_lines)
    return (table.head() + "".join(table.line(event) for event in events)).splitlines()


def csv_of(*events: object) -> list[dict[str, str]]:
    form = Csv(FIELDS)
    text = form.head() + "".join(form.line(event) for event in events)
    assert text.count("\n") == 1 + len(events), "a line an event"
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_have_the_names_that_rules_use_and_long_texts_come_last() -> None:
    head, row = table_of(OPENED)
    assert head.split() == ["time", "command", "pid", "container", "returned", "mode", "filename"]
    assert row.split()[1:] == ["cat", "41", "web", "EACCES", "0644", "/etc/shadow"]
    for name, text in (("command", "cat"), ("pid", "41"), ("container", "web"), ("filename", "/etc/shadow")):
        assert head.index(name) == row.index(text), name


def test_what_is_empty_is_a_dash_and_a_container_without_a_name_its_short_id() -> None:
    unnamed = OPENED.container._replace(id="0123456789abcdef", name="")
    host, container = table_of(OPENED._replace(container=HOST, data={}), OPENED._replace(container=unnamed))[1:]
    assert host.split()[3:] == ["-", "EACCES", "-", "-"]
    assert container.split()[3] == "0123456789ab"


def test_a_column_grows_with_what_is_in_it_and_only_so_far() -> None:
    long, longer = "m" * (WIDEST - 2), "m" * (WIDEST + 9)
    rows = table_of(*(OPENED._replace(data={"filename": "/x", "mode": mode}) for mode in (long, "0", longer, "0")))
    first, second, third, fourth = (row.index("/x") for row in rows[1:])
    assert first == second
    assert third > fourth == second + 2
    assert longer in rows[3], "nothing is cut"


def test_the_header_comes_again_with_each_screen_of_a_terminal() -> None:
    lines = table_of(*[OPENED] * 7, screen_lines=4)
    assert [number for number, line in enumerate(lines) if line.startswith("time")] == [0, 4, 8]
    assert len([line for line in table_of(*[OPENED] * 100) if line.startswith("time")]) == 1


def test_hostile_text_breaks_no_line_and_is_no_cell_of_its_own() -> None:
    spaced = OPENED._replace(command='x  41  "y', data={"filename": HOSTILE, "mode": "-"})
    _, row = table_of(spaced)
    assert row.isprintable()
    assert '"x  41  \\"y"' in row
    assert 'a\\n\\x1b[2J\\u202eb\\xff,"c' in row
    assert '"-"' in row


def test_wide_and_combining_characters_keep_the_columns_aligned() -> None:
    rows = table_of(OPENED._replace(command="日本"), OPENED._replace(command="e\u0301e"), OPENED)[1:]
    wide, combining, plain = (row.index("41") for row in rows)
    assert (wide + 2, combining - 1) == (plain, plain)


def test_csv_has_all_of_the_identity_and_every_field() -> None:
    [row] = csv_of(OPENED)
    assert row["time"] == str(EVENT.time)
    assert (row["command"], row["pid"], row["tid"], row["uid"], row["user"]) == ("cat", "41", "42", "1000", "www")
    assert (row["containerID"], row["containerName"], row["containerImage"]) == ("c0ffee", "web", "nginx:1")
    assert (row["returnValue"], row["filename"], row["mode"]) == ("-13", "/etc/shadow", "0644")
    assert len(row) == len(set(row))


def test_what_a_tracer_calls_as_every_event_does_is_the_tracers() -> None:
    form = Csv((Field("duration", "", type="u64"), Field("parent", "")))
    event = EVENT._replace(data={"duration": "7"}, duration=9, parent="sh")
    [row] = csv.DictReader(io.StringIO(form.head() + form.line(event)))
    assert (row["duration"], row["parent"]) == ("7", "sh")


def test_csv_quotes_what_it_must_and_escapes_what_breaks_lines() -> None:
    [row] = csv_of(OPENED._replace(command=HOSTILE, data={"filename": 'a,"b",c\r\nd'}))
    assert row["command"] == 'a\\n\\x1b[2J\\u202eb\\xff,"c'
    assert row["filename"] == 'a,"b",c\\r\\nd'
    assert row["mode"] == ""


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x","y")', "\uff1d1", "-"],
)
def test_no_cell_of_csv_is_a_formula(formula: str) -> None:
    [row] = csv_of(OPENED._replace(data={"filename": formula}))
    assert row["filename"][0] == "'"
    assert row["filename"][1:].startswith(formula[0] if formula[0].isprintable() else "\\")


def test_a_number_below_zero_is_no_formula() -> None:
    assert csv_of(OPENED)[0]["returnValue"] == "-13"


def test_json_lines_are_those_of_everywhere() -> None:
    form = JsonLines()
    line = form.line(OPENED._replace(command=HOSTILE))
    assert form.head() == ""
    assert line.count("\n") == 1
    assert json.loads(line) == json.loads(OPENED._replace(command=HOSTILE).to_json())
