"""Who may open the page, and what a browser may do with it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_r1.app.users import Users
from sync_r1.serve.errors import ApiError, bad_request, refuse_broken_bodies
from sync_r1.serve.security import HEADERS, OPEN_PATHS, Guard

API_PATHS = ("/v1/", "/sync-r1/", "/healthz", "/metrics", "/openapi.json")
FIXED_PATHS = ("/assets/", "/static/", "/theme.css")  # files of Gradio, which hold nothing private
CALL_PATHS = ("/gradio_api/run", "/gradio_api/call", "/gradio_api/api")  # of programs; the page uses the queue
QUEUE_PATH = "/gradio_api/queue/join"
PAGE_HEADERS = {
    **HEADERS,
    # Gradio writes scripts and styles into its page and builds functions from text, so both have to be allowed; what
    # matters is that nothing is loaded from, or sent to, another host.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class StudioGuard(Guard):
    """The guard of `sync-r1 serve` with the headers of a page, and users where other machines are let in."""

    def __init__(self, app: ASGIApp, users: Users | None = None) -> None:
        super().__init__(app)
        self.users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # none is used, and none is checked by a browser as a request is
            await send({"type": "websocket.close", "code": 1008})
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start" and not scope["path"].startswith(API_PATHS):
                headers = MutableHeaders(scope=message)
                headers.update(PAGE_HEADERS)
                if scope["path"].startswith(FIXED_PATHS):
                    headers["Cache-Control"] = "private, max-age=3600"
            await send(message)

        await super().__call__(scope, receive, headed)

    def check(self, method: str, path: str, headers: Headers) -> None:
        super().check(method, path, headers)
        if path.startswith(CALL_PATHS):
            raise ApiError(404, "handlers of the page cannot be called; programs use the API of sync-r1 serve")
        if self.users is not None and path not in OPEN_PATHS and not self.users.knows(headers.get("authorization", "")):
            raise ApiError(
                401,
                "name and password are missing or wrong",
                code="unauthorized",
                headers={"WWW-Authenticate": 'Basic realm="Sync-R1 studio", charset="UTF-8"'},
            )


def refuse_wrong_calls(gradio_app: FastAPI) -> None:
    """Answer 400 where a request names a handler that is not there, or sends what no page would."""
    refuse_broken_bodies(gradio_app)

    async def refuse(request: Request, error: Exception) -> Response:
        if request.url.path != QUEUE_PATH:
            raise error
        return bad_request("this is no call of the page's handlers; open the page anew").response()

    for kind in (LookupError, ValueError, TypeError, AttributeError):
        gradio_app.add_exception_handler(kind, refuse)
