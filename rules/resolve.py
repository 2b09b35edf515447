"""A condition's syntax tree given its meaning: fields with their types, macros and lists put in."""

from __future__ import annotations

from collections.abc import Mapping

from bpfd.plugin import Field
from bpfd.rules import clauses, condition, fields, values
from bpfd.rules.context import Context
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import All, Any, Condition, Not, Operator, Test
from bpfd.rules.nearest import hint, quoted

MOST_CLAUSES = 10_000
"""How many clauses a condition may have once its macros are put in."""

_TEXT: Mapping[str, tuple[Operator, bool]] = {
    "=": ("is", False),
    "==": ("is", False),
    "in": ("is", False),
    "contains": ("contains", False),
    "icontains": ("contains", True),
    "startswith": ("prefix", False),
    "endswith": ("suffix", False),
    "glob": ("glob", False),
    "iglob": ("glob", True),
    "regex": ("regex", False),
}
"""Each operator with the rule's own, and whether it ignores case."""
_WORDS: Mapping[str, str] = {
    "is": "=, !=, in",
    "contains": "contains",
    "prefix": "startswith",
    "suffix": "endswith",
    "glob": "glob",
    "regex": "regex",
    "above": ">, >=",
    "below": "<, <=",
    "exists": "exists",
}
"""The rule's own operators as a condition has them."""


def resolve(node: condition.Node, context: Context, path: KeyPath) -> Condition:
    """The tree of `node`. Notes every problem at `path`; the tree then means nothing."""
    try:
        return _Resolver(context, path).tree(node, 0, ())
    except condition.ConditionError as error:
        context.problems.add(path, str(error))
        return All()


class _Resolver:
    """Bounded in depth and in clauses, so that macros that double each other end in an error."""

    def __init__(self, context: Context, path: KeyPath) -> None:
        self._context = context
        self._path = path
        self._clauses = 0

    def tree(self, node: condition.Node, depth: int, macros: tuple[str, ...]) -> Condition:
        if depth > 2 * condition.MOST_DEEP:
            what = f"is nested more than {condition.MOST_DEEP} deep with its macros put in; make it simpler"
            raise condition.ConditionError(what)
        match node:
            case condition.Both():
                return All(tuple(self.tree(part, depth + 1, macros) for part in node.parts))
            case condition.Either():
                return Any(tuple(self.tree(part, depth + 1, macros) for part in node.parts))
            case condition.Negated():
                return Not(self.tree(node.part, depth + 1, macros))
            case condition.Macro():
                return self._macro(node.name, depth, macros)
            case condition.Compare():
                return self._compare(node)

    def _macro(self, name: str, depth: int, macros: tuple[str, ...]) -> Condition:
        known = self._context.known.definitions.macros
        if name in macros:
            circle = " → ".join((*macros[macros.index(name) :], name))
            raise condition.ConditionError(f"the macro {quoted(name)} refers to itself ({circle}); break the circle")
        if name not in known:
            if self._context.fields is not None and fields.find(name, self._context.fields):
                what = f'{quoted(name)} is a field; compare it with something, as in "{name} exists"'
                raise condition.ConditionError(what)
            raise condition.ConditionError(f"there is no macro {quoted(name)}; {hint(name, known, 'macros')}")
        return self.tree(known[name], depth + 1, (*macros, name))

    def _compare(self, node: condition.Compare) -> Condition:
        self._clauses += 1
        if self._clauses > MOST_CLAUSES:
            raise condition.ConditionError(
                f"has more than {MOST_CLAUSES} clauses with its macros put in; split the rule"
            )
        field = self._context.field(node.field, self._path)
        if field is None:
            return All()
        if node.operator == "exists":
            return Test(field.name, "exists")
        if node.operator == "!=":
            return _opposite(self._test(field, "=", node.items))
        if node.operator in ("<", "<=", ">", ">="):
            return self._order(field, node.operator, node.items[0].text)
        if node.operator == "pmatch":
            return self._below_path(field, node.items)
        return self._test(field, node.operator, node.items)

    def _test(self, field: Field, operator: str, items: tuple[condition.Item, ...]) -> Condition:
        own, ignore_case = _TEXT[operator]
        texts = self._texts(items) if operator == "in" else [item.text for item in items]
        if texts == [""] and own == "is" and fields.is_text(field):
            return Not(Test(field.name, "exists"))
        if own == "is" and field.type == "address" and field.show is None:
            own = "net"  # Falco's language has no operator of its own for networks
        if not clauses.fits(field, own, self._context, self._path, _WORDS):
            return All()
        test = clauses.make(field, own, texts if len(texts) != 1 else texts[0], self._context, self._path, ignore_case)
        return test or All()

    def _texts(self, items: tuple[condition.Item, ...]) -> list[str]:
        """The values of a list; a word that is a list's name stands for what is in it."""
        lists = self._context.known.definitions.lists
        texts: list[str] = []
        for item in items:
            texts += [item.text] if item.in_quotes or item.text not in lists else lists[item.text]
        return texts

    def _order(self, field: Field, operator: str, text: str) -> Condition:
        """Only `above` and `below` are in the tree: one more or one less makes `>=` and `<=` of them."""
        above = operator[0] == ">"
        if not clauses.fits(field, "above" if above else "below", self._context, self._path, _WORDS):
            return All()
        try:
            limit = values.number(text, field)
        except ValueError as error:
            self._context.problems.add(self._path, str(error))
            return All()
        low, high = values.LIMITS[field.type]
        if operator in (">=", "<="):
            if limit == (low if above else high):
                return Test(field.name, "exists")
            limit += -1 if above else 1
        return Test(field.name, "above" if above else "below", (str(limit),))

    def _below_path(self, field: Field, items: tuple[condition.Item, ...]) -> Condition:
        """`pmatch`: one of these paths, or something below one of them."""
        if not clauses.fits(field, "prefix", self._context, self._path, _WORDS):
            return All()
        paths = [text.rstrip("/") for text in self._texts(items)]
        below = clauses.make(field, "prefix", [f"{path}/" for path in paths], self._context, self._path)
        whole = [path for path in paths if path]
        same = clauses.make(field, "is", whole, self._context, self._path) if whole else None
        return Any(tuple(test for test in (same, below) if test))


def _opposite(tree: Condition) -> Condition:
    return tree.part if isinstance(tree, Not) else Not(tree)
