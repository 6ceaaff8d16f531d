"""What a check is given, and what it gives."""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from gateway.diagnostic import Diagnostic, Severity, Span
from gateway.mapping import grammar
from gateway.mapping.expression import Expression, ExpressionError, Use
from gateway.mapping.reads import Place
from gateway.mapping.samples import Sample
from gateway.mapping.shape import Path, Places

Findings = Iterator[Diagnostic]


class MappingView(Struct, frozen=True, kw_only=True):
    """A mapping as the checks see it. `expressions` holds those that parse, `broken` the others;
    `reads` is what they read of their scope, `models` are all known kinds, and `samples` are
    deliveries of the source, where some are known."""

    mapping: grammar.Mapping
    places: Places
    expressions: Mapping[Path, Expression]
    broken: Mapping[Path, ExpressionError]
    reads: Place
    models: Mapping[str, grammar.Model]
    samples: tuple[Sample, ...] = ()


class ModelView(Struct, frozen=True, kw_only=True):
    """A model as the checks see it; `metrics` maps the metric names of other kinds to their kind."""

    model: grammar.Model
    places: Places
    metrics: Mapping[str, str]


class Named(Struct, frozen=True):
    """A name that a source gives to an app, and where the table says so."""

    app: str
    source: str
    name: str
    place: Span


class AppsView(Struct, frozen=True, kw_only=True):
    """The table of apps as the checks see it: the files that it is spread over, and all sources that a
    mapping describes."""

    tables: tuple[tuple[grammar.Table, Places], ...]
    sources: frozenset[str]

    def apps(self) -> Iterator[tuple[Span, grammar.App]]:
        """The apps in the order of the files, each with the place of its name."""
        for table, places in self.tables:
            for index, app in enumerate(table.apps):
                if places.text("apps", index, "app"):
                    yield places.span("apps", index, "app"), app

    def names(self) -> Iterator[Named]:
        """All names of all apps, in the same order."""
        for table, places in self.tables:
            for index, app in enumerate(table.apps):
                for source, given in app.names.items():
                    path: Path = ("apps", index, "names", source)
                    paths = (
                        [path]
                        if isinstance(given, str)
                        else [(*path, number) for number in range(len(given))]
                    )
                    for one in paths:
                        written = places.text(*one)
                        if written is not None:
                            yield Named(app.app, source, str(written.value), written.span)


def name(check: Callable[..., Findings]) -> str:
    """The name that reports give a check."""
    return check.__name__.replace("_", "-")


def finding(check: Callable[..., Findings], span: Span, message: str, mend: str = "") -> Diagnostic:
    """An error that a check found."""
    return Diagnostic(span, name(check), message, mend)


def warning(check: Callable[..., Findings], span: Span, message: str, mend: str = "") -> Diagnostic:
    """What does no harm, and is not meant."""
    return Diagnostic(span, name(check), message, mend, Severity.WARNING)


def code(text: str) -> str:
    """A part of an expression as a message quotes it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def use_span(view: MappingView, path: Path, use: Use) -> Span:
    """The characters of a name that an expression reads."""
    return view.places.within(path, use.offset, use.width)
