"""The grammar of HTTP/1.1 messages as compiled patterns, and nothing else.

Every pattern is written so that matching takes time linear in its input: repetitions are possessive
(``++``, ``*+``), hence never retried, and no two of them can claim the same byte.
"""

from __future__ import annotations

import re

# RFC 9110 section 5.6.2
TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(TCHAR + rb"++")

# RFC 9112 section 3: method SP request-target SP HTTP-version CRLF. The target is checked further
# by its own module; here it is visible ASCII, since everything else must be percent-encoded
# (RFC 3986 section 2.1), and never a fragment.
REQUEST_LINE = re.compile(rb"(" + TCHAR + rb"++) ([\x21\x22\x24-\x7e]++) HTTP/([0-9])\.([0-9])\r\n")

# RFC 9110 section 5.5: field-value is visible ASCII, obs-text, and SP or HTAB between them; not CR,
# LF, NUL and the other controls. RFC 9112 section 5: no space before the colon, no folding.
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
FIELD_LINE = re.compile(rb"(" + TCHAR + rb"++):(" + _VALUE + rb")\r\n")
FIELD_BLOCK = re.compile(rb"(?:" + TCHAR + rb"++:" + _VALUE + rb"\r\n)*+")

# What an application may send as a field name.
FIELD_NAME = TOKEN

# RFC 9110 section 8.6. Nineteen digits are below 2**64 and more than any body has.
CONTENT_LENGTH = re.compile(rb"[0-9]{1,19}+")

# RFC 9112 section 7.1.1, with RFC 9110 section 5.6.4's quoted-string; BWS around "=" and ";".
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_EXT_VALUE = rb"[ \t]*+=[ \t]*+(?:" + TCHAR + rb"++|" + QUOTED + rb")"
CHUNK_EXT = re.compile(rb"(?:[ \t]*+;[ \t]*+" + TCHAR + rb"++(?:" + _EXT_VALUE + rb")?+)*+")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}+")

# A line feed without its carriage return. RFC 9112 section 2.2 lets a recipient accept it as a line
# end; intermediaries differ on that, which is how requests are smuggled, so that it is refused.
BARE_LF = re.compile(rb"(?<!\r)\n")

# RFC 9110 section 4.2: uri-host [":" port]. An IP-literal in brackets, else a reg-name.
HOST = re.compile(
    rb"(?:\[(?:[0-9A-Fa-f:.]++|[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++)\]"
    rb"|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})*+)(?::([0-9]*+))?+"
)

# RFC 3986 section 2.1
ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# UTF-8 sequences longer than their character needs (RFC 3629 section 3), as in "%c0%af" for "/".
OVERLONG_UTF8 = re.compile(rb"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
