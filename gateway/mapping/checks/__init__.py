"""The checks of mappings, models and tables of apps: each is one function that states one mistake.

A check's name is its function's name with hyphens. Its docstring is its page in the reference: what
is wrong, and why; the examples beside it are in `catalogue`.
"""

from collections.abc import Callable

from gateway.mapping.checks import (
    apps,
    authentication,
    conditions,
    expressions,
    models,
    reach,
    rules,
    values,
)
from gateway.mapping.checks.view import AppsView, Findings, MappingView, ModelView

MAPPING_CHECKS: tuple[Callable[[MappingView], Findings], ...] = (
    *expressions.CHECKS,
    *values.CHECKS,
    *conditions.CHECKS,
    *reach.CHECKS,
    *rules.CHECKS,
    *authentication.CHECKS,
)
MODEL_CHECKS: tuple[Callable[[ModelView], Findings], ...] = models.CHECKS
APPS_CHECKS: tuple[Callable[[AppsView], Findings], ...] = apps.CHECKS

__all__ = [
    "APPS_CHECKS",
    "MAPPING_CHECKS",
    "MODEL_CHECKS",
    "AppsView",
    "Findings",
    "MappingView",
    "ModelView",
]
