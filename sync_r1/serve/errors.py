"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

LONGEST_MESSAGE = 500


class ApiError(HTTPException):
    """What a client gets instead of a result. An HTTPException, so that frameworks pass it on."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        if self.status >= 500 or self.status == 429:
            kind = "server_error"
        elif self.status == 401:
            kind = "authentication_error"
        else:
            kind = "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return json_response(self.body, self.status, self.headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the client can mend it."""
    return ApiError(400, message[:LONGEST_MESSAGE], param=param, code=code)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII: texts of clients may hold halves of characters that UTF-8 has no bytes for."""
    return Response(json.dumps(value), status, headers, media_type="application/json")


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the app have OpenAI's form."""

    @app.exception_handler(ApiError)
    async def own(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()

    refuse_broken_bodies(app)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return ApiError(500, f"the server failed ({type(error).__name__}); its log says why").response()


def refuse_broken_bodies(app: FastAPI) -> None:
    """Say what is wrong with a body without repeating it, which would fail for one that is no text."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return from_validation(error.errors()).response()


def from_validation(found: Any) -> ApiError:
    """The error of pydantic's that looks deepest into the body, with the name of its field."""
    first = max(found, key=lambda error: len(error["loc"]))
    place = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(place)[:80] or None
    message = str(first["msg"]).removeprefix("Value error, ")
    if name is None:
        return bad_request(f"the body is no JSON of the right form: {message}")
    return bad_request(f"{name}: {message}", name)
