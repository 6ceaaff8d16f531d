"""Which app a name of a source stands for, as a table declares it, and events under the app's own name.

Events are kept under the names that their sources give, and get the app's name where they become
series: so a changed table changes what past events show, too. Nothing is guessed. Pure.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Struct

from gateway.correlation.packing import Keys
from gateway.event import Event, identity
from gateway.fieldtype import FieldType
from gateway.model import Model

_FIELD = "app"


class Apps(Struct, frozen=True):
    """A table. `names` leads from a source and its name to the app; `teams` holds every app of the
    table with its team, empty where it has none. Without apps there is no table."""

    names: Mapping[tuple[str, str], str] = {}
    teams: Mapping[str, str] = {}

    def find(self, source: str, name: str) -> str | None:
        """The app that a source calls so, None where the table does not know. An app's own name
        means the app in every source."""
        found = self.names.get((source, name))
        return name if found is None and name in self.teams else found


NO_TABLE = Apps()


def fields_of(model: Model | None) -> tuple[str, ...]:
    """The fields of a kind that hold the name of an app."""
    typed = model.fields.values() if model else ()
    return (
        _FIELD,
        *(one.name for one in typed if one.type is FieldType.APP and one.name != _FIELD),
    )


class Naming:
    """Gives events the names of their apps, in the journal's order. What it remembers grows with the
    events of the table's apps and with the names that are not in the table."""

    def __init__(self, apps: Apps, models: Mapping[str, Model]) -> None:
        self._apps = apps
        self._fields = {kind: fields_of(model) for kind, model in models.items()}
        self._told = Keys()
        self._unknown: dict[str, set[str]] = {source: set() for source, _ in apps.names}

    @property
    def unknown(self) -> dict[str, int]:
        """How many names the table does not know, by source; empty where there is no table."""
        return {source: len(names) for source, names in self._unknown.items()}

    def named(self, event: Event, source: str) -> Iterator[Event]:
        """The event of a source under its app's name. None where it was told already by another name:
        the journal knows an event again only by the name that it came with."""
        if not self._apps.teams:
            yield event
            return
        known: dict[str, str] = {}
        for field in self._fields.get(event.kind, (_FIELD,)):
            name = event.text(field)
            app = self._apps.find(source, name)
            if app is not None:
                known[field] = app
            elif name:
                self._unknown.setdefault(source, set()).add(name)
        if known:
            event = msgspec.structs.replace(event, fields={**event.fields, **known})
            own = identity(event)
            if self._told.find(own):
                return
            self._told.add(own)
        yield event
