"""Tests of a Django project whose server shares the test database with them."""

import pytest
from blog.models import Post


def test_the_server_sees_what_the_test_writes(asgi_server):
    Post.objects.create(text="written here")
    assert asgi_server.get("/posts").json() == ["written here"]


def test_the_test_sees_what_the_server_writes(asgi_server):
    assert Post.objects.count() == 0  # it is empty again
    assert asgi_server.post("/posts", "written there").status == 201
    assert str(Post.objects.get()) == "written there"


def test_asynchronous_view(asgi_server):
    Post.objects.create(text="one")
    Post.objects.create(text="two")
    assert asgi_server.get("/newest").text == "two"


@pytest.mark.asgi(allow_errors=["DoesNotExist"])
def test_error(asgi_server):
    assert asgi_server.get("/newest").status == 500
    assert "Post matching query does not exist" in asgi_server.errors()[0].message


def test_mail(fresh_asgi_server):
    """It lies in the worker."""
    fresh_asgi_server.post("/posts", "news")
    assert fresh_asgi_server.call("blog.urls:outbox") == ["news"]


@pytest.mark.asgi(isolation="thread")
def test_other_settings(fresh_asgi_server, settings):
    """Only a worker in a thread sees what the test changes in its own modules."""
    settings.TITLE = "Another one"
    assert fresh_asgi_server.get("/title").text == "Another one"
