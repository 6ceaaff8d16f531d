"""A draft as the text of two files: the mapping, and its cases with what the mapping makes of them. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from gateway.authoring import cases, trial
from gateway.authoring.cases import Case, Expectation
from gateway.authoring.draft import Draft, Field, Rule
from gateway.authoring.recognise import Path, Sample
from gateway.diagnostic import Diagnostic
from gateway.mapping.compiler import CompiledMapping, SourceFile, compile_files

SCHEMA = "# yaml-language-server: $schema=../schemas/{}.schema.json"
DECIDE = "# decide: "
MAX_CASE = 60_000
"""Characters of one sample in the case file; of a larger one only what the mapping reads is kept."""
MAX_CASES = 600_000
"""Characters of all of them: a case file is at most 1 MiB."""
_WIDTH = 100
_MAX_DEPTH = 40
_KEPT_ITEMS = 3
_KEPT_CHARACTERS = 200


class Files(Struct, frozen=True, kw_only=True):
    """The texts of a draft. `problems` is what the compiler says of the mapping with the models that
    it was given; `outcomes` what became of each sample, by its name."""

    mapping: str
    cases: str
    problems: tuple[Diagnostic, ...]
    outcomes: tuple[tuple[str, Expectation], ...]


def files(
    draft: Draft, samples: Sequence[Sample], models: Sequence[SourceFile], name: str
) -> Files:
    """The files of a draft; `name` is how problems call the mapping."""
    mapping = mapping_text(draft)
    layer = 1 + max((file.layer for file in models), default=0)
    compilation = compile_files([*models, SourceFile(name, mapping, layer)])
    problems = tuple(one for one in compilation.diagnostics if one.span.file == name)
    compiled = compilation.mappings.get(draft.source)
    if compiled is None:
        return Files(mapping=mapping, cases="", problems=problems, outcomes=())
    tried = list(_tried(compiled, draft, samples))
    return Files(
        mapping=mapping,
        cases=_case_file(draft.source, tried),
        problems=problems,
        outcomes=tuple((one.name, expected) for one, expected, _ in tried),
    )


# The mapping


def mapping_text(draft: Draft) -> str:
    """The mapping file."""
    secret = f"{draft.source.upper().replace('-', '_')}_WEBHOOK"
    lines = [
        SCHEMA.format("mapping"),
        f"# Drafted from samples by `gateway new`. Every `{DECIDE[2:].strip()}` asks for your decision.",
        f"source: {scalar(draft.source)}",
        f"title: {scalar(draft.source.replace('-', ' ').capitalize())}",
        "authenticate:",
        *_remark(draft.credentials.decide, "  "),
    ]
    for key, value in draft.credentials.keys.items():
        lines.append(f"  {key}: {scalar(value)}")
    if draft.credentials.keys["scheme"] == "basic":
        lines.append(f"  username: {{env: {secret}_USERNAME}}")
    lines.append(f"  secret: {{env: {secret}_SECRET}}")
    if draft.delivery_id is None:
        asked = "what stays the same when a delivery is sent again? Then add it as `delivery_id:`."
        lines += _remark(asked, "")
    else:
        lines += _entry("delivery_id", draft.delivery_id.expression, "")
    if draft.event is not None:
        lines += _entry("event", draft.event.expression, "")
    if draft.environments:
        lines += [
            "params:",
            "  # Only what reaches these environments counts.",
            f"  environments: {_flow(list(draft.environments), 10_000)}",
        ]
    lines.append("rules:")
    for number, rule in enumerate(draft.rules):
        lines += ([""] if number else []) + _rule(rule)
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> list[str]:
    lines = [line for one in rule.decide for line in _remark(one, "  ")]
    lines.append(f"  - name: {scalar(rule.name)}")
    if rule.when:
        lines += _condition(rule.when)
    if rule.each:
        lines += _entry("each", rule.each, "    ")
    lines += [f"    emit: {scalar(rule.emit)}", "    fields:"]
    for field in rule.fields:
        lines += [*_remark(field.decide, "      "), *_field(field)]
    return lines


def _condition(parts: Sequence[str]) -> list[str]:
    line = f"    when: {scalar(' && '.join(parts))}"
    if len(line) <= _WIDTH:
        return [line]
    first, *others = parts
    return ["    when: >-", f"      {first}", *(f"      && {one}" for one in others)]


def _field(field: Field) -> list[str]:
    if not field.offset:
        return _entry(field.name, field.expression, "      ")
    value = scalar(field.expression, in_flow=True)
    offset = scalar(field.offset, in_flow=True)
    return [f"      {written_key(field.name)}: {{value: {value}, offset: {offset}}}"]


def _entry(key: str, expression: str, indent: str) -> list[str]:
    return [f"{indent}{written_key(key)}: {scalar(expression)}"]


def _remark(text: str, indent: str) -> list[str]:
    """A question as comment lines; none where there is nothing to ask."""
    if not text:
        return []
    lines = [f"{indent}{DECIDE}"]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > _WIDTH and lines[-1].strip() != DECIDE.strip():
            lines.append(f"{indent}# ")
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


def questions(text: str) -> list[tuple[int, str]]:
    """What a mapping's remarks ask to be decided, each with its line."""
    asked: list[tuple[int, str]] = []
    goes_on = False
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if words.startswith(DECIDE):
            asked.append((number, words.removeprefix(DECIDE)))
        elif goes_on and words.startswith("# "):
            first, question = asked[-1]
            asked[-1] = (first, f"{question} {words[2:]}")
        goes_on = words.startswith("# ") and (words.startswith(DECIDE) or goes_on)
    return asked


