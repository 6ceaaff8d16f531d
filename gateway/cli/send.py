"""`gateway send`: signs deliveries as their vendor would and posts them to a running gateway."""

import argparse
import http.client
import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import UNSET, Struct

from gateway import report
from gateway.authentication import Authentication
from gateway.authoring import cases, explanation
from gateway.cli import casefiles, request, servers, shared, wiring
from gateway.delivery import Reason
from gateway.diagnostic import did_you_mean, has_errors
from gateway.settings import SettingsError

TIMEOUT = 15
_STATUSES = {"rejected": 422, "unauthorized": 401}


class Sample(Struct, frozen=True):
    """A delivery to send; `name` is how the output calls it, `expected` the status besides 2xx that
    it may be meant to get. Headers that it names are sent as they are, those that sign are added."""

    name: str
    headers: dict[str, str]
    body: bytes
    expected: int = 202
    query: Mapping[str, str] = {}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="the source to speak for, such as github")
    parser.add_argument(
        "payload",
        nargs="?",
        metavar="PAYLOAD",
        help="a file with the body, or a raw request with its headers (.http), `-` for standard "
        "input; the source's own samples where left out",
    )
    parser.add_argument(
        "--case", metavar="NAME", help="only the case of this name, or those whose names hold it"
    )
    parser.add_argument(
        "--all", action="store_true", help="all cases of the source, not only its samples"
    )
    request.define_header(parser)
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)"
    )
    shared.define_secrets(parser)
    wiring.define_files(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where every delivery got a 2xx, or the 4xx that its case expects, and 1 where one did not;
    raises SettingsError where it cannot send."""
    authentication = _authentication(options)
    samples = _samples(options)
    if authentication.fault is not None:
        _refuse_unsigned(options.source, samples)
    refused, lost = 0, False
    for sample in samples:
        status, text = _post(options.url, options.source, sample, authentication)
        refused += not (200 <= status < 300 or status == sample.expected)
        print(f"{sample.name}\n  {_told(status, text)}")
        lost = lost or status == HTTPStatus.NOT_FOUND
    if lost:
        print(_where(options.url, options.source))
    return 1 if refused else 0


def _refuse_unsigned(source: str, samples: list[Sample]) -> None:
    for sample in samples:
        if "authorization" not in map(str.lower, sample.headers):
            raise SettingsError(
                f"only the issuer of `{source}` can sign a token for it; hand one over with "
                '--header "Authorization: Bearer TOKEN"'
            )


def _authentication(options: argparse.Namespace) -> Authentication:
    loaded = wiring.load(wiring.files(options), source=options.source)
    if has_errors(loaded.diagnostics):
        raise SettingsError(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
    known = loaded.compilation.mappings
    if options.source not in known:
        raise wiring.unknown_source(options.source, known, options)
    found = wiring.sources(loaded.compilation, os.environ, options.secrets)
    if options.source in found.live:
        return found.live[options.source].authentication
    missing = next(one for one in found.missing if one.source == options.source)
    raise SettingsError(
        f"the secret {missing.secrets[0]} is not set: the delivery could not be signed; set it as "
        "it is set for `gateway serve`, or name the folder with --secrets"
    )


def _samples(options: argparse.Namespace) -> list[Sample]:
    json = {"Content-Type": "application/json"}
    given = request.given_headers(options.header)
    if options.payload is not None:
        if options.case is not None or options.all:
            flag = "--all" if options.case is None else "--case"
            raise SettingsError(
                f"{flag} chooses from the source's own cases: leave it out, or PAYLOAD"
            )
        found = request.read(options.payload, options.header)
        return [Sample(options.payload, {**json, **found.headers}, found.body, query=found.query)]
    path = casefiles.of_source(options.source, wiring.files(options))
    if path is None:
        raise SettingsError(f"there are no cases of `{options.source}`; name a PAYLOAD")
    read, findings, text = casefiles.read(path)
    if read is None:
        raise SettingsError(report.render(findings, {str(path): text}, 1))
    known = read.file.cases
    chosen = _chosen(known, options)
    if not chosen:
        mend = did_you_mean(options.case, [case.name for case in known])
        raise SettingsError(f"no case's name holds `{options.case}`; {mend}")
    return [
        Sample(
            case.name,
            {**json, **case.headers, **given},
            case.body(),
            expected=_status(case),
            query=case.query,
        )
        for case in chosen
    ]


def _status(case: cases.Case) -> int:
    """What a case may be meant to get besides a 2xx; what has no JSON value cannot be read."""
    return _STATUSES.get(case.outcome, 400 if case.payload is UNSET else 202)


def _chosen(known: list[cases.Case], options: argparse.Namespace) -> list[cases.Case]:
    if options.case is not None:
        return cases.named(known, options.case)
    samples = [case for case in known if case.sample]
    return known if options.all or not samples else samples


def _post(
    url: str, source: str, sample: Sample, authentication: Authentication
) -> tuple[int, bytes]:
    connection, prefix = servers.connection(url, TIMEOUT)
    named = {name.lower() for name in sample.headers}
    signature = authentication.sign(sample.body, time.time())
    headers = {name: value for name, value in signature.items() if name.lower() not in named}
    headers |= sample.headers
    try:
        query = urlencode({**authentication.parameters, **sample.query})
        path = f"{prefix}/hooks/{source}{'?' * bool(query)}{query}"
        connection.request("POST", path, sample.body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise SettingsError(
            f"no gateway answers at {url} ({servers.why(error)}); start one with `gateway serve`"
        ) from error
    finally:
        connection.close()


def _where(url: str, source: str) -> str:
    """What to look at where nothing takes deliveries. A gateway answers 404 for no name of a source."""
    if "/hooks" in urlsplit(url).path:
        return f"/hooks/{source} is added to --url: leave it out there"
    return (
        f"nothing is at {url}/hooks/{source}: --url names the public listener (--listen of `gateway "
        "serve`), not the internal one"
    )


def _told(status: int, text: bytes) -> str:
    """An answer for a person: its outcome and events, or the problem's own words."""
    try:
        document = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        return f"{status} {text[:200].decode(errors='replace')}"
    if "outcome" not in document or status >= 300:
        return f"{status} {document.get('detail') or document.get('title') or ''}".rstrip()
    lines = [f"{status} {document['outcome']}"]
    events = document.get("events")
    for event in events if isinstance(events, list) else []:
        lines.append("  " + " ".join(f"{name}={value}" for name, value in event.items()))
        if why := explanation.doubt(event, time.time()):
            lines.append(f"    {why}")
    reasons = msgspec.convert(document.get("reasons", []), list[Reason])
    lines += [f"  {reason}" for reason in reasons]
    return "\n  ".join(lines)
