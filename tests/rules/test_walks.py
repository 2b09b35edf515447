"""What a plan's walks of a text leave is what Python says, wherever they skip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bpfd.plugin import Field
from bpfd.rules import model, patterns, plan
from bpfd.rules.model import All, Any, Condition, Not
from bpfd.rules.plan import TextPlan

WALK = 512
FIELDS = (Field("text", "any text", length=WALK), Field("words", "a text with NUL as space", length=WALK, spaces=True))
LETTERS = ("ab", "aB/ .", "abcdefghijkl/ ", "aA@`\x00 ", "éÉaA…", "kK\u212a[{")
"""Alphabets: of few bytes, of more than a sieve looks for one by one, of bytes that it takes for one, of long ones."""
RANGES = ((1, 2), (3, 3, 4), (5, 6), (6, 7, 8), (7, 9, 20), (254, 255, 256), (257, 510, 511))
LENGTHS = tuple(map(st.sampled_from, RANGES))
"""Bytes of what is looked for: the shortest tells which sieve there is."""
OPERATORS = (
    ("contains",),
    ("prefix", "suffix", "is", "contains"),
    ("contains", "prefix", "glob", "regex"),
    ("glob", "regex"),
)
GLOBS = ["{0}*{1}", "*{0}?{1}", "*{0}*{1}*", "{0}?", "[!{0}]*", "?*", "*", "*{0}[ab]", "/*/{0}"]
REGEXES = [
    "^{0}", "{0}$", "^{0}$", "{0}.{1}", "^{0}.*{1}", "({0}|{1})b", "^/{0}[^/]*$", "{0}+$", "(?i){2}", "{2}.?a",
    "[{2}b]a?", "^[^{2}]*$", "$", r"\b{0}", "^.?$", "^(a|{0})+{1}",
]  # fmt: skip
"""Some are dead once their text has begun otherwise, some are not."""


def escaped(text: str) -> str:
    """As a regular expression that finds that text, or as a glob."""
    return "".join(c if c.isalnum() or ord(c) > 127 or c in " /\n" else f"\\x{ord(c):02x}" for c in text)


@st.composite
def rules_and_texts(draw: st.DrawFn) -> tuple[list[Condition], list[bytes]]:
    """Rules on one field, and texts in which what they look for begins at each of the first places and ends early."""
    letters = draw(st.sampled_from(LETTERS))
    lengths = draw(st.sampled_from(LENGTHS))
    known = [draw(some_text(letters, length)) for length in draw(st.lists(lengths, min_size=1, max_size=3))]
    rules: list[Condition] = []
    if draw(st.integers(0, 3)) == 0:  # more begins than are looked for one by one
        known = [first + word[1:] for first, word in zip("abcdefghijkl", known * 12, strict=False)]
        rules.append(model.Test("text", "contains", tuple(known), draw(st.booleans())))
    operators = draw(st.sampled_from(OPERATORS))
    for _ in range(draw(st.integers(1, 4))):
        clause = draw(clauses(draw(st.sampled_from(operators)), known))
        rules.append(Not(clause) if draw(st.integers(0, 4)) == 0 else clause)
    if len(rules) > 1 and draw(st.booleans()):
        rules.append(Any(tuple(rules[:2])))
    filler = draw(st.text(letters, min_size=9, max_size=9)).encode()
    stray = draw(st.sampled_from([b"", b"\xc3", b"\xff", b"\0", b" ", b"A", b"\xe2\x80"]))
    texts = [filler[:7], stray, b""]
    for word in map(str.encode, known[:3]):
        for text in (word + filler[:3], word, word[:-1] + stray, word.swapcase() + word, word + b"a" + word):
            texts += [filler[at:] + text for at in range(len(filler) + 1)]
    return rules, [text[:WALK] for text in texts]


def some_text(letters: str, length: int) -> st.SearchStrategy[str]:
    """Long ones are a few letters again and again: they have parts of themselves inside."""
    return st.text(letters, min_size=1, max_size=min(length, 12)).map(lambda unit: (unit * length)[:length])


def clauses(operator: str, known: Sequence[str]) -> st.SearchStrategy[Condition]:
    text = st.sampled_from(known)
    values = text
    if operator in ("glob", "regex"):
        made = [text.replace("\0", "a")[:12] for text in known]
        write = escaped if operator == "regex" else (lambda text: text.replace("[", "?"))
        values = st.builds(
            lambda shape, one, other: shape.format(write(one), write(other[:3]), write(one[:1])),
            st.sampled_from(GLOBS if operator == "glob" else REGEXES),
            st.sampled_from(made),
            st.sampled_from(made),
        )
    listed = st.lists(values, min_size=1, max_size=max(2, len(known))).map(tuple)
    return st.builds(model.Test, st.just("text"), st.just(operator), listed, st.booleans())


def judge(rule: Condition) -> Callable[[str], bool]:
    """Python's word on a text."""
    match rule:
        case Not(part):
            inner = judge(part)
            return lambda text: not inner(text)
        case Any(parts):
            each = [judge(part) for part in parts]
            return lambda text: any(one(text) for one in each)
        case model.Test():
            return patterns.judge(rule)
    raise AssertionError(rule)


def about(rule: Condition, field: str) -> Condition:
    """The same rule on another field."""
    match rule:
        case model.Test():
            return model.Test(field, rule.operator, rule.values, rule.ignore_case)
        case Not(part):
            return Not(about(part, field))
        case All(parts) | Any(parts):
            return type(rule)(tuple(about(part, field) for part in parts))


class Law:
    """The kernel drops nothing that Python would match, and where it claims to be exact it is."""

    def __init__(self, made: plan.Plan, rules: Sequence[Condition]) -> None:
        self._judges = [judge(rule) for rule in rules]
        self._bits = [
            sum(1 << bit for bit, of in enumerate(made.rules_of) if number in of) for number in range(len(rules))
        ]
        self._plan, self._rules = made, rules

    def hold(self, bits: int, text: Sequence[str], raw: bytes) -> None:
        """Of `raw` the kernel left `bits`; `text` is what Python judges, for each rule."""
        for number, (of_rule, wants, shown) in enumerate(zip(self._bits, self._judges, text, strict=True)):
            wanted = wants(shown)
            assert bits & of_rule or not wanted, ("lost", self._rules[number], raw)
            if number in self._plan.exact_bits and len(raw) < WALK:
                assert wanted or not bits & of_rule, ("one too many", self._rules[number], raw)


def left(walks: tuple[TextPlan, ...], bits: int, text: bytes) -> int:
    """The bits that the kernel leaves, as bpfd_judge_text in filter.h does."""
    for walk in walks:
        found = [automaton.walk(text) for automaton in walk.automata]
        if not any(mask.undecided for mask in found):
            wanted = refused = 0
            for mask in found:
                wanted, refused = wanted | mask.wanted, refused | mask.refused
            bits &= (walk.free | wanted) & ~refused
    return bits


@settings(max_examples=100, deadline=None)
@given(rules_and_texts(), st.sampled_from(["text", "words"]))
def test_walks_leave_what_python_matches_and_no_more_where_they_are_exact(
    given: tuple[list[Condition], list[bytes]], field: str
) -> None:
    rules = [about(rule, field) for rule in given[0]]
    made = plan.make(rules, FIELDS)
    law = Law(made, rules)
    for text in given[1]:
        if len(text) < WALK:
            shown = (text.replace(b"\0", b" ") if field == "words" else text).decode("utf-8", "surrogateescape")
            law.hold(left(made.texts[field], made.bits, text), [shown] * len(rules), text)
