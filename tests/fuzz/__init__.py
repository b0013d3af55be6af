"""Fuzzing of parsers and of whole connections: ``python -m tests.fuzz --seconds 600``.

The targets are ``parsing`` of HTTP/1.1, ``files`` of extension modules, and ``serving`` and
``sockets`` for connections that speak HTTP and for those that become WebSockets.

Each case is made from a seed and a number, so that a finding can be run again by itself. What is
looked for: any exception but the one that is meant, a result that depends on how a stream is cut, a
response that is malformed, a case that never ends, memory that grows, and anything left behind.
"""
