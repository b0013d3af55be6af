"""What of the FastAPI application leaves nothing in libraries: all but SQLModel's tables.

So interpreters can be used again with it. Tokens are checked by PyJWT with cryptography.
"""

from __future__ import annotations

from typing import Annotated, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer

from tests.frameworks.apps.fastapi_shop import wares

app = FastAPI()
app.include_router(wares.router)
_key = Ed25519PrivateKey.generate().public_key()


@app.get("/accounts/me")
def me(token: Annotated[str, Depends(OAuth2PasswordBearer("/token"))]) -> Any:
    try:
        return jwt.decode(token, _key, algorithms=["EdDSA"])
    except jwt.InvalidTokenError as exc:
        raise HTTPException(401, str(exc)) from None
