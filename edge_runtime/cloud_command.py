"""Serve a package's ONNX variant over the Open Inference Protocol v2.

  ferry cloud build/digits --port 9000
  curl http://127.0.0.1:9000/v2/models/digits

Devices fall back on such an endpoint: name it under [cloud] in device.toml.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path

from edge_runtime.errors import EndpointError, PackageError
from ota_contract.manifest import Release, Runtime, Variant

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("package", type=Path, metavar="PACKAGE_DIR", help="what `ferry convert` wrote")
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--variant", metavar="ID", help="an ONNX variant (default: the most precise)")
    parser.add_argument("--threads", type=int, default=1, help="threads an inference may use")
    parser.add_argument("--json", action="store_true", help="announce the URL as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load the variant, then serve until a signal ends it."""
    import uvicorn  # noqa: PLC0415 - `ferry cloud --help` stays quick

    from edge_runtime.cloud_endpoint import create_endpoint  # noqa: PLC0415
    from edge_runtime.loading import load  # noqa: PLC0415
    from edge_runtime.package import open_package  # noqa: PLC0415
    from edge_runtime.preprocessing import Preprocessing  # noqa: PLC0415

    release, _ = open_package(arguments.package)
    variant = _choose(release, arguments.variant)
    model = load(release, variant, arguments.package, threads=arguments.threads)
    preprocessing = Preprocessing.of_release(release, arguments.package)
    listener = _listen(arguments.host, arguments.port)
    url = f"http://{arguments.host}:{listener.getsockname()[1]}"
    if arguments.json:
        line = json.dumps({"url": url, "model": release.name.model, "version": release.version})
    else:
        line = f"serving {release.name} {release.version} ({variant.id}) at {url}/v2"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    app = create_endpoint(release, model, preprocessing)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    return 0


def _choose(release: Release, variant_id: str | None) -> Variant:
    variants = [variant for variant in release.variants if variant.runtime is Runtime.ONNX]
    if variant_id is not None:
        variants = [variant for variant in variants if variant.id == variant_id]
    if not variants:
        raise PackageError(f"{release.name} {release.version} has no such ONNX variant to serve")
    return max(variants, key=lambda variant: (variant.precision == "fp32", variant.length_bytes))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OverflowError as error:
        raise EndpointError(f"{port} is no port; use 1 to 65535, or 0 for a free one") from error
    except OSError as error:
        raise EndpointError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from error
