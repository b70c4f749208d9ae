"""Who may call what: every route of the API against every kind of caller."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from ota_contract.device import Attributes
from ota_contract.report import Batch, dump_batch
from ota_server.commands.openapi import document
from ota_server.domain.access import Principal, Role
from ota_server.errors import AuthenticationError, ConflictError, ForbiddenError, NotFoundError, RefusedError
from ota_server.operations.access import authenticate, create_token, list_tokens, revoke_token
from tests.support.calls import Answer, Caller
from tests.support.fleet import TestServer
from tests.support.state import fingerprint, holds_bytes
from tests.support.tiny import TinyRelease

ZEROS = "0" * 64
CALLERS = (
    *("nobody", "garbage", "revoked", "vision", "audio"),
    *("fleet_manager", "viewer", "enrolment", "device"),
)
STRANGERS = ("nobody", "garbage", "revoked")
READERS = {"fleet_manager", "viewer"}
PUBLISHERS = {"vision", "audio"}
PLAN = {"model": "vision/digits", "version": "9.9.9"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call, made so that whoever may make it changes nothing."""

    call: str
    template: str
    may: set[str]
    body: Any = None
    raw: bytes | None = None


ROUTES = (
    Route(call="GET publishers/vision/metadata", template="/publishers/{publisher}/metadata", may={"vision"}),
    Route(
        call=f"GET publishers/vision/blobs/{ZEROS}?length=1",
        template="/publishers/{publisher}/blobs/{sha256}",
        may={"vision"},
    ),
    Route(
        call=f"PATCH publishers/vision/blobs/{ZEROS}?length=1&offset=1",
        template="/publishers/{publisher}/blobs/{sha256}",
        may={"vision"},
        raw=b"x",
    ),
    Route(
        call="POST publishers/vision/releases",
        template="/publishers/{publisher}/releases",
        may={"vision"},
        body={"manifest": "{}", "metadata": "{}"},
    ),
    Route(call="GET whoami", template="/whoami", may=set(CALLERS) - set(STRANGERS)),
    Route(call="GET models", template="/models", may=READERS | PUBLISHERS),
    Route(
        call="GET models/vision/digits/releases",
        template="/models/{publisher}/{model}/releases",
        may=READERS | PUBLISHERS,
    ),
    Route(
        call="GET models/vision/digits/releases/1.0.0",
        template="/models/{publisher}/{model}/releases/{version}",
        may=READERS | PUBLISHERS,
    ),
    Route(
        call="POST models/vision/digits/releases/9.9.9/withdraw",
        template="/models/{publisher}/{model}/releases/{version}/withdraw",
        may={"fleet_manager", "vision"},
    ),
    Route(call="POST devices", template="/devices", may={"enrolment"}, body={"id": "device-1"}),
    Route(
        call="POST reports",
        template="/reports",
        may={"device"},
        raw=dump_batch(Batch(device=Attributes(device_id="device-2"), live={}, reports=())),
    ),
    Route(call="GET devices", template="/devices", may=READERS),
    Route(call="GET devices/device-1", template="/devices/{device_id}", may=READERS),
    Route(
        call="PUT devices/nobody/tags",
        template="/devices/{device_id}/tags",
        may={"fleet_manager"},
        body={"tags": []},
    ),
    Route(call="DELETE devices/nobody", template="/devices/{device_id}", may={"fleet_manager"}),
    Route(call="GET cohorts", template="/cohorts", may=READERS),
    Route(
        call="POST cohorts/preview", template="/cohorts/preview", may=READERS, body={"condition": {"id": "x"}}
    ),
    Route(
        call="PUT cohorts/everyone",
        template="/cohorts/{name}",
        may={"fleet_manager"},
        body={"condition": {"id": "x"}},
    ),
    Route(call="GET cohorts/everyone/preview", template="/cohorts/{name}/preview", may=READERS),
    Route(call="GET rollouts", template="/rollouts", may=READERS),
    Route(call="POST rollouts", template="/rollouts", may={"fleet_manager"}, body=PLAN),
    Route(call="GET rollouts/ro-none", template="/rollouts/{rollout_id}", may=READERS),
    Route(
        call="POST rollouts/ro-none/set-percent",
        template="/rollouts/{rollout_id}/set-percent",
        may={"fleet_manager"},
        body={"percent_bp": 1},
    ),
    *(
        Route(
            call=f"POST rollouts/ro-none/{action}",
            template="/rollouts/{rollout_id}/{action}",
            may={"fleet_manager"},
        )
        for action in ("start", "approve", "pause", "resume", "halt", "rollback", "abort")
    ),
)


@pytest.fixture(scope="module")
def tokens(shared: TestServer) -> dict[str, str | None]:
    shared.publish(TinyRelease())
    enrolment = Caller(shared.url, shared.tokens["enrolment"])
    device = enrolment("POST", "devices", {"id": "device-1"}).json["token"]
    registry = shared.services.registry
    gone = Principal(name="gone", role=Role.FLEET_MANAGER)
    revoked = create_token(registry, gone, shared.clock)
    revoke_token(registry, "gone")
    return {
        "nobody": None,
        "garbage": "ferry_" + "x" * 43,
        "revoked": revoked,
        "vision": shared.tokens["publisher:vision"],
        "audio": shared.tokens["publisher:audio"],
        "device": device,
        **{role: shared.tokens[role] for role in ("fleet_manager", "viewer", "enrolment")},
    }


