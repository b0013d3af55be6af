"""Dataclasses without code of their own behave as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.config import records


def _make(decorator: Callable[..., Any], *, kw_only: bool) -> Any:
    class Record:
        name: str
        size: int = 3
        tags: list[str] = dataclasses.field(default_factory=list)
        secret: str = dataclasses.field(default="hush", repr=False)

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("negative")

    Record.__qualname__ = "Record"
    return decorator(frozen=True, slots=True, kw_only=kw_only)(Record)


OURS = {kw_only: _make(records.dataclass, kw_only=kw_only) for kw_only in (False, True)}
THEIRS = {kw_only: _make(dataclasses.dataclass, kw_only=kw_only) for kw_only in (False, True)}
Record = OURS[False]  # where pickle looks for it

CALLS: list[Callable[[Any], object]] = [
    lambda cls: repr(cls(name="a")),
    lambda cls: repr(cls(name="a", size=1, tags=["x"])),
    lambda cls: repr(cls("a")),
    lambda cls: repr(cls("a", 1, ["x"])),
    lambda cls: cls("a", 1, [], "b", 4),
    lambda cls: cls("a", name="b"),
    lambda cls: cls(),
    lambda cls: cls(name="a", colour="red"),
    lambda cls: cls(name="a", size=-1),
    lambda cls: cls(name="a") == cls(name="a"),
    lambda cls: cls(name="a") == cls(name="b"),
    lambda cls: cls(name="a") == "a",
    lambda cls: hash(cls(name="a", tags=())) == hash(cls(name="a", tags=())),
    lambda cls: hash(cls(name="a")),
    lambda cls: setattr(cls(name="a"), "size", 4),
    lambda cls: delattr(cls(name="a"), "size"),
    lambda cls: dataclasses.asdict(cls(name="a")),
    lambda cls: repr(dataclasses.replace(cls(name="a"), size=9)),
    lambda cls: dataclasses.replace(cls(name="a"), colour="red"),
    lambda cls: copy.copy(cls(name="a")) == cls(name="a"),
    lambda cls: copy.deepcopy(cls(name="a")) == cls(name="a"),
    lambda cls: hasattr(cls(name="a"), "__dict__"),
    lambda cls: cls.__match_args__,
    lambda cls: [*inspect.signature(cls).parameters],
    lambda cls: [p.kind for p in inspect.signature(cls).parameters.values()],
]


def _outcome(call: Callable[[Any], object], cls: Any) -> object:
    try:
        return call(cls)
    except Exception as exc:
        return type(exc)


@pytest.mark.parametrize("kw_only", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_it_does_what_a_dataclass_does(call: Callable[[Any], object], kw_only: bool) -> None:
    assert _outcome(call, OURS[kw_only]) == _outcome(call, THEIRS[kw_only])


def test_it_can_be_pickled() -> None:
    record = Record("a", 1, ["x"])
    assert pickle.loads(pickle.dumps(record)) == record


def test_its_errors_name_the_class_and_the_argument() -> None:
    with pytest.raises(TypeError, match=r"Record\(\) missing required argument: 'name'"):
        Record()
    with pytest.raises(TypeError, match=r"Record\(\) got an unexpected keyword argument 'colour'$"):
        Record(name="a", colour="red")
    with pytest.raises(TypeError, match=r"keyword argument 'nmae'; did you mean name\?$"):
        Record(nmae="a", name="a")
