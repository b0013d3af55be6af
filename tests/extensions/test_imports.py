"""What is seen of a module's imports, and how much depends on each."""

from __future__ import annotations

import textwrap

import pytest

from subinterp_asgi.extensions.imports import Need, imports_of

NOW, LATER, OPTIONAL = Need.NOW, Need.LATER, Need.OPTIONAL


def seen(source: str, module: str = "pack.mod", is_package: bool = False) -> dict[str, Need]:
    found = imports_of(textwrap.dedent(source).encode(), module, is_package)
    return {item.module: item.need for item in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a, b.c as d", {"a": NOW, "b.c": NOW}),
        ("from a import b", {"a": NOW}),
        ("class A:\n  import a", {"a": NOW}),
        ("for x in y:\n  import a\nelse:\n  import b", {"a": NOW, "b": NOW}),
        ("match x:\n  case 1:\n    import a", {"a": NOW}),
        ("def f():\n  import a", {"a": LATER}),
        ("async def f():\n  try:\n    import a\n  except ImportError:\n    pass", {"a": OPTIONAL}),
        ("try:\n  import a\nexcept ImportError:\n  import b", {"a": OPTIONAL, "b": OPTIONAL}),
        ("try:\n  import a\nexcept (OSError, ImportError):\n  a = None", {"a": OPTIONAL}),
        ("try:\n  import a\nexcept:\n  a = None", {"a": OPTIONAL}),
        ("try:\n  0\nexcept ImportError:\n  0\nelse:\n  import a", {"a": OPTIONAL}),
        ("try:\n  import a\nexcept ModuleNotFoundError:\n  a = None", {"a": NOW}),
        ("try:\n  import a\nexcept ImportError as e:\n  raise X from e", {"a": NOW}),
        ("try:\n  import a\nexcept ImportError as e:\n  raise_it(e)", {"a": NOW}),
        ("try:\n  import a\nfinally:\n  import b", {"a": NOW, "b": NOW}),
        ("with contextlib.suppress(ImportError):\n  import a", {"a": OPTIONAL}),
        ("with open(x):\n  import a", {"a": NOW}),
        ("a = importlib.import_module('a.b')", {"a.b": NOW}),
        ("__import__('a')", {"a": NOW}),
        ("import_module(name), import_module('.a', p)", {}),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", {"b": NOW}),
        ("if typing.TYPE_CHECKING:\n  import a", {}),
        ("if not TYPE_CHECKING:\n  import a", {"a": NOW}),
        ("if sys.version_info >= (3, 8):\n  import a\nelse:\n  import b", {"a": NOW}),
        ("if sys.version_info[0] == 2:\n  import a", {}),
        ("if sys.platform == 'plan9' or x:\n  import a", {"a": NOW}),
        ("if sys.platform == 'plan9' and x:\n  import a", {}),
        ("if sys.implementation.name in ('cpython',):\n  import a\nelse:\n  import b", {"a": NOW}),
        ("if __name__ == '__main__':\n  import a", {}),
        ("if x:\n  import a\nelif y:\n  import b", {"a": NOW, "b": NOW}),
    ],
)  # fmt: skip
def test_needs(source: str, expected: dict[str, Need]) -> None:
    assert seen(source) == expected


@pytest.mark.parametrize(
    ("source", "is_package", "expected"),
    [
        ("from . import a", False, "pack"),
        ("from . import a", True, "pack.mod"),
        ("from .a import b", False, "pack.a"),
        ("from .. import a", True, "pack"),
        ("from ..a import b", True, "pack.a"),
    ],
)
def test_relative(source: str, is_package: bool, expected: str) -> None:
    assert list(seen(source, is_package=is_package)) == [expected]


def test_above_the_top() -> None:
    assert seen("from ... import a") == {}


@pytest.mark.parametrize(
    "source", [b"import", b"\0", b"\xff\xfe", b"(" * 5000, b"x = " + b"-" * 100_000 + b"1"]
)
def test_what_is_not_python(source: bytes) -> None:
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        imports_of(source, "mod", False)


def test_no_warnings_come_of_it(recwarn: pytest.WarningsRecorder) -> None:
    assert imports_of(rb"import a; a.b('\d')", "mod", False)
    assert not recwarn.list


def test_conditions_that_are_not_known() -> None:
    source = b"if HAS_A:\n  import a\nif True:\n  pass\nimport b\n"
    assert [(item.module, item.conditional) for item in imports_of(source, "mod", False)] == [
        ("a", True),
        ("b", False),
    ]
