"""The checks of mappings and models: each is one function that states one mistake.

A check's name is its function's name with hyphens. Its docstring is its page in the reference: what
is wrong, and why; the examples beside it are in `catalogue`.
"""

from collections.abc import Callable

from gateway.mapping.checks import (
    authentication,
    conditions,
    expressions,
    models,
    reach,
    rules,
    values,
)
from gateway.mapping.checks.view import Findings, MappingView, ModelView

MAPPING_CHECKS: tuple[Callable[[MappingView], Findings], ...] = (
    *expressions.CHECKS,
    *values.CHECKS,
    *conditions.CHECKS,
    *reach.CHECKS,
    *rules.CHECKS,
    *authentication.CHECKS,
)
MODEL_CHECKS: tuple[Callable[[ModelView], Findings], ...] = models.CHECKS

__all__ = ["MAPPING_CHECKS", "MODEL_CHECKS", "Findings", "MappingView", "ModelView"]
