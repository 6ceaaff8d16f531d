"""Samples into the draft of a mapping: which kinds they are, where the fields are, what is to decide. Pure.

What is certain is drafted, what is likely is drafted with a remark, and what the samples do not show
is left for a person: a draft that guessed in silence would be worse than none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.authoring import envelope, recognise
from gateway.authoring.credentials import Credentials, credentials
from gateway.authoring.envelope import Named
from gateway.authoring.recognise import Found, Leaf, Path, Sample, Wanted
from gateway.fieldtype import FieldType
from gateway.mapping import document, grammar, shape
from gateway.mapping.compiler import SourceFile
from gateway.mapping.document import Table


class Field(Struct, frozen=True, kw_only=True):
    """A drafted field. `found` is None where the samples show nothing that fits."""

    name: str
    expression: str
    offset: str = ""
    found: Found | None = None
    decide: str = ""


class Rule(Struct, frozen=True, kw_only=True):
    """A drafted rule. `when` holds conditions that must all hold; `reads` are the paths that they
    and the other parts read."""

    name: str
    emit: str
    fields: tuple[Field, ...]
    when: tuple[str, ...] = ()
    each: str = ""
    decide: tuple[str, ...] = ()
    reads: frozenset[Path] = frozenset()


class Draft(Struct, frozen=True, kw_only=True):
    """A drafted mapping, as parts."""

    source: str
    credentials: Credentials
    event: Named | None
    delivery_id: Named | None
    environments: tuple[str, ...]
    rules: tuple[Rule, ...]


class UnknownKind(Exception):
    """No model describes the kind; `known` are those that models describe."""

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        super().__init__(kind)
        self.kind = kind
        self.known = tuple(known)


_NEAR = 1.0
"""Two paths whose scores are as near as this are for a person to choose between."""
_KIND_NEAR = 0.8
_ABOUT = 1.5
"""What a list's items score more for being what the kind is about: `commits`, for a commit."""
_LIST_PAYS = 2.2
"""By how much fields must fit better to go through any other list."""
_PRODUCTION = re.compile(r"(prod|production|live|prd)([-_. ].*)?", re.IGNORECASE)
_ENVIRONMENT = frozenset({"environment", "env", "stage", "tier"})


def kinds(files: Iterable[SourceFile]) -> dict[str, grammar.Model]:
    """The models among the files by their kind; the highest layer's is in force."""
    found: dict[str, grammar.Model] = {}
    for file in sorted(files, key=lambda file: file.layer):
        node, _ = document.parse(file.name, file.text)
        if isinstance(node, Table) and node.get("kind") is not None and not node.get("rules"):
            model, _, problems = shape.read(node, grammar.Model)
            if not problems:
                found[model.kind] = model
    return found


