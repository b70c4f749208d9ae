"""`/metrics`: what an operator's Prometheus watches, in its text format."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ota_server.operations.ports import Services

__all__ = ["install"]


class _Signing(Collector):
    """Read anew at each scrape, so that it is true whichever process has signed."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks for nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of signing."""
        expiry = GaugeMetricFamily(
            "ferry_metadata_expiry_timestamp_seconds",
            "When the signed metadata of a role expires, in Unix time.",
            labels=["role"],
        )
        for role, expires in self._services.repository.expiries().items():
            expiry.add_metric([role], expires.timestamp())
        yield expiry
        signing = self._services.signing
        yield CounterMetricFamily(
            "ferry_metadata_signing_failures",
            "Turns in which metadata that was due could not be signed, since the start.",
            value=signing.failures,
        )
        yield GaugeMetricFamily(
            "ferry_metadata_signing_failing", "1 while the last turn was one of them.", value=signing.failing
        )


def install(app: FastAPI, services: Services) -> None:
    """Add the route; it is no part of the API, takes no token and tells no secret."""
    registry = CollectorRegistry()
    registry.register(_Signing(services))

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """What Prometheus scrapes."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
