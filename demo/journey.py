"""The story, act by act; everything goes over real HTTP on loopback."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.devices import Site, fleet_of
from demo.field import Field
from demo.fleet_manager import FleetManager
from demo.processes import Children
from demo.tampering import tampered_blob, tampered_timestamp
from demo.telling import Teller
from demo.workshop import Made, Workshop, variants_of
from ota_contract.credentials import Credentials

__all__ = ["Journey", "Summary"]

_MODEL = "vision/digits"
_PUBLISHER = "vision"
_FIRST_STAGE_BP = 500
_FLEET_WAIT_S = 90.0
_ROLLOUT_WAIT_S = 120.0


@dataclass(slots=True, kw_only=True)
class Summary:
    """What is written to summary.json."""

    variants: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    devices: dict[str, Any] = field(default_factory=dict)
    fallback: dict[str, Any] = field(default_factory=dict)
    tampering: dict[str, int] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class Journey:
    """From a training script to a fleet that refuses tampered bytes."""

    def __init__(self, folder: Path, children: Children, teller: Teller, *, devices: int) -> None:
        """Work in `folder`, which is the caller's to remove."""
        self._folder = folder
        self._children = children
        self._teller = teller
        self._devices = devices
        scripts = Path(sys.executable).parent
        self._commands = {
            "python": Path(sys.executable),
            "ferry": scripts / "ferry",
            "ferry-device": scripts / "ferry-device",
        }
        self._workshop = Workshop(children, folder, self._commands["ferry"])
        self._data = folder / "keys" / "server"
        self.server = ""
        self.cloud = ""
        self.tokens: dict[str, str] = {}
        self.summary = Summary()

    def run(self) -> None:
        """Every act.

        Raises:
            StepError: One of them did not end as it should.
        """
        teller = self._teller
        with teller.step("train and convert 1.0.0: five variants for three runtimes, verified"):
            first = self._workshop.release("1.0.0")
            self._tell_variants(first)
        with teller.step("keys: root and targets offline, one for the publisher, four online roles"):
            self._make_keys()
        with teller.step("serve the OTA server, and a cloud endpoint to fall back on"):
            self._serve(first)
        with teller.step("publish 1.0.0, signed with the publisher's key"):
            self._publish(first)
        manager = FleetManager(
            self._children,
            self._commands["ferry"],
            Credentials(server=self.server, token=self.tokens["fleet_manager"]),
            _MODEL,
        )
        with teller.step(f"switch on {self._devices} devices, three of them processes of their own"):
            fleet = self._switch_on(first, manager)
        with teller.step("recreate: everybody to 1.0.0"):
            everybody = str(len(fleet.ids))
            recreate = ("--strategy", "recreate", "--min-healthy", everybody, "--min-inferences", "100")
            self._roll_out(manager, fleet, "1.0.0", *recreate)
            self._expect_everywhere(fleet, "1.0.0")
        with teller.step("publish 1.1.0, trained longer; canary 5 % → 25 % → 100 %, advancing by itself"):
            canary = ("--stages", f"5%:2,25%:2,100%:2:{everybody}", "--min-inferences", "40")
            self._publish(self._workshop.release("1.1.0"))
            self._roll_out(manager, fleet, "1.1.0", *canary)
            self._expect_everywhere(fleet, "1.1.0")
        with teller.step(
            "publish 1.2.0: signed, passes its golden vectors, fails in the field; canary halts"
        ):
            self._publish(self._workshop.release("1.2.0"))
            self._roll_out(manager, fleet, "1.2.0", *canary)
            self._expect_everywhere(fleet, "1.1.0")
        with teller.step("one device loses its model: the cloud answers"):
            self._fall_back(fleet)
        with teller.step("publish 1.3.0 and flip one bit of it on the server: every device refuses"):
            before = fleet.slots(fleet.status())
            refused = self._tamper_with_blob(manager, fleet)
        with teller.step("change one byte of the signed timestamp: every device refuses"):
            self.summary.tampering = {"blob_refused": refused, **self._tamper_with_metadata(fleet, before)}
        self._count(fleet)

    def keep(self) -> None:
        """Leave server, cloud and fleet running."""
        self._fleet.keep()
        self._children.release()

    def close(self) -> None:
        """Begin nothing more."""
        self._workshop.close()

    def _tell_variants(self, made: Made) -> None:
        for variant in variants_of(made.release):
            quality = "not run here" if variant["quality"] is None else f"{variant['quality']:.4f}"
            self._teller.say(
                f"{variant['runtime']:<7} {variant['precision']:<5} {variant['bytes']:>7} bytes  "
                f"accuracy {quality}  {variant['verification']}"
            )

    def _make_keys(self) -> None:
        ferry, folder = self._commands["ferry"], self._folder / "keys"
        self._children.run("keys", ferry, "keys", "init", folder, "--publisher", _PUBLISHER)
        for role in ("fleet_manager", "publisher", "enrolment", "viewer"):
            more = ("--publisher", _PUBLISHER) if role == "publisher" else ()
            command = ("token", "create", f"demo-{role.replace('_', '-')}", "--role", role, *more)
            self.tokens[role] = self._children.run(
                f"token {role}", ferry, *command, "--data", self._data
            ).strip()

    def _serve(self, first: Made) -> None:
        ferry = self._commands["ferry"]
        serving = self._children.start(
            "serve",
            ferry,
            "serve",
            "--data",
            self._data,
            "--port",
            "0",
            "--json",
            "--poll-interval",
            "1",
            "--tick",
            "0.5",
        )
        cloud = self._children.start("cloud", ferry, "cloud", first.package, "--port", "0", "--json")
        self.server = str(serving.listen()["url"])
        self.cloud = str(cloud.listen()["url"])
        self._teller.say(f"server {self.server}, cloud {self.cloud}")

    def _publish(self, made: Made) -> None:
        output = self._children.run(
            f"publish {made.release.version}",
            self._commands["ferry"],
            "publish",
            made.package,
            "--server",
            self.server,
            "--token",
            self.tokens["publisher"],
            "--key",
            self._folder / "keys" / "publishers" / f"{_PUBLISHER}.pem",
        )
        self._teller.say(output.strip())
        self.summary.variants += variants_of(made.release)

    def _switch_on(self, first: Made, manager: FleetManager) -> Field:
        token = self._folder / "enrolment.token"
        token.write_text(self.tokens["enrolment"])
        inputs = self._folder / "field.npz"
        shutil.copyfile(first.field, inputs)
        site = Site(
            server=self.server,
            cloud=self.cloud,
            trust_root=self._folder / "keys" / "root.json",
            enrolment_token=token,
            model=_MODEL,
        )
        self._fleet = Field(
            self._children,
            self._folder / "devices",
            self._commands,
            site=site,
            inputs=inputs,
            devices=list(fleet_of(self._devices)),
            processes=3,
        )
        # Every one, before anything is rolled out: a percentage is one of the devices the server knows.
        manager.await_devices(self._devices, within_s=_FLEET_WAIT_S)
        return self._fleet

    def _roll_out(self, manager: FleetManager, fleet: Field, version: str, *options: str) -> None:
        began = time.monotonic()
        if "recreate" in options:
            rollout = manager.draft(version, *options)
        else:
            rollout = manager.draft_reaching(version, fleet.ids, _FIRST_STAGE_BP, *options)
        manager.start(rollout)
        ended = manager.follow(rollout, self._teller, within_s=_ROLLOUT_WAIT_S)
        self.summary.rollouts.append(
            {
                "release": version,
                "outcome": ended["state"],
                "devices_total": ended["counts"]["devices_total"],
                "devices_exposed": ended["counts"]["devices_exposed"],
                "seconds": round(time.monotonic() - began, 1),
                "why": ended["why"],
            }
        )

    def _expect_everywhere(self, fleet: Field, version: str) -> None:
        def on_it(status: Mapping[str, Mapping[str, Any]]) -> int:
            return Counter(fleet.live(status).values())[version]

        for count in fleet.wait(f"everybody on {version}", on_it, within_s=_FLEET_WAIT_S):
            self._teller.update(f"{count} of {len(fleet.ids)} devices run {version}")
        self._teller.say(f"{count} of {len(fleet.ids)} devices run {version}")

    def _fall_back(self, fleet: Field) -> None:
        answer = fleet.lose_model(fleet.ids[0])
        self._teller.say(
            f"{answer['device']}: answered by {answer['answered_by']} in {answer['latency_ms']} ms "
            f"({answer['reason']})"
        )
        self.summary.fallback = {
            "answered_by": answer["answered_by"],
            "latency_ms": answer["latency_ms"],
        }
        self._expect_everywhere(fleet, "1.1.0")

    def _tamper_with_blob(self, manager: FleetManager, fleet: Field) -> int:
        made = self._workshop.release("1.3.0")
        self._publish(made)
        with tampered_blob(self._data, made.release) as sha256:
            self._teller.say(f"one bit of blob {sha256[:12]}… is flipped")
            # Not by the guard: it would call the rollout back before every device has tried.
            rollout = manager.draft("1.3.0", "--strategy", "recreate", "--max-failed", "1")
            manager.start(rollout)
            refused = self._count_refusals(fleet, "blobs")
            manager.roll_back(rollout)
            manager.follow(rollout, self._teller, within_s=_ROLLOUT_WAIT_S)
        return refused

    def _tamper_with_metadata(self, fleet: Field, before: Mapping[str, Any]) -> dict[str, int]:
        with tampered_timestamp(self._data):
            refused = self._count_refusals(fleet, "metadata")
            after = fleet.slots(fleet.status())
        moved = sum(after[key] != before[key] for key in before)
        self._teller.say(f"{moved} devices moved")
        return {"metadata_refused": refused, "state_moved": moved}

    def _count_refusals(self, fleet: Field, kind: str) -> int:
        def refused(status: Mapping[str, Mapping[str, Any]]) -> int:
            return sum(item["refused"][kind] > 0 for item in status.values())

        *_, count = fleet.wait(f"refusing {kind}", refused, within_s=_FLEET_WAIT_S)
        self._teller.say(f"{count} of {len(fleet.ids)} devices refused")
        return count

    def _count(self, fleet: Field) -> None:
        status = fleet.status()
        self.summary.devices = {"total": len(status), "on": dict(Counter(fleet.live(status).values()))}
        self.summary.polls = {
            key: sum(item["polls"][key] for item in status.values()) for key in ("total", "not_modified")
        }


def write_summary(path: Path, summary: Summary) -> None:
    """Write summary.json, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(json.dumps(summary.document(), indent=2) + "\n")
    staged.replace(path)
