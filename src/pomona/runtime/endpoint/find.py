"""Asks a server for its protocol and its model."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pomona.runtime.endpoint.dialect import Refused
from pomona.runtime.endpoint.http import HttpConnection, NotFound, as_json
from pomona.runtime.endpoint.v1 import V1Rest
from pomona.runtime.endpoint.v2 import V2Rest

if TYPE_CHECKING:
    from pomona.encoder.endpoint import Endpoint
    from pomona.runtime.endpoint.dialect import Dialect

__all__ = ["find_dialect"]

_MODEL = re.compile(
    r"(?P<base>.*)/(?P<protocol>v[12])/models/(?P<name>[^/:]+)(/versions/(?P<version>[^/:]+))?"
    r"(:predict|/infer)?/?"
)


def find_dialect(endpoint: Endpoint) -> Dialect:
    """Return the model at an endpoint, spoken to as its server expects.

    Raises:
        Busy: the server does not answer now.
        Refused: it is not a model server, or has no such model.
    """
    parts = urlsplit(endpoint.url)
    if parts.scheme in {"grpc", "grpcs"}:
        from pomona.runtime.endpoint.v2_grpc import V2Grpc

        return V2Grpc(endpoint)
    if named := _MODEL.fullmatch(endpoint.url):
        kind: type[V1Rest | V2Rest] = V2Rest if named["protocol"] == "v2" else V1Rest
        return kind(named["base"], named["name"], named["version"], endpoint.timeout_s)
    base = endpoint.url.rstrip("/")
    http = HttpConnection(base, endpoint.timeout_s)
    try:
        http.get("/v2")
    except NotFound:
        return V1Rest(base, _only(_v1_models(http), "v1"), None, endpoint.timeout_s)
    return V2Rest(base, _only(_v2_models(http), "v2"), None, endpoint.timeout_s)


def _v2_models(http: HttpConnection) -> list[str]:
    """Return the names of the models: of KServe, or of Triton and MLServer."""
    with suppress(Refused):
        return _names(http.get("/v2/models"))
    try:
        headers = {"Content-Type": "application/json"}
        answer = http.post("/v2/repository/index", [json.dumps({"ready": True}).encode()], headers)
    except Refused as error:  # OpenVINO Model Server
        raise Refused(
            "it does not list its models: give the address of one, http://HOST:PORT/v2/models/NAME"
        ) from error
    return _names(as_json(answer.data))


def _v1_models(http: HttpConnection) -> list[str]:
    try:
        return _names(http.get("/v1/models"))
    except NotFound as error:
        raise Refused(
            "it has neither /v2 nor /v1/models: if it is TensorFlow Serving, give the address of "
            "the model, http://HOST:PORT/v1/models/NAME"
        ) from error


def _names(answer: Any) -> list[str]:
    found = answer.get("models") if isinstance(answer, dict) else answer
    entries = found if isinstance(found, list) else []
    return [quote(str(e["name"] if isinstance(e, dict) and "name" in e else e)) for e in entries]


def _only(names: list[str], protocol: str) -> str:
    if len(names) == 1:
        return names[0]
    shown = f"the models {', '.join(names)}" if names else "no model"
    raise Refused(
        f"it has {shown}: give the address of one, http://HOST:PORT/{protocol}/models/NAME"
    )
