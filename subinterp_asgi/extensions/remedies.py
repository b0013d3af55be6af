"""What is known of libraries by name: what does instead of them, and which start daemon threads."""

from __future__ import annotations

from collections.abc import Iterable

REPLACEMENTS = {
    "argon2-cffi": "hashlib.scrypt",
    "asyncmy": "aiomysql or PyMySQL",
    "bcrypt": "hashlib.scrypt",
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

OPTIONAL = {
    "cryptography": ("redis", "jwt", "pyjwt"),
    "orjson": ("elasticsearch", "elastic-transport"),
}
"""Libraries that others import only because they are installed, and work without."""

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


def cures(
    names: Iterable[str], *, private: str | None, first: str | None = None
) -> tuple[str, ...]:
    """Say what would do about a module that is refused, the best first.

    Args:
        names: Distributions, or packages, that lead to it, from the application on; its own too.
        private: What ``extensions="private"`` would do about it.
        first: What would do that has nothing to do with the names.
    """
    known = list(dict.fromkeys(map(normalised, names)))
    found = [first] if first else []
    if private is not None:
        found.append(f"extensions='private' {private}")
    found += [
        f"hide_modules={hidden!r} lets {importer} go on without it"
        for hidden, importers in OPTIONAL.items()
        for importer in importers
        if {hidden, importer} <= {*known}
    ]
    replaceable = next((name for name in known if name in REPLACEMENTS), None)
    if replaceable is not None:
        found.append(f"instead of {replaceable} there is {REPLACEMENTS[replaceable]}")
    found.append("isolation='thread' serves from threads")
    return tuple(found)


def normalised(distribution: str) -> str:
    """Return the name as it is compared."""
    return "-".join(
        filter(None, distribution.lower().replace("_", "-").replace(".", "-").split("-"))
    )
