"""A model's rollout policy: the signed `custom` of its zero-length TUF target.

It says, as an ordered list of rules, which release each cohort is on and who is being moved where. The
server writes it, devices and previews read it with `ota_contract.assignment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ota_contract.bucketing import BUCKETS
from ota_contract.conditions import Condition, parse_condition
from ota_contract.documents import Reader, reader_of
from ota_contract.errors import ConditionError, FormatError, InvalidNameError
from ota_contract.names import ModelName, Version, check_name

__all__ = [
    "FORMAT",
    "STANDARD_TRIAL",
    "Policy",
    "ReleaseRef",
    "Rule",
    "Strategy",
    "Trial",
    "parse_policy",
    "policy_to_json",
]

FORMAT = "ferry.policy/1"

_MAX_RULES = 64
_MAX_POLL_INTERVAL_S = 7 * 24 * 3600


class Strategy(Enum):
    """How a rollout moves devices."""

    RECREATE = "recreate"
    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    SHADOW = "shadow"
    AB_TEST = "ab_test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRef:
    """A release, pinned to the manifest the server checked."""

    version: str
    counter: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a freshly activated release must do before a device calls it healthy."""

    inferences: int = 10
    """Real inferences it must answer."""
    max_error_ppm: int = 500_000
    """More errors than this, once `inferences` are in, and the device rolls back by itself."""
    max_starts: int = 3
    """Starts of the process during trial without becoming healthy: a crash loop."""


STANDARD_TRIAL = Trial()
"""What holds where a policy says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What devices of one cohort run: `candidate` below the threshold, else `base`."""

    cohort: str
    condition: Condition
    base: ReleaseRef | None
    """None: leave these devices to the rules below."""
    candidate: ReleaseRef | None = None
    rollout: str = ""
    strategy: Strategy = Strategy.CANARY
    salt: str = ""
    threshold_bp: int = 0
    """Buckets below this many basis points take the candidate."""
    frozen: bool = False
    """Devices already on the candidate stay; no other device starts."""
    trial: Trial = STANDARD_TRIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rollout policy of one model; the first rule whose cohort matches a device decides."""

    name: ModelName
    revision: int
    poll_interval_s: int
    rules: tuple[Rule, ...]


def parse_policy(custom: object) -> Policy:
    """Parse the signed `custom` of a rollout target.

    Raises:
        UnknownFormatError: A newer policy; the device leaves everything as it is.
        FormatError: Malformed or out of bounds.
    """
    reader = reader_of(custom, what="rollout policy", format_=FORMAT)
    try:
        return Policy(
            name=ModelName(reader.text("publisher"), reader.text("model")),
            revision=reader.integer("revision"),
            poll_interval_s=reader.integer("poll_interval_s", low=1, high=_MAX_POLL_INTERVAL_S),
            rules=tuple(map(_rule_from, reader.objects("rules", max_items=_MAX_RULES))),
        )
    except (ConditionError, InvalidNameError) as error:
        raise FormatError(f"rollout policy: {error}") from error


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The inverse of `parse_policy`."""
    return {
        "format": FORMAT,
        "publisher": policy.name.publisher,
        "model": policy.name.model,
        "revision": policy.revision,
        "poll_interval_s": policy.poll_interval_s,
        "rules": [_rule_to_json(rule) for rule in policy.rules],
    }


def _rule_from(reader: Reader) -> Rule:
    trial = reader.optional("trial", _trial_from) or STANDARD_TRIAL
    return Rule(
        cohort=check_name(reader.text("cohort"), what="cohort"),
        condition=parse_condition(reader.raw("condition")),
        base=reader.optional("base", _ref_from),
        candidate=reader.optional("candidate", _ref_from),
        rollout=reader.text("rollout", max_length=64, default=""),
        strategy=reader.member("strategy", Strategy, default=Strategy.CANARY),
        salt=reader.text("salt", max_length=64, default=""),
        threshold_bp=reader.integer("threshold_bp", high=BUCKETS, default=0),
        frozen=reader.boolean("frozen", default=False),
        trial=trial,
    )


def _ref_from(reader: Reader) -> ReleaseRef:
    return ReleaseRef(
        version=str(Version.parse(reader.text("version"))),
        counter=reader.integer("counter", low=1),
        manifest_sha256=reader.sha256("manifest_sha256"),
    )


def _trial_from(reader: Reader) -> Trial:
    standard = STANDARD_TRIAL
    return Trial(
        inferences=reader.integer("inferences", high=10**9, default=standard.inferences),
        max_error_ppm=reader.integer("max_error_ppm", high=10**6, default=standard.max_error_ppm),
        max_starts=reader.integer("max_starts", low=1, high=100, default=standard.max_starts),
    )


def _rule_to_json(rule: Rule) -> dict[str, Any]:
    return {
        "cohort": rule.cohort,
        "condition": rule.condition.rule,
        "base": _ref_to_json(rule.base),
        "candidate": _ref_to_json(rule.candidate),
        "rollout": rule.rollout,
        "strategy": rule.strategy.value,
        "salt": rule.salt,
        "threshold_bp": rule.threshold_bp,
        "frozen": rule.frozen,
        "trial": {
            "inferences": rule.trial.inferences,
            "max_error_ppm": rule.trial.max_error_ppm,
            "max_starts": rule.trial.max_starts,
        },
    }


def _ref_to_json(ref: ReleaseRef | None) -> Mapping[str, Any] | None:
    if ref is None:
        return None
    return {
        "version": ref.version,
        "counter": ref.counter,
        "manifest_sha256": ref.manifest_sha256,
    }
