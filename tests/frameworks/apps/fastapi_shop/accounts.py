"""Users: a database through SQLModel, and tokens that are signed.

Annotations are not postponed: SQLModel wants to see them.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Depends, HTTPException, Security
from fastapi.security import (
    APIKeyHeader,
    HTTPBasic,
    HTTPBasicCredentials,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    SecurityScopes,
)
from sqlmodel import Field, Relationship, Session, SQLModel, create_engine, select

router = APIRouter(prefix="/accounts", tags=["accounts"])
engine = create_engine(f"sqlite:///{os.environ['TEST_DATABASE']}")

_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_scheme = OAuth2PasswordBearer("/accounts/token", scopes={"read": "Read.", "write": "Write."})
_basic = HTTPBasic()
_api_key = APIKeyHeader(name="x-key")


class UserBase(SQLModel):
    name: str = Field(index=True, unique=True, max_length=20)
    age: int | None = Field(default=None, ge=0)


class User(UserBase, table=True):
    id: int | None = Field(default=None, primary_key=True)
    made: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    notes: list["Note"] = Relationship(back_populates="user", cascade_delete=True)


class Note(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    text: str
    user_id: int | None = Field(default=None, foreign_key="user.id")
    user: User | None = Relationship(back_populates="notes")


class UserShown(UserBase):
    id: int
    notes: list[Note] = []


def session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


type Db = Annotated[Session, Depends(session)]


@router.post("/reset", status_code=204)
def reset() -> None:
    SQLModel.metadata.drop_all(engine)
    SQLModel.metadata.create_all(engine)


@router.post("/", status_code=201)
def add(user: UserBase, db: Db) -> UserShown:
    if db.exec(select(User).where(User.name == user.name)).first():
        raise HTTPException(409, "there is one of that name")
    row = User.model_validate(user)
    row.notes.append(Note(text=f"made {user.name}"))
    db.add(row)
    db.commit()
    db.refresh(row)
    return UserShown.model_validate(row, update={"notes": row.notes})


@router.get("/")
def users(db: Db, older: int = 0) -> list[UserShown]:
    found = db.exec(select(User).where(User.age >= older).order_by(User.name))  # type: ignore[operator]
    return [UserShown.model_validate(row, update={"notes": row.notes}) for row in found]


@router.delete("/{number}")
def remove(number: int, db: Db) -> dict[str, bool]:
    row = db.get(User, number)
    if row is None:
        raise HTTPException(404)
    db.delete(row)
    db.commit()
    return {"gone": db.get(User, number) is None}


@router.post("/token")
async def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    if form.password != "open":
        raise HTTPException(400, "wrong name or password")
    claims = {"sub": form.username, "scope": " ".join(form.scopes), "exp": 4_000_000_000}
    return {"access_token": jwt.encode(claims, _key, "EdDSA"), "token_type": "bearer"}


async def current_user(scopes: SecurityScopes, token: Annotated[str, Depends(_scheme)]) -> str:
    challenge = {"www-authenticate": f'Bearer scope="{scopes.scope_str}"'}
    try:
        claims = jwt.decode(token, _key.public_key(), algorithms=["EdDSA"])
    except jwt.InvalidTokenError as exc:
        raise HTTPException(401, str(exc), headers=challenge) from exc
    if not {*scopes.scopes} <= {*claims["scope"].split()}:
        raise HTTPException(403, "not enough", headers=challenge)
    return str(claims["sub"])


@router.get("/me")
async def me(user: Annotated[str, Security(current_user, scopes=["read"])]) -> dict[str, str]:
    return {"user": user}


@router.put("/me", status_code=204)
async def rename(user: Annotated[str, Security(current_user, scopes=["read", "write"])]) -> None:
    raise AssertionError("nobody gets here")


@router.get("/basic")
def basic(given: Annotated[HTTPBasicCredentials, Depends(_basic)]) -> dict[str, str]:
    return {"name": given.username, "password": given.password}


@router.get("/key")
async def key(given: Annotated[str, Depends(_api_key)]) -> str:
    return given
