"""Python values as ASCII JSON and back, with bytes and tuples kept apart from str and list.

Used by both sides: the client sends scripts of ASGI messages to the probe app, and the
app sends back scopes and results.  A plain JSON dump would lose the very thing that is
checked, namely whether a value was a byte string or a Unicode string.
"""

import json
from typing import Any


def pack(value: Any) -> Any:
    """Return `value` as a structure of JSON types, each tagged where JSON has no such type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": bytes(value).decode("latin-1")}
    if isinstance(value, tuple):
        return {"$tuple": [pack(item) for item in value]}
    if isinstance(value, dict):
        return {"$dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [pack(item) for item in value]
    return {"$repr": repr(value), "type": type(value).__name__}


def unpack(value: Any) -> Any:
    """Undo `pack`; what JSON could not carry comes back as its repr."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return str(value["$bytes"]).encode("latin-1")
    if "$tuple" in value:
        return tuple(unpack(item) for item in value["$tuple"])
    if "$dict" in value:
        return {unpack(key): unpack(item) for key, item in value["$dict"]}
    return value.get("$repr")


def dumps(value: Any) -> bytes:
    """Encode `value` as one line of ASCII."""
    return json.dumps(pack(value), separators=(",", ":"), ensure_ascii=True).encode("ascii")


def loads(data: bytes) -> Any:
    """Decode what `dumps` made; raises ValueError for anything else."""
    return unpack(json.loads(data.decode("ascii")))
