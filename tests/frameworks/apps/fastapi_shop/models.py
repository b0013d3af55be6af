"""Models that call back into Python: validators, serializers, computed fields, own types."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Maker(BaseModel):
    name: Annotated[str, Field(min_length=2, max_length=20)]
    founded: date | None = None
    tags: list[str] = []


class Ware(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    name: Annotated[str, Field(pattern=r"^[\w ]+$")]
    price: Annotated[Decimal, Field(gt=0, decimal_places=2)]
    colour: Colour = Colour.RED
    maker: Maker | None = None
    parts: dict[str, list[Maker]] = {}
    secret: SecretStr | None = None

    @field_validator("name")
    @classmethod
    def _no_curse(cls, value: str) -> str:
        if value == "curse":
            raise ValueError("must not be a curse")
        return value.title()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.name} at {self.price}"


class Span(BaseModel):
    begin: datetime
    end: datetime

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.begin:
            raise ValueError("ends before it begins")
        return self

    @field_serializer("begin")
    def _as_day(self, value: datetime) -> str:
        return value.astimezone(UTC).date().isoformat()


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    friends: list[Pet] = []


type Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

Dog.model_rebuild()


class Page[T](BaseModel):
    rows: list[T]
    total: int


class Lengths(RootModel[list[float]]):
    @model_serializer(mode="wrap")
    def _with_sum(self, handler: Any) -> dict[str, Any]:
        return {"lengths": handler(self), "sum": sum(self.root)}


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Exotic(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    key: UUID
    took: timedelta
    evens: set[Annotated[int, AfterValidator(_even)]]
    octets: bytes = b""
    given: Annotated[str, Field(alias="givenName")] = ""
    pair: tuple[int, str] = (1, "one")
