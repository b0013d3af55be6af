"""The least that Django serves, to ask, and to start and weigh: ``benchmarks.startup --app ...``.

With the middleware and the applications that ``startproject`` turns on, but for the admin; Django
has to be installed.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path


async def hello(request: Any) -> HttpResponse:
    return HttpResponse("Hello, world!")


async def answer(request: Any) -> JsonResponse:
    return JsonResponse({"message": "Hello, world!"})


def answer_in_thread(request: Any) -> JsonResponse:
    return JsonResponse({"message": "Hello, world!"})


urlpatterns = [
    path("", hello),
    path("json", answer),
    path("def", answer_in_thread),
]

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a benchmark",
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)
app = get_asgi_application()
