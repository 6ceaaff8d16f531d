"""Prometheus's HTTP API, as far as the doctor asks it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from gateway.doctor import asking
from gateway.doctor.asking import Answer, NoAnswer
from gateway.doctor.finding import Unchecked

Series = tuple[Mapping[str, str], float]
"""Labels and value."""
Name = tuple[str, str]
"""What Prometheus calls a target: its job and its instance."""


T = TypeVar("T")


class Target(Struct, frozen=True, rename="camel"):
    """What is scraped. `scrape_interval` is a duration such as `1m30s`, empty where the server is too old
    to tell it."""

    labels: Mapping[str, str]
    scrape_url: str
    health: str
    last_error: str = ""
    scrape_interval: str = ""

    @property
    def name(self) -> Name:
        return name(self.labels)


class Rule(Struct, frozen=True, rename="camel"):
    """A rule, recording or alerting, with its own expression."""

    name: str
    query: str
    health: str
    last_error: str = ""


class _Targets(Struct, frozen=True, rename="camel"):
    active_targets: list[Target]


class _Group(Struct, frozen=True):
    rules: list[Rule]


class _Groups(Struct, frozen=True):
    groups: list[_Group]


class _Sample(Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str]


class _Vector(Struct, frozen=True):
    result: list[_Sample]


class _Config(Struct, frozen=True):
    yaml: str


class CannotAsk(Unchecked):
    """Prometheus does not tell; the message says why."""


class Prometheus:
    """A server by its URL, which as text shows no password. What stands before it may want a token."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        parts = urlsplit(url)
        self._shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def __str__(self) -> str:
        return self._shown

    @cached_property
    def first(self) -> Answer | NoAnswer:
        """The answer to a query that every Prometheus can answer."""
        try:
            return asking.get(self._url, "/api/v1/query?query=vector(1)", self._headers)
        except NoAnswer as error:
            return error

    @cached_property
    def fault(self) -> str:
        """Why it cannot be asked; empty where it can."""
        if isinstance(self.first, NoAnswer):
            return str(self.first)
        try:
            _data(self.first)
        except CannotAsk as error:
            return str(error)
        return ""

    def vector(self, expression: str) -> list[Series]:
        """What an instant query gives. Raises CannotAsk."""
        samples = self._get("query", _Vector, query=expression).result
        return [(one.metric, float(one.value[1])) for one in samples]

    def targets(self) -> list[Target]:
        """Those that are scraped. Raises CannotAsk."""
        return self._get("targets", _Targets, state="active").active_targets

    def rules(self) -> list[Rule]:
        """Raises CannotAsk."""
        return [rule for group in self._get("rules", _Groups).groups for rule in group.rules]

    def config(self) -> str:
        """Its configuration as YAML, with everything that is left to defaults. Raises CannotAsk."""
        return self._get("status/config", _Config).yaml

    def metrics(self) -> str:
        """Its own metrics. Raises CannotAsk."""
        answer = self._asked("/metrics")
        if answer.status != 200:
            raise CannotAsk(f"Prometheus answers {answer.status} for its own /metrics")
        return answer.body.decode(errors="replace")

    def _get(self, path: str, shape: type[T], **parameters: str) -> T:
        query = f"?{urlencode(parameters)}" if parameters else ""
        data = _data(self._asked(f"/api/v1/{path}{query}"))
        try:
            return msgspec.convert(data, shape)
        except msgspec.ValidationError as error:
            raise CannotAsk(f"what answers for {path} is not as Prometheus would") from error

    def _asked(self, path: str) -> Answer:
        try:
            return asking.get(self._url, path, self._headers)
        except NoAnswer as error:
            raise CannotAsk(f"Prometheus does not answer: {error}") from error


def name(labels: Mapping[str, str]) -> Name:
    """The target that a series comes from."""
    return labels.get("job", ""), labels.get("instance", "")


def _data(answer: Answer) -> Any:
    try:
        document = msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CannotAsk(f"it answers {answer.status}, and not as Prometheus would") from None
    if document.get("status") != "success":
        raise CannotAsk(
            f"it answers {answer.status}: {document.get('error', 'no reason is given')}"
        )
    return document.get("data")
