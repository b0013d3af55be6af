"""``dataclass`` for classes that are made at each start: frozen and slotted, nothing compiled.

That of the standard library writes the methods of each class as source code and compiles it. That
was 16 of the 37 ms of CPU which importing the command took, and 4 ms for the options alone in each
interpreter. Here all classes share the same methods, which read the fields; making an instance
takes longer for it, so that what is made for each request stays with the standard library's.
``fields()``, ``replace()``, ``asdict()``, ``copy`` and ``pickle`` work as always.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError, fields

from ..types import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature


def _dataclass[T](
    *, frozen: Literal[True], slots: Literal[True], kw_only: bool = False
) -> Callable[[type[T]], type[T]]:

    def decorate(cls: type[T]) -> type[T]:
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
        cls.__doc__ = cls.__doc__ or cls.__name__  # or else dataclass has inspect make one
        cls = made(cls)
        for name, method in _METHODS.items():
            if name not in cls.__dict__:
                setattr(cls, name, method)
        return cls

    return decorate


class _Methods:
    """What each class is given; not its base, so that classes stay what ``dataclass`` makes."""

    def __init__(self, *positional: Any, **values: Any) -> None:
        cls: Any = type(self)
        if len(positional) > len(cls.__match_args__):
            raise TypeError(
                f"{cls.__name__}() takes {len(cls.__match_args__)} positional arguments"
            )
        for name, value in zip(cls.__match_args__, positional, strict=False):
            if name in values:
                raise TypeError(f"{cls.__name__}() got multiple values for argument {name!r}")
            values[name] = value
        for field in fields(cls):
            if field.name in values:
                value = values.pop(field.name)
            elif field.default is not MISSING:
                value = field.default
            elif field.default_factory is not MISSING:
                value = field.default_factory()
            else:
                raise TypeError(f"{cls.__name__}() missing required argument: {field.name!r}")
            object.__setattr__(self, field.name, value)
        for name in values:
            from .suggestion import suggestion

            hint = suggestion(name, [field.name for field in fields(cls)])
            raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {name!r}{hint}")
        if hasattr(cls, "__post_init__"):
            cls.__post_init__(self)

    def __repr__(self) -> str:
        pairs = zip(fields(self), _values(self), strict=True)  # type: ignore[arg-type]
        shown = ", ".join(f"{field.name}={value!r}" for field, value in pairs if field.repr)
        return f"{type(self).__qualname__}({shown})"

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(_values(self)))

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> list[Any]:
        return _values(self)

    def __setstate__(self, state: list[Any]) -> None:
        for field, value in zip(fields(self), state, strict=True):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, value)


class _LazySignature:
    """Tells ``inspect.signature()`` and ``help()`` of the fields."""

    def __get__(self, instance: object, owner: Any) -> Signature:
        from inspect import signature

        # That of the class which the standard library would make of them.
        its = [(field.name, field.type, field) for field in fields(owner)]
        return signature(dataclasses.make_dataclass("Plain", its, repr=False, eq=False))


def _values(instance: Any) -> list[Any]:
    return [getattr(instance, field.name) for field in fields(instance)]


_METHODS = {name: method for name, method in vars(_Methods).items() if callable(method)}
_METHODS["__signature__"] = _LazySignature()

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    dataclass = _dataclass
