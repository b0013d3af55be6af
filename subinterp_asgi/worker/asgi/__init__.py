"""The ASGI side: how messages of an application become octets and back."""
