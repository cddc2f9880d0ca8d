"""What settings may be: pydantic models, which profiles, manifests and notebooks' parameters are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Values that are checked once and do not change; a name that is not declared is an error."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def one_of(choices: Iterable[str]) -> AfterValidator:
    """For an annotation: text that is one of `choices`, where these are known to another module."""
    choices = tuple(choices)

    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"choose one of {', '.join(map(repr, choices))}")
        return value

    return AfterValidator(check)


def faults(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Every fault that pydantic found: in which field (none: of several together), and what is wrong."""
    found = []
    for fault in error.errors(include_url=False):
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown name"
        elif fault["type"] == "missing":
            message = "is missing"
        elif fault["loc"] and not (fault["type"] == "value_error" and isinstance(fault["input"], dict)):
            message = f"is {fault['input']!r}; {message[0].lower()}{message[1:]}"
        found.append((fault["loc"], message))
    return found


def in_one_line(error: ValidationError) -> str:
    """Every fault as ``field is value; reason``."""
    return "; ".join(f"{'.'.join(map(str, place))} {message}".strip() for place, message in faults(error))
