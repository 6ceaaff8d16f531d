"""The checks of the table of apps: what it calls each app, and whether a name can mean one alone."""

from collections.abc import Iterator

from gateway import fieldtype
from gateway.diagnostic import Span, did_you_mean
from gateway.fieldtype import FieldError, FieldType
from gateway.mapping.checks.view import AppsView, Findings, Named, finding, warning
from gateway.mapping.document import Sequence, Table

_READERS = {kind: fieldtype.reader(kind, None, ()) for kind in (FieldType.APP, FieldType.TEXT)}


def duplicate_app(view: AppsView) -> Findings:
    """The table describes an app twice, so nobody sees all of it in one place. The table may be spread
    over several files, each app in one of them."""
    seen: dict[str, Span] = {}
    for place, app in view.apps():
        first = seen.setdefault(app.app, place)
        if first is not place:
            message = f"the app `{app.app}` is described already, {_where(first, place)}"
            yield finding(duplicate_app, place, message, "put all of its names there")


def claimed_name(view: AppsView) -> Findings:
    """Two apps have one name of one source, so an event that comes with it could be of either."""
    seen: dict[tuple[str, str], Named] = {}
    for one in view.names():
        first = seen.setdefault((one.source, one.name), one)
        if first.app != one.app:
            message = (
                f"`{one.name}` of `{one.source}` is the app `{first.app}` already, "
                f"{_where(first.place, one.place)}"
            )
            mend = "keep the name with one of the two apps"
            yield finding(claimed_name, one.place, message, mend)


def repeated_name(view: AppsView) -> Findings:
    """An app has a name of a source twice."""
    seen: dict[tuple[str, str, str], Span] = {}
    for one in view.names():
        first = seen.setdefault((one.app, one.source, one.name), one.place)
        if first is not one.place:
            message = f"`{one.name}` of `{one.source}` is given already, {_where(first, one.place)}"
            yield warning(repeated_name, one.place, message, "remove one of the two")


def ambiguous_app(view: AppsView) -> Findings:
    """A source calls an app by the own name of another one. An app's own name means this app, whichever
    source gives it, so here it would mean one app in this source and another one in all others."""
    own = {app.app: place for place, app in view.apps()}
    for one in view.names():
        if one.name not in ("", one.app) and one.name in own:
            message = (
                f"`{one.name}` is the own name of another app, {_where(own[one.name], one.place)}"
            )
            mend = f"give one of the two apps another name, or remove this one of `{one.app}`"
            yield finding(ambiguous_app, one.place, message, mend)


def unknown_app_source(view: AppsView) -> Findings:
    """The table gives a name of a source that no mapping describes, so no event comes with it."""
    for table, places in view.tables:
        for index, app in enumerate(table.apps):
            for source in app.names:
                if source not in view.sources:
                    place = places.key("apps", index, "names", source)
                    message = f"no mapping describes the source `{source}`"
                    mend = did_you_mean(source, view.sources)
                    yield finding(unknown_app_source, place, message, mend)


def nothing_named(view: AppsView) -> Findings:
    """The table has no apps, `names` has no source, or a source has no name."""
    for _, places in view.tables:
        for path, node in places.nodes.items():
            match path, node:
                case ("apps",), Sequence(items=()):
                    message, mend = "the table has no apps", "list them, or remove the file"
                case ("apps", int(), "names"), Table(entries=()):
                    message, mend = "no source is named", "name one, or leave `names` out"
                case ("apps", int(), "names", str(source)), Sequence(items=()):
                    message, mend = f"`{source}` gives no name", "give one, or remove the source"
                case _:
                    continue
            yield finding(nothing_named, node.span, message, mend)


def refused_name(view: AppsView) -> Findings:
    """A name is none that an event can have: the type `app` does not take it, or takes the white space
    around it away. For a team, the same is asked of the type `text`."""
    for place, text, kind in _texts(view):
        try:
            read = _READERS[kind](text, None)
        except FieldError as error:
            yield finding(refused_name, place, str(error))
            continue
        if read != text:
            message = f"there is white space around `{read}`, which events come without"
            yield finding(refused_name, place, message, "remove it")


def _texts(view: AppsView) -> Iterator[tuple[Span, str, FieldType]]:
    for place, app in view.apps():
        yield place, app.app, FieldType.APP
    for table, places in view.tables:
        for index, app in enumerate(table.apps):
            if places.text("apps", index, "team"):
                yield places.span("apps", index, "team"), app.team, FieldType.TEXT
    for one in view.names():
        yield one.place, one.name, FieldType.APP


def _where(there: Span, here: Span) -> str:
    """A place as it is told beside another one."""
    return f"in line {there.line}" + (f" of {there.file}" if there.file != here.file else "")


CHECKS = (
    duplicate_app,
    claimed_name,
    repeated_name,
    ambiguous_app,
    unknown_app_source,
    nothing_named,
    refused_name,
)
