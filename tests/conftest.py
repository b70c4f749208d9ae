"""What holds for every test: hypothesis draws the same examples everywhere and races no clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # two cores shared with the rest of the suite
)
settings.load_profile("ci")
