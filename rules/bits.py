"""Which products have a bit of their own in the kernel, and which share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from bpfd.rules.products import Product

BITS = 64
"""How many products the kernel tells apart."""

Groups = list[list[Product]]
"""For each bit, the products that have it."""


def share(products: list[Product], alone: set[int], inexact: dict[int, str]) -> Groups:
    """A bit for each product while there are bits; else those of one shape share, and only `alone` keep their own."""
    if len(products) <= BITS:
        return [[product] for product in products]
    own = [product for product in products if product.rule in alone][: BITS // 2]
    kept = {id(product) for product in own}
    shapes: dict[tuple[object, ...], list[Product]] = defaultdict(list)
    for product in products:
        if id(product) not in kept:
            shapes[product.shape].append(product)
            inexact.setdefault(product.rule, f"there are more than {BITS} alternatives in this tracer's rules")
    groups = [[product] for product in own]
    return groups + _divide(sorted(shapes.values(), key=len, reverse=True), BITS - len(groups))


def _divide(shapes: Groups, bits: int) -> Groups:
    """Spread the shapes over `bits` groups, the larger ones over more; shapes beyond that share the last."""
    if len(shapes) > bits:
        shapes = [*shapes[: bits - 1], [product for shape in shapes[bits - 1 :] for product in shape]]
    total = sum(map(len, shapes))
    spare = bits - len(shapes)
    groups: Groups = []
    for shape in shapes:
        parts = min(len(shape), 1 + spare * len(shape) // total)
        groups += [shape[first::parts] for first in range(parts)]
    return groups


def exact(groups: Groups, inexact: Mapping[int, str], rules: int) -> dict[int, int]:
    """For each rule that the kernel decides alone, its bits."""
    bits = {rule: 0 for rule in range(rules) if rule not in inexact}
    for number, group in enumerate(groups):
        if group[0].rule in bits:
            bits[group[0].rule] |= 1 << number
    return bits
