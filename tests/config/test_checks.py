"""``config.checks`` and the types of options: what stands in two places is the same there."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.config import options


def test_choices_are_those_of_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "Literal", typing.Literal, raising=False)
    checked = 0
    for field in fields(Config):
        alias: Any = getattr(options, str(field.type), None)
        if isinstance(alias, typing.TypeAliasType):
            values = typing.get_args(alias.__value__)
            assert field.metadata["check"](None) == f"one of {', '.join(values)}", field.name
            assert field.default in values
            checked += 1
    assert checked == 7


def test_an_option_needs_a_check_that_its_default_does_not_tell() -> None:
    with pytest.raises(KeyError):
        options.option(1, "A number of something.")
