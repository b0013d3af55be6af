"""What is known of libraries by name: what does instead of them, and which start daemon threads."""

from __future__ import annotations

REPLACEMENTS = {
    "asyncmy": "aiomysql or PyMySQL",
    "blake3": "xxhash, where it need not be cryptographic",
    "ddtrace": "opentelemetry or sentry-sdk",
    "fastapi": "Starlette, Quart, Falcon or Django",
    "grpcio": "grpclib",
    "jiter": "json",
    "jsonschema": "fastjsonschema",
    "litestar": "Starlette, Quart, Falcon or Django",
    "lxml": "beautifulsoup4 with html.parser, or xml.etree",
    "mmh3": "xxhash, where it need not be cryptographic",
    "mysqlclient": "PyMySQL or aiomysql",
    "msgspec": "json or msgpack",
    "orjson": "json or msgpack",
    "psycopg-binary": "psycopg, which works without it",
    "psycopg-c": "psycopg, which works without it",
    "psycopg2": "psycopg, pg8000 or asyncpg",
    "psycopg2-binary": "psycopg, pg8000 or asyncpg",
    "pycares": "dnspython",
    "pycurl": "httpx",
    "pydantic": "attrs with cattrs, marshmallow or mashumaro",
    "python-rapidjson": "json",
    "ujson": "json",
    "watchfiles": "watchdog",
}
"""By the distribution; what does its work and loads in a worker."""

DAEMON_THREADS = {
    "django": "its threads for synchronous views and middleware",
    "ddtrace": "its writer of traces",
    "loguru": "with enqueue=True",
    "newrelic": "its harvester",
    "opentelemetry-sdk": "its batch processors and metric readers",
    "psycopg-pool": "the threads of a pool, which only pool.close() ends",
    "sentry-sdk": "its transport",
    "trio": "its cache of threads",
    "watchdog": "its observers",
}
"""Distributions that start threads which ask to be daemons, and which those are."""


def normalised(distribution: str) -> str:
    """Return the name as it is compared."""
    return "-".join(
        filter(None, distribution.lower().replace("_", "-").replace(".", "-").split("-"))
    )
