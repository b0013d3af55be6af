"""A Django project whose views raise, with a logging of its own that tells nobody else."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path


def raising(request: Any) -> HttpResponse:
    raise LookupError("in a view")


async def raising_async(request: Any) -> HttpResponse:
    raise LookupError("in an async view")


urlpatterns = [path("sync", raising), path("async", raising_async)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a test",
    ROOT_URLCONF=__name__,
    LOGGING={
        "version": 1,
        "handlers": {"none": {"class": "logging.NullHandler"}},
        "loggers": {"django": {"handlers": ["none"], "propagate": False}},
    },
)
app = get_asgi_application()
