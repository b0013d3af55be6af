"""HTTP/1.1 without I/O: a strict request parser and a response writer, usable alone."""

from .errors import ProtocolError
from .fields import CHUNKED, FieldBlock
from .parser import Limits, Request, RequestParser, State
from .response import DefaultFields, ResponseWriter, simple_response

__all__ = [
    "CHUNKED",
    "DefaultFields",
    "FieldBlock",
    "Limits",
    "ProtocolError",
    "Request",
    "RequestParser",
    "ResponseWriter",
    "State",
    "simple_response",
]
