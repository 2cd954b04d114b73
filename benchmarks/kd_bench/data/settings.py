"""A recipe's ``augmentation`` as the settings of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from kd_bench.errors import UserError
from kd_bench.recipe import Spec

S = TypeVar("S", bound=Spec)


def parse_settings(
    kind: type[S], given: Mapping[str, Any], problem: str = "the recipe's augmentation does not suit the data"
) -> S:
    """Validate the settings of an augmentation.

    Args:
        kind: what they should be.
        given: what the recipe has.
        problem: what is wrong if they are not, for the error.

    Raises:
        UserError: if they are not.
    """
    try:
        # by way of JSON, whose strict validation takes lists for tuples but no strings for numbers
        return kind.model_validate_json(json.dumps(dict(given)))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise UserError(f"{problem}: {problems}. The settings are {', '.join(kind.model_fields)}.") from error
