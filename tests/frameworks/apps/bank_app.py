"""FastAPI with asynchronous SQLAlchemy and SQLModel: accounts, between which money is transferred.

The environment names the database, ``BANK_URL``. The sum of all accounts never changes.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import ForeignKey, func, literal, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
)
from sqlmodel import Field, SQLModel
from sqlmodel import select as sqlmodel_select
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelSession

from . import common

ACCOUNTS = 10
BALANCE = 1000

request_number: contextvars.ContextVar[int] = contextvars.ContextVar("request_number")


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # one of them is 0
    balance: Mapped[int]
    entries: Mapped[list[Entry]] = relationship(back_populates="account")


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    amount: Mapped[int]
    account: Mapped[Account] = relationship(back_populates="entries")


class Note(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    text: str


URL = os.environ["BANK_URL"]
options: dict[str, Any] = {"connect_args": {"timeout": 60}} if "sqlite" in URL else {"pool_size": 5}
engine = create_async_engine(URL, **options)
sessions = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


async def create_tables() -> None:
    """Called by the test, once."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(SQLModel.metadata.create_all)
    async with sessions.begin() as session:
        session.add_all(Account(id=number, balance=BALANCE) for number in range(ACCOUNTS))
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def opened() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Opened = Annotated[AsyncSession, Depends(opened)]


@app.post("/transfer")
async def transfer(session: Opened, source: int, target: int, amount: int) -> dict[str, int]:
    async with session.begin():
        for number, change in sorted({source: -amount, target: amount}.items()):
            taken = update(Account).where(Account.id == number, Account.balance + change >= 0)
            done: Any = await session.execute(taken.values(balance=Account.balance + change))
            if not done.rowcount:
                raise HTTPException(409, "not enough")  # what was changed before is rolled back
        session.add(Entry(account_id=target, amount=amount))
    return {"moved": amount}


@app.get("/total")
async def total(session: Opened) -> int:
    return await session.scalar(select(func.sum(Account.balance))) or 0


@app.get("/echo/{number}")
async def echo(session: Opened, number: int) -> dict[str, Any]:
    """What the database says, and what the synchronous part saw and left in the context."""
    request_number.set(number)
    task = asyncio.current_task()

    def work(synchronous: Session) -> Any:
        seen = request_number.get(), asyncio.current_task() is task
        said = synchronous.scalar(select(literal(number)))
        request_number.set(-number)
        return said, *seen, synchronous.scalar(text("select 5"))

    first = await session.scalar(select(literal(number)))
    return {"first": first, "sync": await session.run_sync(work), "left": request_number.get()}


@app.get("/entries/{number}")
async def entries(session: Opened, number: int) -> dict[str, bool]:
    """Relationships, loaded at once, and lazily in the synchronous part."""
    account = await session.get_one(Account, number)
    eager = await session.scalar(
        select(Account)
        .where(Account.id == number)
        .options(selectinload(Account.entries))
        .execution_options(populate_existing=True)
    )
    assert eager is not None
    session.expire(account, ["entries"])
    in_sync = await session.run_sync(lambda _: len(account.entries))
    return {"same": eager is account, "eager": len(eager.entries) >= 0, "lazy": in_sync >= 0}


@app.get("/conflict")
async def conflict(session: Opened) -> str:
    """An error in the middle, after which the session goes on."""
    try:
        async with session.begin_nested():
            session.add(Account(id=0, balance=1))
            await session.flush()
    except IntegrityError as exc:
        again = await session.scalar(select(literal("went on")))
        return f"{type(exc).__name__} {again}"
    return "no error"


@app.get("/wrong")
async def wrong(session: Opened) -> str:
    try:
        await session.execute(text("select nothing from nowhere"))
    except DBAPIError as exc:
        return f"{isinstance(exc.orig, Exception)} {exc.statement}"
    return "no error"


@app.get("/timeout")
async def timeout(session: Opened) -> str:
    """Cancelled in the middle of the synchronous part."""
    never = asyncio.Event()

    def work(synchronous: Session) -> None:
        from sqlalchemy.util import await_only

        synchronous.execute(update(Account).where(Account.id == 0).values(balance=0))
        await_only(never.wait())

    try:
        async with asyncio.timeout(0.01):
            await session.run_sync(work)
    except TimeoutError:
        await session.rollback()
        return "timed out"
    return "no timeout"


@app.get("/stream")
async def stream() -> list[int]:
    async with engine.connect() as connection:
        rows = await connection.stream(select(Account.id).order_by(Account.id))
        return [row.id async for row in rows]


@app.post("/note")
async def note(words: str) -> dict[str, Any]:
    async with SQLModelSession(engine) as session:
        made = Note(text=words)
        session.add(made)
        await session.commit()
        await session.refresh(made)
        found = (await session.exec(sqlmodel_select(Note).where(Note.id == made.id))).one()
        return {"same": found is made, "text": found.text}


@app.get("/whoami")
async def whoami() -> dict[str, Any]:
    threads = [thread.name for thread in threading.enumerate() if "greenlet" in thread.name]
    return {**common.whoami(), "greenlets": len(threads)}
