"""FastAPI with synchronous SQLAlchemy, psycopg and a pool, on the database that is given."""

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import ForeignKey, create_engine, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from . import named

engine = create_engine(os.environ["TEST_POSTGRES"], pool_size=3)


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSONB}  # noqa: RUF012


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(unique=True)
    details: Mapped[dict[str, Any]]
    lines: Mapped[list["Line"]] = relationship(cascade="all", order_by="Line.id")


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    price: Mapped[Decimal]


class Given(BaseModel):
    customer: str
    details: dict[str, Any] = {}
    prices: list[Decimal]


def session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


type Db = Annotated[Session, Depends(session)]

api = FastAPI()


@api.post("/reset", status_code=204)
def reset() -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)


@api.post("/orders", status_code=201)
def add(given: Given, db: Db) -> dict[str, Any]:
    order = Order(customer=given.customer, details=given.details)
    order.lines = [Line(price=price) for price in given.prices]
    db.add(order)
    try:
        db.commit()
    except IntegrityError as exc:
        raise HTTPException(409, type(exc.orig).__name__) from exc
    return {"id": order.id, "lines": [line.price for line in order.lines]}


@api.get("/orders")
def orders(db: Db, colour: str | None = None) -> list[dict[str, Any]]:
    query = (
        select(Order.customer, Order.details, func.sum(Line.price))
        .join(Line)
        .group_by(Order.id)
        .order_by(Order.customer)
    )
    if colour:
        query = query.where(Order.details["colour"].astext == colour)
    return [
        {"customer": customer, "details": details, "total": total}
        for customer, details, total in db.execute(query)
    ]


@api.get("/driver")
def driver(db: Db) -> dict[str, Any]:
    import psycopg.pq

    found = db.scalar(text("select array[1, 2] || cast(:n as int)"), {"n": 3})
    return {"implementation": psycopg.pq.__impl__, "array": found}


@api.get("/broken")
def broken(db: Db) -> None:
    """The server ends the connection; the next request gets another one."""
    pid = db.scalar(text("select pg_backend_pid()"))
    with engine.connect() as other:
        other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    try:
        db.scalar(text("select 1"))
    except Exception as exc:
        raise HTTPException(503, type(exc).__name__) from exc


app = named(api)
