"""A conformance suite for HTTP/1.1 origin servers that speak ASGI.

`python -m conformance` runs every case against a server; see README.md in this
folder.  The package has three parts that know little of each other:

* `conformance.cases.http1` - tables of cases, each written from a sentence of RFC 9110 or
  RFC 9112: bytes to send, and everything the RFC allows as an answer;
* `conformance.cases.asgi` - checks of the ASGI specification's statements;
* `conformance.apps` - the ASGI application that the server under test must serve.  It
  imports nothing of the client side, so it loads fast and in any interpreter.

Of WebSockets it runs somebody else's suite: `conformance.autobahn`.
"""

__version__ = "1.0"