# The cases


def _tried(
    compiled: CompiledMapping, draft: Draft, samples: Sequence[Sample]
) -> Iterator[tuple[Case, Expectation, str]]:
    """Each sample as a case, with what becomes of it and a remark."""
    signed = _signed(compiled)
    reads = {path for rule in draft.rules for path in rule.reads}
    reads |= {one.path for one in (draft.event, draft.delivery_id) if one and one.path is not None}
    names: set[str] = set()
    written = 0
    for sample in samples:
        headers = {
            key: value
            for key, value in sample.headers.items()
            if key.lower() in compiled.plan.read_headers and key.lower() not in signed
        }
        name, number = _case_name(sample.name), 2
        while name in names:
            name, number = f"{_case_name(sample.name)} ({number})", number + 1
        names.add(name)
        payload, remark = sample.payload, ""
        size = _size(payload, MAX_CASE)
        if size > MAX_CASE or written + size > MAX_CASES:
            payload = _kept(payload, [*reads])
            remark = "The sample is larger than suits a case: only what the mapping reads is kept."
            size = _size(payload, MAX_CASE)
        written += size
        case = Case(
            name=name, payload=payload, headers=headers, expect=Expectation(outcome="ignored")
        )
        yield case, trial.run(compiled, case).actual, remark


def _signed(compiled: CompiledMapping) -> frozenset[str]:
    """The headers that prove the sender: whoever sends a case adds them."""
    checked = trial.ready(compiled.scheme)
    return checked.headers | {name.lower() for name in checked.sign(b"", cases.FROZEN)}


def _case_name(name: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in name).strip()
    return f"the sample {shown[:90]}".rstrip()


def _size(value: Any, most: int) -> int:
    """About how many characters a value takes in YAML; more than `most` where it is too much."""
    size = 0
    stack = [(value, 1)]
    while stack and size <= most:
        one, depth = stack.pop()
        if depth > _MAX_DEPTH:
            return most + 1
        match one:
            case dict():
                for key, child in one.items():
                    size += len(key) + 2 * depth + 4
                    stack.append((child, depth + 1))
            case list():
                size += 2 * depth * len(one) + 2
                stack += [(child, depth + 1) for child in one]
            case str():
                size += len(one) + 4
            case int() if abs(one) >= 10**39:
                # The reader of cases takes a longer numeral for text.
                return most + 1
            case _:
                size += 8
    return size


def _kept(value: Any, paths: Sequence[Path]) -> Any:
    """A payload with only what the paths lead to; of lists the first items."""
    match value:
        case dict():
            heads = {path[0] for path in paths if path}
            return {
                key: _kept(child, [path[1:] for path in paths if path and path[0] == key])
                for key, child in value.items()
                if key in heads
            }
        case list():
            below = [path[1:] for path in paths if path and path[0] is None]
            return [_kept(item, below) for item in value[:_KEPT_ITEMS]] if below else []
        case str():
            return value if () in paths else value[:_KEPT_CHARACTERS]
        case int() if abs(value) >= 10**39:
            return 0
    return value


