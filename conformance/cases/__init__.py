"""What is demanded, and how it is put to the proof.

`model` says what a case is, `http1` and `asgi` hold the tables of cases, `catalogue` all of them.
`exchange` plays those cases that are octets; `checks` are looks at responses which tables name.
"""
