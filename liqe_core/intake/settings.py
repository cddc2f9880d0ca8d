"""Validated settings: the pydantic base of profiles, manifests and notebook parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Base class of immutable settings. Values are validated once, and unknown names are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def one_of(choices: Iterable[str]) -> AfterValidator:
    """Return a validator for an annotated string that must be one of `choices`."""
    choices = tuple(choices)

    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"choose one of {', '.join(map(repr, choices))}")
        return value

    return AfterValidator(check)


def faults(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Return the field and the message of each validation error; the field is empty for a model validator."""
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
    """Format all validation errors in one line as ``field is value; reason``."""
    return "; ".join(f"{'.'.join(map(str, place))} {message}".strip() for place, message in faults(error))