def _case_file(source: str, tried: Sequence[tuple[Case, Expectation, str]]) -> str:
    lines = [SCHEMA.format("test"), f"source: {scalar(source)}", "cases:"]
    for number, (case, expected, remark) in enumerate(tried):
        lines += [""] if number else []
        lines += [f"  # {remark}"] if remark else []
        lines.append(f"  - name: {scalar(case.name)}")
        lines += _value("headers", case.headers, "    ") if case.headers else []
        lines += _value("payload", case.payload, "    ")
        expectation: dict[str, Any] = {"outcome": expected.outcome}
        if expected.events:
            expectation["events"] = expected.events
        if expected.fields:
            expectation["fields"] = expected.fields
        lines += _value("expect", expectation, "    ")
    return "\n".join(lines) + "\n"


# YAML

_PLAIN = re.compile(r"[^\W\d][\w ./@+=|&()<>~^$;'\"\[\]{}!?*%,:#`-]*|/[\w./-]*")
_PLAIN_IN_FLOW = re.compile(r"[^\W\d][\w ./@+=()<>~^$;'\"!?*%-]*|/[\w./-]*")
_HEXADECIMAL = re.compile(r"[0-9][0-9a-f]*[a-df][0-9a-f]*")
_PLAIN_KEY = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]{0,100}")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_MAX_SIMPLE_KEY = 1_000
"""YAML wants a longer key to say that it is one."""


def scalar(value: Any, *, in_flow: bool = False) -> str:
    """A value as YAML 1.2 and 1.1 both read it: text plain where it can be, else in quotes."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
    text = str(value)
    form = _PLAIN_IN_FLOW if in_flow else _PLAIN
    plain = form.fullmatch(text) or _HEXADECIMAL.fullmatch(text)
    misread = ": " in text or " #" in text or text[-1:] in (" ", ":")
    if plain and not misread and text.isprintable() and text.lower() not in _RESERVED:
        return text
    if text.isprintable() and '"' in text and "'" not in text:
        return f"'{text}'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES or char.isprintable():
        return _ESCAPES.get(char, char)
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def written_key(text: str) -> str:
    """A text as the key of a value, the same for YAML 1.2 and 1.1."""
    if _PLAIN_KEY.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _value(key: str, value: Any, indent: str) -> list[str]:
    """A key with its value: on one line where it fits, else as a block below."""
    written = written_key(key)
    if len(written) > _MAX_SIMPLE_KEY:
        return [f"{indent}? {written}", f"{indent}: {_flow(value, None)}"]
    head = f"{indent}{written}:"
    flow = _flow(value, _WIDTH - len(head) - 1)
    if flow is not None:
        return [f"{head} {flow}"]
    if isinstance(value, dict):
        return [head, *(line for k, one in value.items() for line in _value(k, one, f"{indent}  "))]
    return [head, *(line for one in value for line in _item(one, f"{indent}  "))]


def _item(value: Any, indent: str) -> list[str]:
    flow = _flow(value, _WIDTH - len(indent) - 2)
    if flow is not None:
        return [f"{indent}- {flow}"]
    if isinstance(value, dict):
        below = [line for key, one in value.items() for line in _value(key, one, f"{indent}  ")]
    else:
        below = [line for one in value for line in _item(one, f"{indent}  ")]
    return [f"{indent}- {below[0][len(indent) + 2 :]}", *below[1:]]


def _flow(value: Any, room: int | None) -> str | None:
    """A value on one line; None where it takes more than the room. Text has all the room it needs."""
    if not isinstance(value, dict | list):
        return scalar(value)
    parts: list[str] = []
    taken = 2
    entries: Sequence[tuple[str, Any]]
    entries = [*value.items()] if isinstance(value, dict) else [("", one) for one in value]
    for key, one in entries:
        head = f"{written_key(key)}: " if isinstance(value, dict) else ""
        if len(head) > _MAX_SIMPLE_KEY:
            head = f"? {head}"
        left = None if room is None else room - taken - len(head)
        inner = _flow(one, left) if isinstance(one, dict | list) else scalar(one, in_flow=True)
        if inner is None:
            return None
        parts.append(head + inner)
        taken += len(parts[-1]) + 2
        if room is not None and taken - 2 > room:
            return None
    text = ", ".join(parts)
    return f"{{{text}}}" if isinstance(value, dict) else f"[{text}]"
