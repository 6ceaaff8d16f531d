"""A gateway that runs, asked at its internal listener for what it says of itself."""

import re
from collections.abc import Mapping

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from gateway.doctor import asking
from gateway.doctor.asking import Answer, NoAnswer

BUILD_INFO = "gateway_build_info"


class Running(Struct, frozen=True):
    """`samples` are the gateway's own metrics by name: labels and value of each series."""

    version: str
    is_ready: bool
    answer: Answer
    samples: Mapping[str, tuple[tuple[Mapping[str, str], float], ...]]

    def value(self, name: str) -> float | None:
        """The value of a metric without labels; None where this gateway has none of that name."""
        return next((value for _, value in self.samples.get(name, ())), None)

    @property
    def live(self) -> frozenset[str]:
        """The sources that it serves."""
        series = self.samples.get("gateway_source_live", ())
        return frozenset(labels["source"] for labels, value in series if value)


def ask(url: str) -> Running:
    """The gateway whose internal listener is there. Raises NoAnswer, also where it is another program."""
    answer = asking.get(url, "/metrics/process")
    if answer.status != 200 or not re.search(rb"^gateway_build_info\{", answer.body, re.MULTILINE):
        raise NoAnswer("another program answers there")
    samples: dict[str, tuple[tuple[Mapping[str, str], float], ...]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for one in family.samples:
            series = (dict(one.labels), float(one.value))
            samples[one.name] = (*samples.get(one.name, ()), series)
    (labels, _), *_ = samples[BUILD_INFO]
    ready = asking.get(url, "/-/ready")
    return Running(labels["version"], ready.status == 200, answer, samples)
