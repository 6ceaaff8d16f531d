"""Prometheus's HTTP API, as far as the doctor asks it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from gateway.doctor import asking
from gateway.doctor.asking import Answer, NoAnswer
from gateway.doctor.finding import Unchecked

Series = tuple[Mapping[str, str], float]
"""Labels and value."""
Name = tuple[str, str]
"""What Prometheus calls a target: its job and its instance."""


class CannotAsk(Unchecked):
    """Prometheus does not tell; the message says why."""


class Prometheus:
    """A server by its URL, which as text shows no password."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def __str__(self) -> str:
        return self._shown

    @cached_property
    def first(self) -> Answer | NoAnswer:
        """The answer to a query that every Prometheus can answer."""
        try:
            return asking.get(self._url, "/api/v1/query?query=vector(1)")
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

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the API. Raises CannotAsk."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        return _data(self._asked(f"/api/v1/{path}{query}"))

    def vector(self, expression: str) -> list[Series]:
        """What an instant query gives. Raises CannotAsk."""
        result = self.get("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def targets(self) -> list[Any]:
        """Those that are scraped. Raises CannotAsk."""
        targets: list[Any] = self.get("targets", state="active")["activeTargets"]
        return targets

    def rules(self) -> list[Any]:
        """All rules, recording and alerting. Raises CannotAsk."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def metrics(self) -> str:
        """Its own metrics. Raises CannotAsk."""
        answer = self._asked("/metrics")
        if answer.status != 200:
            raise CannotAsk(f"Prometheus answers {answer.status} for its own /metrics")
        return answer.body.decode(errors="replace")

    def _asked(self, path: str) -> Answer:
        try:
            return asking.get(self._url, path)
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
    return document["data"]
