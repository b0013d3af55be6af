from __future__ import annotations

import json
from collections.abc import AsyncIterator

from django.db import connection, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

from .. import common
from .models import Note


async def json_view(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return JsonResponse({"echo": json.loads(request.body)})
    return JsonResponse({"path": request.path, "query": request.GET.dict()})


async def form(request: HttpRequest) -> HttpResponse:
    files = {}
    for name, file in request.FILES.items():
        digest = common.Digest()
        for piece in file.chunks():
            digest.update(piece)
        files[name] = {"filename": file.name, **digest.result()}
    return JsonResponse({"fields": request.POST.dict(), "files": files})


async def upload(request: HttpRequest) -> HttpResponse:
    digest = common.Digest()
    while piece := request.read(65536):
        digest.update(piece)
    return JsonResponse(digest.result())


class Body:
    """Django closes what has a ``close()`` at the end; an asynchronous generator has none."""

    def __init__(self, count: int) -> None:
        self._chunks = common.chunks(count)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        self._chunks.close()


async def download(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        Body(int(request.GET["chunks"])), content_type="application/octet-stream"
    )


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(common.events())


def sync(request: HttpRequest) -> HttpResponse:
    return JsonResponse(common.whoami())


async def state(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"given": request.scope["state"]["given"]})


async def redirect(request: HttpRequest) -> HttpResponse:
    response = HttpResponseRedirect("/cookies")
    response.set_cookie("flavour", "oat")
    response.set_cookie("size", "large", httponly=True)
    return response


async def cookies(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.COOKIES)


async def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the application's own secret")


async def whoami(request: HttpRequest) -> HttpResponse:
    return JsonResponse(common.whoami())


# --- what only Django has


def add_note(request: HttpRequest) -> HttpResponse:
    """A sync view that writes in a transaction."""
    with transaction.atomic():
        note = Note.objects.create(text=request.POST["text"], worker=common.MARKER)
        if note.text == "roll back":
            raise ValueError("this note must not be kept")
    return JsonResponse({"id": note.id, "worker": note.worker})


async def notes(request: HttpRequest) -> HttpResponse:
    """An async view that reads through the async ORM."""
    found = [{"text": note.text, "worker": note.worker} async for note in Note.objects.all()]
    return JsonResponse({"notes": found, "worker": common.MARKER})


def count_notes(request: HttpRequest) -> HttpResponse:
    """Plain SQL in a sync view."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM django_site_note WHERE text = %s", [request.GET["text"]]
        )
        return JsonResponse({"count": cursor.fetchone()[0]})


async def visit(request: HttpRequest) -> HttpResponse:
    """Counts in the session, which lives in the database and so is shared by all workers."""
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    return JsonResponse({"visits": visits, "worker": common.MARKER})


urlpatterns = [
    path("json", json_view),
    path("form", form),
    path("upload", upload),
    path("download", download),
    path("events", events),
    path("sync", sync),
    path("state", state),
    path("redirect", redirect),
    path("cookies", cookies),
    path("error", error),
    path("whoami", whoami),
    path("notes/add", add_note),
    path("notes", notes),
    path("notes/count", count_notes),
    path("visit", visit),
]
