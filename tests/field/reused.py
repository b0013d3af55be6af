"""Small applications, each with a library, and what they tell of it.

``N`` is the number of their generation. What the first one does the others must not find.
"""

from __future__ import annotations

APPS = {
    "attrs": """
        import attrs

        @attrs.define
        class Hero:
            id: int = N

        def answer():
            return Hero().id
    """,
    "celery": """
        from celery import Celery, current_app, shared_task

        celery = Celery(f"app{N}", broker="memory://")
        celery.conf.task_always_eager = True

        @shared_task
        def task():
            return N

        def answer():
            return [task.delay().get(), current_app.main]
    """,
    "click": """
        import click
        from click.testing import CliRunner

        @click.command()
        def command():
            click.echo(N)

        def answer():
            return CliRunner().invoke(command).output
    """,
    "django": """
        import django
        from django.conf import settings

        if not settings.configured:
            settings.configure(DEBUG=N == 1, SECRET_KEY=f"key {N}")
            django.setup()

        def answer():
            return [settings.DEBUG, settings.SECRET_KEY]
    """,
    "fastapi": """
        from fastapi import Depends, FastAPI
        from pydantic import BaseModel

        class Item(BaseModel):
            n: int = N

        site = FastAPI(title=f"site {N}")

        @site.get("/")
        def root(item: Item = Depends()) -> Item:
            return item

        def answer():
            return [site.openapi()["info"]["title"], Item(n="7").model_dump_json()]
    """,
    "flask": """
        from flask import Flask, signals

        site = Flask(__name__)
        site.add_url_rule("/", view_func=lambda: str(N))

        def started(sender, **arguments):
            pass

        signals.request_started.connect(started, weak=False)

        def answer():
            return [site.test_client().get("/").text, len(signals.request_started.receivers)]
    """,
    "graphene": """
        import graphene

        class Query(graphene.ObjectType):
            n = graphene.Int()

            def resolve_n(self, info):
                return N

        schema = graphene.Schema(query=Query)

        def answer():
            return schema.execute("{ n }").data
    """,
    "httpx": """
        import httpx

        client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200 + N)))

        def answer():
            return client.get("http://localhost").status_code
    """,
    "jwt": """
        import jwt
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        token = jwt.encode({"n": N}, key, algorithm="EdDSA")

        def answer():
            return jwt.decode(token, key.public_key(), algorithms=["EdDSA"])
    """,
    "loguru": """
        import io
        from loguru import logger

        if N == 1:
            logger.add(io.StringIO())

        def answer():
            return len(logger._core.handlers)
    """,
    "marshmallow": """
        from marshmallow import Schema, fields

        class HeroSchema(Schema):
            id = fields.Int(load_default=N)

        class TeamSchema(Schema):
            hero = fields.Nested("HeroSchema")

        def answer():
            return TeamSchema().load({"hero": {}})
    """,
    "matplotlib": """
        import matplotlib

        if N == 1:
            matplotlib.rcParams["font.size"] = 33

        def answer():
            return matplotlib.rcParams["font.size"]
    """,
    "mongoengine": """
        from mongoengine import Document, connect

        class Hero(Document):
            pass

        connect(f"db{N}", host="mongodb://127.0.0.1:9", serverSelectionTimeoutMS=10)

        def answer():
            return Hero._get_db().name
    """,
    "numpy": """
        import numpy

        if N == 1:
            numpy.set_printoptions(precision=2)

        def answer():
            return str(numpy.array([1 / 3]) * N)
    """,
    "opentelemetry.sdk": """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)

        def answer():
            with trace.get_tracer("x").start_as_current_span(f"span {N}"):
                pass
            return [span.name for span in exporter.get_finished_spans()]
    """,
    "pandas": """
        import pandas

        if N == 1:
            pandas.set_option("display.max_rows", 7)

        def answer():
            return [N, pandas.get_option("display.max_rows")]
    """,
    "peewee": """
        from peewee import IntegerField, Model, SqliteDatabase

        database = SqliteDatabase(":memory:")

        class Hero(Model):
            number = IntegerField()

            class Meta:
                database = database

        database.create_tables([Hero])

        def answer():
            Hero.create(number=N)
            return [hero.number for hero in Hero.select()]
    """,
    "prometheus_client": """
        from prometheus_client import Counter, generate_latest

        counter = Counter(f"hits_{N}", "Hits.")

        def answer():
            return [f"hits_{n}_total" in generate_latest().decode() for n in range(1, 6)]
    """,
    "sentry_sdk": """
        import sentry_sdk

        if N == 1:
            sentry_sdk.init(dsn="http://a@127.0.0.1:9/1", release="1", shutdown_timeout=0)

        def answer():
            return sentry_sdk.get_client().options.get("release")
    """,
    "sqlalchemy": """
        from sqlalchemy import create_engine, event, select
        from sqlalchemy.engine import Engine
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

        class Base(DeclarativeBase):
            pass

        class Hero(Base):
            __tablename__ = f"hero{N}"
            id: Mapped[int] = mapped_column(primary_key=True)

        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)

        def answer():
            with Session(engine) as session:
                session.merge(Hero(id=N))
                found = [hero.id for hero in session.scalars(select(Hero))]
                return [found, [*Base.metadata.tables]]
    """,
    "sqlmodel": """
        from sqlmodel import Field, SQLModel

        class Hero(SQLModel, table=True):
            __tablename__ = f"hero{N}"
            id: int | None = Field(default=None, primary_key=True)

        def answer():
            return [*SQLModel.metadata.tables]
    """,
    "starlette": """
        from starlette.applications import Starlette
        from starlette.routing import Route

        site = Starlette(routes=[Route(f"/{N}", lambda request: None)])

        def answer():
            return [route.path for route in site.routes]
    """,
    "strawberry": """
        import strawberry

        @strawberry.type
        class Query:
            @strawberry.field
            def n(self) -> int:
                return N

        schema = strawberry.Schema(query=Query)

        def answer():
            return schema.execute_sync("{ n }").data
    """,
    "structlog": """
        import structlog

        if N == 1:
            structlog.configure(processors=[structlog.processors.KeyValueRenderer()])

        def answer():
            return len(structlog.get_config()["processors"])
    """,
}
TAIL = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = json.dumps([sys.times_used, answer()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
HEAD = """
import json
import sys

sys.times_used = getattr(sys, "times_used", 0) + 1
"""
