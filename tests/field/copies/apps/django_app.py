from __future__ import annotations

import io
from typing import Any

import django
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from PIL import Image, ImageDraw, ImageFilter

from . import named

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="secret",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()

_rsa = rsa.generate_private_key(65537, 2048)
_ec = ec.derive_private_key(12345, ec.SECP256R1())


def thumbnail(request: HttpRequest) -> HttpResponse:
    with Image.open(io.BytesIO(request.body)) as image:
        small = image.convert("RGB").resize((32, 32)).filter(ImageFilter.GaussianBlur(1))
    ImageDraw.Draw(small).text((2, 2), "hi")
    result = io.BytesIO()
    small.save(result, request.GET["as"])
    return HttpResponse(result.getvalue(), content_type=f"image/{request.GET['as']}")


async def bad_image(request: HttpRequest) -> HttpResponse:
    try:
        Image.open(io.BytesIO(request.body))
    except OSError as exc:
        return JsonResponse({"error": type(exc).__name__}, status=400)
    return HttpResponse("good")


def token(request: HttpRequest) -> JsonResponse:
    """A token goes round: signed, read, and not believed if it was changed."""
    claims: dict[str, Any] = {"sub": request.GET["sub"], "aud": "shop"}
    signed = jwt.encode(claims, _rsa, "RS256")
    found = jwt.decode(signed, _rsa.public_key(), algorithms=["RS256"], audience="shop")
    try:
        jwt.decode(signed[:-6] + "aaaaaa", _rsa.public_key(), algorithms=["RS256"], audience="shop")
        changed = "believed"
    except jwt.InvalidSignatureError:
        changed = "refused"
    return JsonResponse({"found": found, "changed": changed})


def key(request: HttpRequest) -> HttpResponse:
    pem = _ec.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return HttpResponse(pem, content_type="application/x-pem-file")


urlpatterns = [
    path("thumbnail", thumbnail),
    path("bad-image", bad_image),
    path("token", token),
    path("key", key),
]

from django.core.asgi import get_asgi_application  # noqa: E402  (the settings are needed first)

app = named(get_asgi_application())
