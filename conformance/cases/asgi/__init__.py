"""The ASGI cases, a table per topic."""

from conformance.cases.asgi import (
    disconnect,
    errors,
    extensions,
    flow,
    lifespan,
    request,
    response,
    scope,
)

TABLES = (
    scope.table,
    request.table,
    response.table,
    errors.table,
    disconnect.table,
    flow.table,
    lifespan.table,
    extensions.table,
)
