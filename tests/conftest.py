"""For every test: the same examples everywhere, no raced clock, and a Ctrl-C that reaches children."""

from __future__ import annotations

import signal

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

# A suite started in the background inherits SIGINT ignored, and so would the programs whose Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
