"""Gateway and HTTPRoute, the fields that we use; written from Gateway API 1.6."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploy.schemas.strict import Meta, Name, Selector, Strict

_API = "gateway.networking.k8s.io/v1"
Port = Annotated[int, Field(ge=1, le=65535)]
Weight = Annotated[int, Field(ge=0, le=1_000_000)]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]


class _SecretRef(Strict):
    group: Literal[""] = ""
    kind: Literal["Secret"] = "Secret"
    name: Name
    namespace: Name | None = None


class _Tls(Strict):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: list[_SecretRef] = Field(default=[], max_length=64)


class _Namespaces(Strict):
    from_: Literal["All", "Selector", "Same", "None"] = Field(default="Same", alias="from")
    selector: Selector | None = None


class _AllowedRoutes(Strict):
    namespaces: _Namespaces | None = None


class _Listener(Strict):
    name: Name
    hostname: str | None = None
    port: Port
    protocol: Literal["HTTP", "HTTPS", "TLS", "TCP", "UDP"]
    tls: _Tls | None = None
    allowed_routes: _AllowedRoutes | None = None


class _GatewaySpec(Strict):
    gateway_class_name: Name
    listeners: list[_Listener] = Field(min_length=1, max_length=64)


class Gateway(Strict):
    """A Gateway."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["Gateway"]
    metadata: Meta
    spec: _GatewaySpec


class _Parent(Strict):
    group: str = "gateway.networking.k8s.io"
    kind: str = "Gateway"
    name: Name
    namespace: Name | None = None
    section_name: Name | None = None
    port: Port | None = None


class _PathMatch(Strict):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = Field(default="/", max_length=1024)


class _HeaderMatch(Strict):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: str
    value: str


class _Match(Strict):
    path: _PathMatch | None = None
    headers: list[_HeaderMatch] = Field(default=[], max_length=16)
    method: str | None = None


class _Timeouts(Strict):
    request: Duration | None = None
    backend_request: Duration | None = None


class _Backend(Strict):
    group: str = ""
    kind: str = "Service"
    name: Name
    namespace: Name | None = None
    port: Port
    weight: Weight = 1


class _Rule(Strict):
    name: Name | None = None
    matches: list[_Match] = Field(default=[], max_length=64)
    backend_refs: list[_Backend] = Field(default=[], max_length=16)
    timeouts: _Timeouts | None = None


class _RouteSpec(Strict):
    parent_refs: list[_Parent] = Field(default=[], max_length=32)
    hostnames: list[str] = Field(default=[], max_length=16)
    rules: list[_Rule] = Field(min_length=1, max_length=16)


class HTTPRoute(Strict):
    """An HTTPRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: Meta
    spec: _RouteSpec


KINDS: dict[tuple[str, str], type[Strict]] = {
    (_API, "Gateway"): Gateway,
    (_API, "HTTPRoute"): HTTPRoute,
}