def make(route: Route, call: Caller) -> Answer:
    method, path = route.call.split(" ", 1)
    return call(method, path, route.body, raw=route.raw)


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.call.partition("?")[0].replace(ZEROS, "…"))
def test_every_route_lets_in_whom_it_should(
    route: Route, who: str, shared: TestServer, tokens: dict[str, str | None]
) -> None:
    before = fingerprint(shared.data)
    answer = make(route, Caller(shared.url, tokens[who]))
    if who in STRANGERS:
        answer.refused(401, "authentication")
        assert answer.headers["www-authenticate"] == "Bearer"
    elif who in route.may:
        # The device's own id is in no batch here: that one stays forbidden, by another rule.
        if route.template == "/reports":
            answer.refused(403, "forbidden", saying="cannot report for device-2")
        else:
            assert answer.status in (200, 404, 409, 422), answer.body
    else:
        answer.refused(403, "forbidden")
    assert fingerprint(shared.data) == before


def test_the_table_above_holds_every_route_of_the_api() -> None:
    described = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in json.loads(document())["paths"].items()
        for method in operations
        if path.startswith("/api/v1")
    }
    assert described == {(route.call.split(" ")[0], route.template) for route in ROUTES}


def test_health_and_the_api_description_take_no_token(shared: TestServer) -> None:
    call = Caller(shared.url)
    assert call("GET", "/healthz").json == {"status": "ok"}
    assert call("GET", "/api/v1/openapi.json").json["openapi"].startswith("3.")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "bearer", "Bearer \x7f", "Bearer " + "x" * 5000, "Token x"],
)
def test_a_malformed_authorization_is_nobody(header: str, shared: TestServer) -> None:
    answer = Caller(shared.url)("GET", "whoami", headers={"Authorization": header})
    answer.refused(401, "authentication")


def test_the_scheme_is_spelled_in_any_case(shared: TestServer) -> None:
    header = {"Authorization": f"bearer {shared.tokens['viewer']}"}
    assert Caller(shared.url)("GET", "whoami", headers=header).status == 200


def test_whoami_names_role_and_publisher(shared: TestServer, tokens: dict[str, str | None]) -> None:
    for who, role, publisher in (
        ("viewer", "viewer", ""),
        ("vision", "publisher", "vision"),
        ("device", "device", ""),
    ):
        answer = Caller(shared.url, tokens[who])("GET", "whoami").json
        assert (answer["role"], answer["publisher"]) == (role, publisher)


def test_a_revoked_token_ends_at_once(server: TestServer) -> None:
    registry = server.services.registry
    token = create_token(registry, Principal(name="bob", role=Role.VIEWER), server.clock)
    call = Caller(server.url, token)
    assert call("GET", "whoami").json["name"] == "bob"
    revoke_token(registry, "bob")
    call("GET", "whoami").refused(401, "authentication", saying="revoked")


def test_tokens_are_kept_as_digests_alone(
    server: TestServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stolen database or log opens nothing."""
    call = Caller(server.url, server.tokens["enrolment"])
    device = call("POST", "devices", {"id": "camera-1"}).json["token"]
    Caller(server.url, device)("GET", "devices").refused(403)
    Caller(server.url, device + "x")("GET", "devices").refused(401)
    written = "".join([*capfd.readouterr(), caplog.text])
    for token in (device, *server.tokens.values()):
        assert re.fullmatch(r"ferry_[A-Za-z0-9_-]{43}", token)
        assert holds_bytes(server.data, token.encode()) == []
        assert token not in written


def test_tokens_are_all_different(server: TestServer) -> None:
    registry = server.services.registry
    issued = {
        create_token(registry, Principal(name=f"t{number}", role=Role.VIEWER), server.clock)
        for number in range(20)
    }
    assert len(issued) == 20


@pytest.mark.parametrize(
    ("principal", "error"),
    [
        (Principal(name="x", role=Role.PUBLISHER), RefusedError),
        (Principal(name="x", role=Role.VIEWER, publisher="vision"), RefusedError),
        (Principal(name="x", role=Role.DEVICE, device="d"), RefusedError),
    ],
)
def test_a_token_that_makes_no_sense_is_not_issued(
    principal: Principal, error: type[Exception], shared: TestServer
) -> None:
    before = fingerprint(shared.data)
    with pytest.raises(error):
        create_token(shared.services.registry, principal, shared.clock)
    assert fingerprint(shared.data) == before


def test_a_token_name_is_taken_once_and_free_after_revoking(server: TestServer) -> None:
    registry = server.services.registry
    eve = Principal(name="eve", role=Role.VIEWER)
    first = create_token(registry, eve, server.clock)
    with pytest.raises(ConflictError, match="revoke"):
        create_token(registry, eve, server.clock)
    assert "eve" in {record.principal.name for record in list_tokens(registry)}
    revoke_token(registry, "eve")
    with pytest.raises(NotFoundError):
        revoke_token(registry, "eve")
    assert create_token(registry, eve, server.clock) != first
    with pytest.raises(AuthenticationError):
        authenticate(registry, first)


def test_a_principal_without_the_role_is_told_which_one_it_takes() -> None:
    viewer = Principal(name="val", role=Role.VIEWER)
    with pytest.raises(ForbiddenError, match="takes a fleet_manager token; 'val' is a viewer token"):
        viewer.require(Role.FLEET_MANAGER)
