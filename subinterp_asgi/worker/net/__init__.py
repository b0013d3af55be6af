"""Octets: listening, accepting, reading, writing, TLS, deadlines. Knows no ASGI."""
