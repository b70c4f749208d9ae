"""Move a cohort of devices from their release to another one, in stages.

  ferry rollout create vision/digits 1.1.0 --stages 5%:600,25%:3600,100%
  ferry rollout start ID
  ferry rollout watch                      until it ends; 0 if it completed
  ferry rollout set-percent ID 50          take more devices in now
  ferry rollout halt ID                    no further device starts
  ferry rollout rollback ID                every device returns to its release

A stage is PERCENT[:SOAK_SECONDS[:MIN_HEALTHY]]. It is passed when it has soaked and its devices report
health; too many errors halt the rollout and turn it back.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any

from ferry_cli.client import Client, add_server_options, connect
from ferry_cli.errors import CommandError, UnreachableError
from ferry_cli.output import show_fields, show_json, show_rows
from ota_contract.names import Version, parse_model
from ota_contract.policy import Strategy

__all__ = ["configure", "run"]

_STAGE = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%?(?::(\d{1,8}))?(?::(\d{1,9}))?")
_FINAL = ("completed", "rolled_back", "aborted")
_WATCH_INTERVAL_S = 1.0
_PERCENT = 100
_LEAST_PERCENT = 0.01  # a basis point: percentages are told to the server in these


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _configure_create(actions.add_parser("create", help="draft a rollout"))
    verbs = {
        "start": "begin the first stage",
        "pause": "admit no further device, and wait",
        "resume": "go on after a pause",
        "halt": "stop now: no further device starts",
        "rollback": "return every device to its former release",
        "approve": "approve another person's draft",
        "abort": "give up a draft",
    }
    for verb, text in verbs.items():
        action = actions.add_parser(verb, help=text)
        action.add_argument("id")
        action.set_defaults(handler=_act, verb=verb)
        add_server_options(action)
    setting = actions.add_parser("set-percent", help="take in devices up to a percentage now")
    setting.add_argument("id")
    setting.add_argument("percent", help="such as 50 or 12.5")
    setting.set_defaults(handler=_set_percent)
    status = actions.add_parser("status", help="one rollout, or all of them")
    status.add_argument("id", nargs="?")
    status.add_argument("--model", metavar="PUBLISHER/MODEL", help="only the rollouts of one model")
    status.set_defaults(handler=_status)
    watch = actions.add_parser("watch", help="follow a rollout until it ends")
    watch.add_argument("id", nargs="?", help="default: the newest rollout")
    watch.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after this long")
    watch.set_defaults(handler=_watch)
    for action in (setting, status, watch):
        add_server_options(action)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    code: int = arguments.handler(arguments)
    return code


def _configure_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="PUBLISHER/MODEL")
    parser.add_argument("version")
    parser.add_argument("--cohort", default="everyone", help="whom to move (default %(default)s)")
    parser.add_argument(
        "--strategy",
        choices=[strategy.value for strategy in Strategy],
        default=Strategy.CANARY.value,
        help="canary goes through the stages; recreate moves all at once (default %(default)s)",
    )
    parser.add_argument(
        "--stages",
        metavar="PERCENT[:SOAK_S[:MIN_HEALTHY]],…",
        default="5%:3600,25%:3600,100%:3600",
        help="default %(default)s",
    )
    parser.add_argument(
        "--max-error-rate",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="inference errors above this turn the rollout back (default %(default)s)",
    )
    parser.add_argument(
        "--max-failed",
        type=float,
        default=0.2,
        metavar="FRACTION",
        help="failed devices above this turn it back (default %(default)s)",
    )
    parser.add_argument(
        "--min-healthy",
        type=int,
        default=1,
        metavar="DEVICES",
        help="healthy devices a stage needs (default %(default)s)",
    )
    parser.add_argument(
        "--min-inferences",
        type=int,
        default=50,
        metavar="N",
        help="candidate inferences a stage needs (default %(default)s)",
    )
    parser.add_argument(
        "--trial-inferences",
        type=int,
        default=10,
        metavar="N",
        help="real inferences before a device calls itself healthy (default %(default)s)",
    )
    parser.add_argument("--manual", action="store_true", help="wait for set-percent after each stage")
    parser.add_argument("--requires-approval", action="store_true", help="a second person must approve")
    parser.add_argument("--start", action="store_true", help="start it at once")
    add_server_options(parser)
    parser.set_defaults(handler=_create)


def _create(arguments: argparse.Namespace) -> int:
    recreate = arguments.strategy == Strategy.RECREATE.value
    stages = _stages("100%:0" if recreate else arguments.stages)
    gates = {"min_healthy": arguments.min_healthy, "min_inferences": arguments.min_inferences}
    body = {
        "model": str(parse_model(arguments.model)),
        "version": str(Version.parse(arguments.version)),
        "cohort": arguments.cohort,
        "strategy": arguments.strategy,
        "stages": [{**gates, **stage} for stage in stages],
        "max_error_ppm": _ppm(arguments.max_error_rate, "--max-error-rate"),
        "max_failed_ppm": _ppm(arguments.max_failed, "--max-failed"),
        "auto_advance": not arguments.manual,
        "trial": {"inferences": arguments.trial_inferences},
        "requires_approval": arguments.requires_approval,
    }
    client = connect(arguments)
    rollout = client.post("rollouts", body=body)
    if arguments.start:
        rollout = client.post("rollouts", rollout["id"], "start")
    _show(rollout, as_json=arguments.json)
    return 0


def _act(arguments: argparse.Namespace) -> int:
    rollout = connect(arguments).post("rollouts", arguments.id, arguments.verb)
    _show(rollout, as_json=arguments.json)
    return 0


def _set_percent(arguments: argparse.Namespace) -> int:
    body = {"percent_bp": _basis_points(arguments.percent)}
    rollout = connect(arguments).post("rollouts", arguments.id, "set-percent", body=body)
    _show(rollout, as_json=arguments.json)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    client = connect(arguments)
    if arguments.id:
        _show(client.get("rollouts", arguments.id), as_json=arguments.json)
        return 0
    rollouts = client.get("rollouts", model=arguments.model)["rollouts"]
    if arguments.json:
        show_json(rollouts)
        return 0
    columns = {
        "id": "ROLLOUT",
        "model": "MODEL",
        "version": "VERSION",
        "cohort": "COHORT",
        "state": "STATE",
        "percent": "PERCENT",
        "why": "WHY",
    }
    rows = ({**rollout, "percent": _percent(rollout["percent_bp"])} for rollout in rollouts)
    show_rows(rows, columns, empty="no rollouts yet; `ferry rollout create` drafts one")
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    client = connect(arguments)
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    rollout_id = arguments.id or _newest(client)
    last = ""
    while True:
        try:
            rollout = client.get("rollouts", rollout_id)
        except UnreachableError:
            # A server that restarts is no end of a rollout; one that was never there is an error.
            if not last or (deadline is not None and time.monotonic() > deadline):
                raise
            time.sleep(_WATCH_INTERVAL_S)
            continue
        line = _line(rollout)
        if line != last and not arguments.json:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        last = line
        if rollout["state"] in _FINAL:
            if arguments.json:
                show_json(rollout)
            return 0 if rollout["state"] == "completed" else 1
        if deadline is not None and time.monotonic() > deadline:
            raise CommandError(
                f"after {arguments.timeout:g} s the rollout is {rollout['state']}: {rollout['why']}"
            )
        time.sleep(_WATCH_INTERVAL_S)


def _newest(client: Client) -> str:
    rollouts = client.get("rollouts")["rollouts"]
    if not rollouts:
        raise CommandError("there are no rollouts yet; `ferry rollout create` drafts one")
    return str(rollouts[0]["id"])


def _show(rollout: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(rollout)
        return
    counts = rollout["counts"]
    arms = {
        f"{arm} errors": f"{counts[arm]['errors']} of {counts[arm]['inferences']} inferences"
        for arm in ("candidate", "control")
    }
    show_fields(
        {
            "rollout": rollout["id"],
            "moves": f"{rollout['cohort']}: {rollout['model']} "
            f"{rollout['base_version'] or '(what each device runs)'} → {rollout['version']}",
            "state": rollout["state"],
            "percent": _percent(rollout["percent_bp"]),
            "stages": _bar(rollout),
            "devices": f"{counts['devices_healthy']} healthy, {counts['devices_failed']} failed, "
            f"{counts['devices_exposed']} exposed, {counts['devices_targeted']} targeted "
            f"of {counts['devices_total']}",
            **arms,
            "why": rollout["why"],
        }
    )


def _line(rollout: dict[str, Any]) -> str:
    counts = rollout["counts"]
    return (
        f"{rollout['state']:<12} {_percent(rollout['percent_bp']):>6}  {_bar(rollout)}  "
        f"{counts['devices_healthy']}/{counts['devices_targeted']} healthy  {rollout['why']}"
    )


def _bar(rollout: dict[str, Any]) -> str:
    marks = {"passed": "●", "running": "◐", "soaking": "◑", "failed": "✗", "waiting": "○"}
    return " ".join(
        f"{marks.get(stage['state'], '?')}{_percent(stage['percent_bp'])}" for stage in rollout["stages"]
    )


def _stages(text: str) -> list[dict[str, int]]:
    stages = []
    for part in text.split(","):
        match = _STAGE.fullmatch(part.strip())
        if match is None:
            raise CommandError(
                f"stage {part!r} is not PERCENT[:SOAK_SECONDS[:MIN_HEALTHY]], such as 5%:600 or 5%:600:10"
            )
        stage = {"percent_bp": _basis_points(match[1]), "soak_s": int(match[2] or 0)}
        if match[3]:
            stage["min_healthy"] = int(match[3])
        stages.append(stage)
    return stages


def _basis_points(text: str) -> int:
    try:
        value = float(text.rstrip("%"))
    except ValueError as error:
        raise CommandError(f"{text!r} is not a percentage") from error
    if not _LEAST_PERCENT <= value <= _PERCENT:
        raise CommandError(f"{text} is not a percentage from {_LEAST_PERCENT} to {_PERCENT}")
    return round(value * 100)


def _ppm(fraction: float, option: str) -> int:
    if not 0 <= fraction <= 1:
        raise CommandError(f"{option} is a fraction between 0 and 1, such as 0.05")
    return round(fraction * 1_000_000)


def _percent(basis_points: int) -> str:
    return f"{basis_points / 100:g}%"
