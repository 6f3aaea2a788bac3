"""The routes of the REST endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from af3stream.server.admission import Refused
from af3stream.server.http_answers import respond
from af3stream.server.openai_errors import ApiError, api_error
from af3stream.server.rest.chat import Chat
from af3stream.server.rest.file_session import Engines
from af3stream.server.rest.transcriptions import Transcriptions
from af3stream.server.rest.uploads import Enter, UploadEndpoints

SLACK_BYTES = 1 << 20  # by which the application's own limit on bodies is wider, so that the endpoint's speaks


def rest_routes(engines: Engines, enter: Enter, authenticate: Callable[[Request], None]) -> list[BaseRoute]:
    """Make the routes.

    Args:
        enter: counts a request with audio while it is answered; raises `Refused` if it is not admitted.
        authenticate: raises `Refused` for a request without a valid token.
    """
    uploads = UploadEndpoints(engines.config.uploads, enter, engines.config.server.request_timeout_s)
    transcriptions, chat = Transcriptions(engines, uploads), Chat(engines, uploads)
    created = int(time.time())
    facts = engines.facts
    models = {name: _model(name, created) for name in (facts.name, facts.captioner.name)}

    async def list_models(request: Request) -> Response:
        return _told(request, lambda: {"object": "list", "data": [*models.values()]})

    async def tell_model(request: Request) -> Response:
        def find() -> dict[str, Any]:
            name = request.path_params["name"]
            if name not in models:
                raise ApiError(
                    "there is no such model", status=HTTPStatus.NOT_FOUND, code="model_not_found", param="model"
                )
            return models[name]

        return _told(request, find)

    def _told(request: Request, find: Callable[[], dict[str, Any]]) -> Response:
        try:
            authenticate(request)
            return respond(HTTPStatus.OK, msgspec.json.encode(find()), "application/json")
        except (Refused, ApiError) as error:
            return api_error(error).response()

    bodies = {
        "/v1/audio/transcriptions": transcriptions.transcribe,
        "/v1/audio/translations": transcriptions.translate,
        "/v1/chat/completions": chat.complete,
    }
    limit = uploads.max_bytes + SLACK_BYTES
    return [
        Route("/v1/models", list_models),
        Route("/v1/models/{name:path}", tell_model),
        *(
            Route(path, uploads.endpoint(answer), methods=["POST"], max_body_size=limit)
            for path, answer in bodies.items()
        ),
    ]


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "af3stream"}
