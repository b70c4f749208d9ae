"""The reference cloud endpoint: one model behind the Open Inference Protocol v2, JSON over HTTP.

https://github.com/kserve/open-inference-protocol. Devices fall back on it; KServe, Triton or MLServer
take its place in production. The web framework belongs to the `server` extra.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_runtime.arrays import from_value, to_value
from edge_runtime.errors import InferenceError, InputError, RuntimeNotInstalledError
from edge_runtime.port import LoadedModel
from edge_runtime.preprocessing import Preprocessing
from edge_runtime.signature import check_inputs, check_outputs
from ota_contract import __version__
from ota_contract.errors import ProtocolError
from ota_contract.inference_protocol import (
    CONTENT_TYPE,
    MAX_MESSAGE_BYTES,
    InferResponse,
    dump_response,
    parse_request,
)
from ota_contract.manifest import Release
from ota_contract.tensors import Tensor

__all__ = ["create_endpoint"]


def create_endpoint(release: Release, model: LoadedModel, preprocessing: Preprocessing) -> Starlette:
    """The endpoint serving one loaded variant of a release as model `release.name.model`.

    It takes what an app gives a device: raw values, which the release's own preprocessing makes tensors of.
    """
    endpoint = _Endpoint(release, model, preprocessing)
    named = "/v2/models/{model}"
    versioned = f"{named}/versions/{{version}}"
    routes = [
        Route("/v2", endpoint.server),
        Route("/v2/health/live", endpoint.healthy),
        Route("/v2/health/ready", endpoint.healthy),
    ]
    for prefix in (named, versioned):
        routes += [
            Route(prefix, endpoint.known(endpoint.metadata)),
            Route(f"{prefix}/ready", endpoint.known(endpoint.ready)),
            Route(f"{prefix}/infer", endpoint.known(endpoint.infer), methods=["POST"]),
        ]
    return Starlette(routes=routes)


_Handler = Callable[[Request], Awaitable[Response]]


class _Endpoint:
    """The protocol's operations on one model."""

    def __init__(self, release: Release, model: LoadedModel, preprocessing: Preprocessing) -> None:
        self._release = release
        self._model = model
        self._preprocessing = preprocessing

    def known(self, handler: _Handler) -> _Handler:
        """Answer 404 for a model or version that is not the served one."""

        async def handle(request: Request) -> Response:
            version = request.path_params.get("version", self._release.version)
            asked = (request.path_params["model"], version)
            if asked != (self._release.name.model, self._release.version):
                return _error(404, f"no model {asked[0]} version {asked[1]} here")
            return await handler(request)

        return handle

    async def server(self, _: Request) -> Response:
        """Server metadata."""
        return JSONResponse({"name": "ferry-cloud", "version": __version__, "extensions": []})

    async def healthy(self, _: Request) -> Response:
        """Liveness and readiness; the model is loaded before the first request is accepted."""
        return JSONResponse({"live": True, "ready": True})

    async def ready(self, _: Request) -> Response:
        """Model readiness."""
        return JSONResponse({"name": self._release.name.model, "ready": True})

    async def metadata(self, _: Request) -> Response:
        """Model metadata."""
        return JSONResponse(
            {
                "name": self._release.name.model,
                "versions": [self._release.version],
                "platform": "ferry",
                "inputs": list(map(_describe, self._release.raw_inputs)),
                "outputs": list(map(_describe, self._release.outputs)),
            }
        )

    async def infer(self, request: Request) -> Response:
        """One inference; the caller's mistakes are 400, the model's own failures 500."""
        try:
            body = await _bounded_body(request)
            answer = await run_in_threadpool(self._answer, body)
        except (ProtocolError, InputError) as error:
            return _error(400, str(error))
        except (InferenceError, RuntimeNotInstalledError) as error:
            return _error(500, str(error))
        return Response(answer, media_type=CONTENT_TYPE)

    def _answer(self, body: bytes) -> bytes:
        message = parse_request(body)
        raw = {value.name: from_value(value) for value in message.inputs}
        inputs = self._preprocessing.prepare(raw)
        check_inputs(self._release.inputs, inputs)
        outputs = self._model.run(inputs)
        check_outputs(self._release.outputs, outputs)
        return dump_response(
            InferResponse(
                model_name=self._release.name.model,
                model_version=self._release.version,
                id=message.id,
                outputs=tuple(to_value(name, array) for name, array in outputs.items()),
            )
        )


async def _bounded_body(request: Request) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"the request is longer than {MAX_MESSAGE_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _describe(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype.value, "shape": list(tensor.shape)}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
