from django.conf import settings
from django.core import mail
from django.http import HttpResponse, JsonResponse
from django.urls import path

from .models import Post


def posts(request):
    if request.method == "POST":
        post = Post.objects.create(text=request.body.decode())
        mail.send_mail("A post", post.text, "blog@example.org", ["me@example.org"])
        return HttpResponse(status=201)
    return JsonResponse([str(post) for post in Post.objects.order_by("id")], safe=False)


async def newest(request):
    post = await Post.objects.alatest("id")
    return HttpResponse(str(post))


def title(request):
    return HttpResponse(settings.TITLE)


def outbox():
    """What was sent by mail; called by tests."""
    return [message.body for message in mail.outbox]


urlpatterns = [path("posts", posts), path("newest", newest), path("title", title)]