def draft(
    source: str, samples: Sequence[Sample], models: Mapping[str, grammar.Model], emit: str = ""
) -> Draft:
    """A draft for the source of these samples, of which there is at least one. Raises UnknownKind
    where `emit` names no model."""
    if emit and emit not in models:
        raise UnknownKind(emit, models)
    offered = [models[emit]] if emit else list(models.values())
    leaves = recognise.leaves(samples)
    event = envelope.event(samples, leaves)
    groups: dict[str, list[Sample]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault(event.values[number] if event else "", []).append(sample)
    sketches = [_sketch(source, name, group, offered) for name, group in groups.items()]
    whole = [one for one in sketches if one.is_whole] or [max(sketches, key=lambda one: one.score)]
    # Events that say nothing of the choice are left out where others of the samples do.
    certain = [one for one in whole if not (choice := _choice(one)) or _parts(one, choice[1])]
    rules = [rule for one in certain or whole for rule in _rules(one, event)]
    environments = {value: None for one in whole for value in one.environments}
    return Draft(
        source=source,
        credentials=_credentials(samples),
        event=event if any("event ==" in part for rule in rules for part in rule.when) else None,
        delivery_id=_delivery_id(samples, leaves, event),
        environments=tuple(environments),
        rules=_named_apart(rules),
    )


def _delivery_id(
    samples: Sequence[Sample], leaves: Sequence[Leaf], event: Named | None
) -> Named | None:
    found = envelope.delivery_id(samples, leaves)
    is_signed = _credentials(samples).keys["scheme"] == "standard-webhooks"
    if found is None or not is_signed or found.path is not None:
        return found
    # The id is among the headers that sign, which a case leaves out. Where it gives another header,
    # it would seem to say that this one is never sent.
    return None if event is not None and event.path is None else found


def _credentials(samples: Sequence[Sample]) -> Credentials:
    found = [credentials(sample.headers) for sample in samples]
    return next((one for one in found if one.header), found[0])


# Which kind


class _Sketch(Struct, frozen=True, kw_only=True):
    """The samples of one event as one kind. `rivals` are kinds that fit about as well."""

    event: str
    samples: tuple[Sample, ...]
    model: grammar.Model
    base: Path | None
    fields: Mapping[str, list[Found]]
    score: float
    is_whole: bool
    rivals: tuple[str, ...] = ()

    @property
    def environments(self) -> tuple[str, ...]:
        """The values of the environment that look like production, where there is an environment."""
        place = _environment(self)
        if place is None:
            return ()
        leaves = recognise.leaves(self.samples)
        values = [value for leaf in leaves if leaf.path == place.path for _, value in leaf.values]
        return tuple(dict.fromkeys(v for v in values if _PRODUCTION.fullmatch(str(v))))


def _sketch(
    source: str, event: str, samples: Sequence[Sample], offered: Sequence[grammar.Model]
) -> _Sketch:
    leaves = recognise.leaves(samples)
    lists = recognise.lists(samples)
    made = [_as_kind(source, event, samples, leaves, lists, model) for model in offered]
    # Of kinds that fit alike the one declared last: what a user adds is meant to be used.
    best = max(reversed(made), key=lambda one: one.score)
    rivals = [
        one.model.kind for one in made if one is not best and best.score - one.score < _KIND_NEAR
    ]
    return replace(best, rivals=tuple(rivals))


def _as_kind(
    source: str,
    event: str,
    samples: Sequence[Sample],
    leaves: Sequence[Leaf],
    lists: Sequence[Path],
    model: grammar.Model,
) -> _Sketch:
    topic = recognise.topic(model)
    wanted = _wanted(model)
    ranked = {one.name: recognise.ranked(one, leaves) for one in wanted}
    best: tuple[float, Path | None, dict[str, list[Found]]] | None = None
    for base in (None, *lists):
        about = bool(base and base[-1] and recognise.count_akin(recognise.words(base[-1]), topic))
        fields = {
            one.name: recognise.fitting(one, ranked[one.name], base, _ABOUT if about else 0.0)
            for one in wanted
        }
        total = sum(found[0].score for found in fields.values() if found)
        # Going through a list has to pay: what tells one event from another must fit clearly better.
        if base is not None and not _tells_apart(wanted, fields, base):
            continue
        if best is None or total > best[0] + (0.0 if about else _LIST_PAYS):
            best = (total, base, fields)
    total, base, fields = best or (0.0, None, {})
    needed = [[name] for name, one in model.fields.items() if one.required]
    needed += model.require_one_of
    told = [_told(model, group, fields) for group in needed]
    score = 4 * sum(told) / max(1, len(told)) - 2.0 * sum(one == 0 for one in told)
    about_it = _about(source, event, leaves, topic)
    score += about_it or -1.0
    score += 0.15 * sum(bool(fields[one.name]) for one in wanted if not one.required)
    return _Sketch(
        event=event,
        samples=tuple(samples),
        model=model,
        base=base,
        fields=fields,
        score=score,
        is_whole=all(told),
    )


def _tells_apart(wanted: Sequence[Wanted], fields: Mapping[str, list[Found]], base: Path) -> bool:
    """Whether the items of a list hold what identifies an event, rather than a name or a time."""
    telling = (FieldType.GIT_SHA, FieldType.IMAGE_DIGEST, FieldType.TEXT, FieldType.NUMBER)
    return any(
        recognise.is_inside(found[0].path, base)
        for one in wanted
        if one.type in telling and (found := fields[one.name])
    )


def _wanted(model: grammar.Model, about: str = "") -> list[Wanted]:
    return [
        recognise.wanted(name, field, about if field.type is FieldType.TIMESTAMP else "")
        for name, field in model.fields.items()
    ]


def _told(model: grammar.Model, group: Sequence[str], fields: Mapping[str, list[Found]]) -> float:
    """How well one of these fields is found, from 0 to 1. A name, a time and a choice can be filled
    in otherwise, so lacking them is not lacking the event."""
    scores = [fields[name][0].score for name in group if fields.get(name)]
    if scores and max(scores) >= recognise.ACCEPTED:
        return min(1.0, max(scores) / 8)
    types = {model.fields[name].type for name in group if name in model.fields}
    return 0.2 if types & {FieldType.APP, FieldType.TIMESTAMP, FieldType.CHOICE} else 0.0


def _about(source: str, event: str, leaves: Sequence[Leaf], topic: frozenset[str]) -> float:
    """How much the samples speak of a topic, from 0 to 4."""
    first = {key for leaf in leaves for key in leaf.keys[:1]}
    second = {key for leaf in leaves for key in leaf.keys[1:2]}
    said = 2.0 * bool(recognise.count_akin(recognise.words(source), topic))
    said += 3.0 * bool(recognise.count_akin(recognise.words(event), topic))
    said += 1.5 * bool(
        recognise.count_akin([w for key in first for w in recognise.words(key)], topic)
    )
    said += 0.7 * bool(
        recognise.count_akin([w for key in second for w in recognise.words(key)], topic)
    )
    return min(4.0, said)


# Rules


def _rules(sketch: _Sketch, event: Named | None) -> list[Rule]:
    """The rules of one event: one, or one for each value of a choice that a state stands for."""
    choice = _choice(sketch)
    if choice is None:
        return [_rule(sketch, event, _state(sketch), {})]
    name, choices = choice
    rules = []
    for value, state, part in _parts(sketch, choices):
        again = _again(sketch, part, value)
        rules.append(_rule(again, event, state, {name: _chosen(name, value)}))
    if rules:
        return rules
    decide = f"nothing in the sample says which; one of {', '.join(choices)}."
    guessed = replace(_chosen(name, choices[0]), decide=decide)
    again = _again(sketch, sketch.samples, choices[0])
    return [_rule(again, event, None, {name: guessed})]


def _choice(sketch: _Sketch) -> tuple[str, Sequence[str]] | None:
    """The field of which rules have to say the value, as no path does, and its choices."""
    for name, field in sketch.model.fields.items():
        is_choice = field.type is FieldType.CHOICE and field.required and field.choices
        if is_choice and not sketch.fields[name]:
            return name, field.choices
    return None


class _State(Struct, frozen=True):
    """A condition on a state: the values that count."""

    path: Path
    values: tuple[Any, ...]
    decide: str = ""


def _parts(
    sketch: _Sketch, choices: Sequence[str]
) -> list[tuple[str, _State | None, tuple[Sample, ...]]]:
    """For each choice that samples stand for: the state that says so, and those samples with only
    such items in the list that the rule goes through."""
    told = _choice_of(sketch.event, choices)
    if told:
        return [(told, None, sketch.samples)]
    for leaf in _states(sketch):
        by_choice: dict[str, list[Any]] = {}
        for _, value in leaf.values:
            word = _choice_of(str(value), choices)
            if word and value not in by_choice.setdefault(word, []):
                by_choice[word].append(value)
        if by_choice:
            return [
                (word, _State(leaf.path, tuple(values)), _holding(sketch, leaf.path, values))
                for word, values in by_choice.items()
            ]
    return []


def _choice_of(text: str, choices: Sequence[str]) -> str:
    """The choice that the words of a state or an event stand for; empty where they name none."""
    for word in reversed(recognise.words(text)):
        for choice in choices:
            if recognise.count_akin([word], recognise.related([choice])):
                return choice
    return ""


def _holding(sketch: _Sketch, path: Path, values: Sequence[Any]) -> tuple[Sample, ...]:
    base = sketch.base
    if base is not None and recognise.is_inside(path, base):
        rest = path[len(base) + 1 :]
        return tuple(
            replace(one, payload=_filtered(one.payload, base, rest, values))
            for one in sketch.samples
        )
    return tuple(one for one in sketch.samples if _at(one.payload, path) in values)


def _filtered(payload: Any, base: Path, rest: Path, values: Sequence[Any]) -> Any:
    if not base:
        items = payload if isinstance(payload, list) else []
        return [item for item in items if _at(item, rest) in values]
    if not isinstance(payload, dict) or base[0] not in payload:
        return payload
    key = base[0]
    return {**payload, key: _filtered(payload[key], base[1:], rest, values)}


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if isinstance(value, dict) and key is not None:
            value = value.get(key)
        elif isinstance(value, list) and key is None:
            value = value[0] if value else None
        else:
            return None
    return value


def _again(sketch: _Sketch, samples: tuple[Sample, ...], choice: str) -> _Sketch:
    """The sketch of fewer samples, with times looked for that fit the choice."""
    leaves = recognise.leaves(samples)
    fields = {
        one.name: recognise.fitting(one, recognise.ranked(one, leaves), sketch.base)
        for one in _wanted(sketch.model, choice)
    }
    return replace(sketch, samples=samples, fields=fields)


def _chosen(name: str, value: str) -> Field:
    return Field(name=name, expression=_constant(value))


def _constant(text: str) -> str:
    """A text as an expression; a model's choices may hold anything."""
    return f"'{text}'" if envelope.is_simple(text) else recognise.literal(text)


def _states(sketch: _Sketch) -> list[Leaf]:
    """The paths of states that a rule can ask for."""
    base = sketch.base
    found = envelope.states(recognise.leaves(sketch.samples))
    inside = [
        leaf
        for leaf in found
        if recognise.is_inside(leaf.path, base) and leaf.path.count(None) == 1
    ]
    return [*inside, *(leaf for leaf in found if None not in leaf.path)][:5]


def _state(sketch: _Sketch) -> _State | None:
    """The state that the rule of a kind without a choice asks for."""
    for leaf in _states(sketch):
        if leaf.share < 1:
            continue
        values = list(dict.fromkeys(value for _, value in leaf.values))
        good = [value for value in values if envelope.is_good(value)]
        if good:
            return _State(leaf.path, tuple(good))
        if len(values) == 1 and isinstance(values[0], str):
            said = (
                f"`{values[0]}` is the only state that the samples show; is it the one that counts?"
            )
            return _State(leaf.path, tuple(values), said)
    return None


def _rule(
    sketch: _Sketch, event: Named | None, state: _State | None, given: Mapping[str, Field]
) -> Rule:
    when: list[str] = []
    reads: set[Path] = set()
    decide: list[str] = []
    if event is not None and sketch.event:
        when.append(f"event == '{sketch.event}'")
        reads |= {event.path} if event.path is not None else set()
    if state is not None and not (event and event.path == state.path):
        when.append(_condition(recognise.reading(state.path, sketch.base), state.values))
        reads.add(state.path)
        decide += [state.decide] if state.decide else []
    place = _environment(sketch)
    if place is not None and sketch.environments:
        when.append(f"contains(params.environments, {place.expression})")
        reads.add(place.path)
    elif place is not None:
        decide.append(
            f"only production counts; {place.expression} is {recognise.shown(place.value)} here. "
            "Which values count?"
        )
    if not when:
        decide.append("the rule applies to every delivery; add a `when:` if others come as well.")
    if sketch.rivals:
        decide.append(f"the samples may also be of the kind {' or '.join(sketch.rivals)}.")
    fields = [*_fields(sketch, given)]
    reads |= {field.found.path for field in fields if field.found}
    title = sketch.model.title.partition(",")[0] or f"an event of the kind {sketch.model.kind}"
    title = title[:1].lower() + title[1:80]
    chosen = [field.expression.strip("'") for field in given.values()]
    return Rule(
        name=" ".join([title if title.isprintable() else sketch.model.kind, *chosen]),
        emit=sketch.model.kind,
        fields=tuple(fields),
        when=tuple(when),
        each="" if sketch.base is None else recognise.reading(sketch.base, None),
        decide=tuple(decide),
        reads=frozenset(reads),
    )


def _condition(expression: str, values: Sequence[Any]) -> str:
    if all(value is True for value in values):
        return expression
    texts = [f"'{value}'" for value in values if isinstance(value, str)]
    if len(texts) == 1:
        return f"{expression} == {texts[0]}"
    return f"contains([{', '.join(texts)}], {expression})"


def _environment(sketch: _Sketch) -> Found | None:
    """Where the environment stands, for a kind that is about environments."""
    if "environment" not in recognise.topic(sketch.model):
        return None
    for name, field in sketch.model.fields.items():
        if field.type is FieldType.NAMESPACE and sketch.fields[name]:
            best = sketch.fields[name][0]
            keys = [key for key in best.path if key is not None][-2:]
            said = {word for key in keys for word in recognise.words(key)}
            is_one = said & _ENVIRONMENT or _PRODUCTION.fullmatch(str(best.value))
            if best.score >= recognise.ACCEPTED_OPTIONAL and is_one:
                return best
    return None


def _fields(sketch: _Sketch, given: Mapping[str, Field]) -> Iterable[Field]:
    model = sketch.model
    accepted = {
        name: found[0]
        for name, found in sketch.fields.items()
        if found
        and found[0].score
        >= (
            recognise.ACCEPTED
            if model.fields[name].required or _is_grouped(model, name)
            else recognise.ACCEPTED_OPTIONAL
        )
    }
    missing = [
        group[-1] for group in model.require_one_of if group and not set(group) & accepted.keys()
    ]
    for name, field in model.fields.items():
        if name in given:
            yield given[name]
        elif name in accepted:
            yield _field(name, accepted[name], sketch.fields[name])
        elif field.required or name in missing:
            yield _filled(name, field)


def _is_grouped(model: grammar.Model, name: str) -> bool:
    return any(name in group for group in model.require_one_of)


def _field(name: str, best: Found, found: Sequence[Found]) -> Field:
    near = [one for one in found[1:] if best.score - one.score < _NEAR and one.path != best.path]
    decide = [f"also found: {', '.join(one.expression for one in near[:3])}."] if near else []
    if best.offset:
        decide.append("the time says no offset from UTC; is it this one?")
    return Field(
        name=name,
        expression=best.expression,
        offset=best.offset,
        found=best,
        decide=" ".join(decide),
    )


def _filled(name: str, field: grammar.ModelField) -> Field:
    """What stands for a field that the samples do not show. Only a name and a time of receipt can
    be true; anything else fails on purpose, so that deliveries wait until it is decided."""
    lacking = "nothing in the sample looks like it"
    match field.type:
        case FieldType.TIMESTAMP:
            decide = f"{lacking}; this is when the delivery was received."
            return Field(name=name, expression="received_at", decide=decide)
        case FieldType.APP:
            decide = f"{lacking}; write where it is, or the name itself."
            return Field(name=name, expression="'name-of-the-app'", decide=decide)
        case FieldType.CHOICE:
            decide = f"{lacking}; one of {', '.join(map(recognise.shown, field.choices))}."
            return Field(name=name, expression=_constant((field.choices or [""])[0]), decide=decide)
    decide = f"{lacking}; until it is decided, deliveries are kept as dead letters."
    return Field(name=name, expression="`null`", decide=decide)


def _named_apart(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules with names of their own: a name of several gets the event, then a number."""
    named: list[Rule] = []
    for rule in rules:
        event = next((part.split("'")[1] for part in rule.when if part.startswith("event ==")), "")
        name = rule.name
        if sum(other.name == name for other in rules) > 1 and event:
            name = f"{name[:90]}: {event}"[:110]
        taken = {other.name for other in named}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name} ({number})", number + 1
        named.append(replace(rule, name=unique))
    return tuple(named)
