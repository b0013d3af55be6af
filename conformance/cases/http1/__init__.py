"""The HTTP/1.1 cases, a table per topic."""

from conformance.cases.http1 import (
    chunked,
    chunked_invalid,
    connection,
    content_length,
    expect,
    fields,
    host,
    pipelining,
    request_line,
    responses,
    target,
    transfer_encoding,
    upgrade,
    version,
)

TABLES = (
    request_line.table,
    version.table,
    target.table,
    host.table,
    fields.table,
    content_length.table,
    transfer_encoding.table,
    chunked.table,
    chunked_invalid.table,
    connection.table,
    pipelining.table,
    expect.table,
    upgrade.table,
    responses.table,
)
