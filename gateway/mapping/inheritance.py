"""What a mapping inherits: `extends` resolved, every part at the place where it was written."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from gateway.diagnostic import Diagnostic, Span, did_you_mean
from gateway.mapping.document import Node, Scalar, Table
from gateway.mapping.document import Sequence as ListNode

_OWN = ("title", "without_rules")
"""Keys that are about one mapping alone."""

MAX_STEPS = 8
"""From a mapping to the one that extends no other; nobody follows more."""


class Document(Struct, frozen=True):
    """A file's document. `key` is the source or kind that it describes, empty where that is not
    said, and `place` is where it says so. Of one source, the file of the highest layer is in force."""

    file: str
    layer: int
    node: Table
    key: str
    place: Span


class Whole(Struct, frozen=True):
    """A mapping's document with all that it inherits. `is_whole` is false where what it extends,
    directly or through others, was not found."""

    node: Table
    findings: tuple[Diagnostic, ...] = ()
    is_whole: bool = True


def word(node: Node | None) -> str:
    """The text that a node is, empty where it is none."""
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""


def whole(mapping: Document, mappings: Sequence[Document]) -> Whole:
    """The mapping with what it inherits from the others."""
    chain, missing = _chain(mapping, mappings)
    root, *children = reversed(chain)
    node = root.node
    findings = [missing] if missing else list(_nothing_to_remove(root))
    for child in children:
        removals = _removals(child.node)
        if missing is None:
            findings += _wrong_removals(removals, node, child.node)
        node = _merged(_without(node, removals), child.node)
    return Whole(node, tuple(findings), is_whole=missing is None)


def _chain(
    mapping: Document, mappings: Sequence[Document]
) -> tuple[list[Document], Diagnostic | None]:
    """The mapping, what it extends, what that extends and so on, and why the chain ends too early."""
    chain = [mapping]
    while extends := _extends(chain[-1]):
        name, last = word(extends), chain[-1]
        # A source may extend the one of its own name that it overrides, in a lower layer.
        candidates = [
            other
            for other in mappings
            if other.key == name and (other.layer < last.layer if name == last.key else True)
        ]
        if not candidates:
            known = {other.key for other in mappings if other.key and other.key != last.key}
            message = f"there is no source `{name}` to extend"
            mend = did_you_mean(name, known)
            return chain, Diagnostic(extends.span, "unknown-source", message, mend)
        parent = max(candidates, key=lambda other: other.layer)
        if parent.file in [one.file for one in chain]:
            message = f"`{name}` extends this source in turn"
            mend = "one of them must say by itself what the others start from"
            return chain, Diagnostic(extends.span, "circular-extends", message, mend)
        if len(chain) > MAX_STEPS:
            first = _extends(mapping) or extends
            message = f"it takes more than {MAX_STEPS} steps to a source that extends no other"
            mend = "let one in between say by itself what it starts from"
            return chain, Diagnostic(first.span, "long-extends", message, mend)
        chain.append(parent)
    return chain, None


def _extends(mapping: Document) -> Scalar | None:
    """What a mapping extends. That it is no text is said where the shape is read."""
    extends = mapping.node.get("extends")
    return extends if isinstance(extends, Scalar) and word(extends) else None


# Rules removed


def _removals(child: Table) -> list[Scalar]:
    """The names of the rules that a mapping does not inherit."""
    names = child.get("without_rules")
    items = names.items if isinstance(names, ListNode) else ()
    return [item for item in items if isinstance(item, Scalar) and word(item)]


def _nothing_to_remove(root: Document) -> Iterator[Diagnostic]:
    for key, _ in root.node.entries:
        if key.value == "without_rules" and root.node.get("extends") is None:
            message = "`without_rules` removes inherited rules, and this mapping inherits none"
            mend = "name the source to start from with `extends:`, or remove this key"
            yield Diagnostic(key.span, "nothing-to-remove", message, mend)


def _wrong_removals(
    removals: Sequence[Scalar], parent: Table, child: Table
) -> Iterator[Diagnostic]:
    """What is wrong with the names of `without_rules`, one by one."""
    rules = parent.get("rules")
    if not isinstance(rules, ListNode):
        return
    inherited = {_rule_name(rule) for rule in rules.items} - {""}
    given = {_rule_name(rule): rule.span.line for rule in _rules(child)}
    removed: set[str] = set()
    for removal in removals:
        name = word(removal)
        if name not in inherited:
            message = f"`{word(child.get('extends'))}` has no rule `{name}`"
            yield Diagnostic(removal.span, "unknown-rule", message, did_you_mean(name, inherited))
        elif name in removed:
            message = f"the rule `{name}` is removed already"
            yield Diagnostic(removal.span, "needless-removal", message, "name it once")
        elif name in given:
            message = f"the rule `{name}` is removed here and given in line {given[name]}"
            mend = "a rule of the same name replaces the inherited one: keep one of the two"
            yield Diagnostic(removal.span, "needless-removal", message, mend)
        removed.add(name)


def _without(parent: Table, removals: Sequence[Scalar]) -> Table:
    """The document without the rules of these names."""
    rules = parent.get("rules")
    if not removals or not isinstance(rules, ListNode):
        return parent
    names = {word(removal) for removal in removals}
    kept = tuple(rule for rule in rules.items if _rule_name(rule) not in names)
    # Where none is left, the culprit is the list that removed them.
    left = ListNode(kept, rules.span if kept else removals[0].span)
    entries = [(key, left if value is rules else value) for key, value in parent.entries]
    return Table(tuple(entries), parent.span)


# Parent and child as one


def _merged(parent: Table, child: Table) -> Table:
    entries = {
        str(key.value): (key, value) for key, value in parent.entries if key.value not in _OWN
    }
    for key, value in child.entries:
        inherited = entries.get(str(key.value), (key, None))[1]
        entries[str(key.value)] = (key, _inheriting(str(key.value), inherited, value))
    return Table(tuple(entries.values()), child.span)


def _inheriting(key: str, parent: Node | None, child: Node) -> Node:
    match key, parent, child:
        case "params", Table(), Table():
            return Table(_united(parent.entries, child.entries), child.span)
        case "rules", ListNode(), ListNode():
            return ListNode(_with_rules(parent.items, child.items), child.span)
    return child


def _united(
    parent: tuple[tuple[Scalar, Node], ...], child: tuple[tuple[Scalar, Node], ...]
) -> tuple[tuple[Scalar, Node], ...]:
    united = {key.value: (key, value) for key, value in parent}
    united |= {key.value: (key, value) for key, value in child}
    return tuple(united.values())


def _with_rules(parent: tuple[Node, ...], child: tuple[Node, ...]) -> tuple[Node, ...]:
    rules = list(parent)
    names = [_rule_name(rule) for rule in parent]
    for rule in child:
        name = _rule_name(rule)
        if name and name in names:
            # A second rule of the name is not a replacement: both stay, to be found as duplicates.
            rules[names.index(name)] = rule
            names[names.index(name)] = ""
        else:
            rules.append(rule)
    return tuple(rules)


def _rules(mapping: Table) -> tuple[Node, ...]:
    rules = mapping.get("rules")
    return rules.items if isinstance(rules, ListNode) else ()


def _rule_name(rule: Node) -> str:
    return word(rule.get("name")) if isinstance(rule, Table) else ""
