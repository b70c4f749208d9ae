"""The device's own token: given by the server once, kept where only this user can read it."""

from __future__ import annotations

from device_sdk.config import Config
from device_sdk.durable import read_bounded, remove_durably, write_durably
from device_sdk.errors import ConfigError, EnrolmentError, NetworkError, StoreError
from device_sdk.records import printable
from device_sdk.transport import Answer, Transport
from ota_contract.device import attributes_to_json
from ota_contract.documents import canonical_json, read_document
from ota_contract.errors import FormatError

__all__ = ["Enrolment", "problem_of"]

_MAX_ANSWER_BYTES = 64 * 1024
_MAX_PROBLEM = 300
_MAX_TOKEN_BYTES = 4096
_CREATED, _CONFLICT = (200, 201), 409
_LATER = (408, 425, 429, 500, 502, 503, 504)


class Enrolment:
    """Obtains and keeps the token this device reports with."""

    def __init__(self, config: Config, transport: Transport) -> None:
        """Nothing is sent yet."""
        self._config = config
        self._transport = transport
        self._path = config.store / "token"

    def token(self) -> str:
        """This device's token, enrolling it first if need be.

        Raises:
            EnrolmentError: The server refuses, or no enrolment token is configured.
            NetworkError: The server does not answer.
        """
        try:
            token = read_bounded(self._path, _MAX_TOKEN_BYTES).decode().strip()
        except FileNotFoundError:
            return self._enrol()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error
        return token if _is_token(token) else self._enrol()

    def forget(self) -> None:
        """The server no longer knows the token: enrol anew next time."""
        remove_durably(self._path)

    def _enrol(self) -> str:
        source = self._config.enrolment_token
        if source is None:
            raise EnrolmentError("no [enrolment] token_file in device.toml, so nothing can be reported")
        try:
            secret = read_bounded(source, _MAX_TOKEN_BYTES).decode().strip()
        except OSError as error:
            raise ConfigError(f"enrolment token {source}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"enrolment token {source} is not text") from error
        if not _is_token(secret):
            raise ConfigError(f"{source} does not hold an enrolment token, one line of printable ASCII")
        answer = self._transport.send(
            f"{self._config.server}/api/v1/devices",
            canonical_json(attributes_to_json(self._config.device)),
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            max_bytes=_MAX_ANSWER_BYTES,
        )
        if answer.status in _LATER:
            raise NetworkError(problem_of(answer, secret), retry_after_s=answer.retry_after_s)
        if answer.status == _CONFLICT:
            raise EnrolmentError(
                f"a device {self._config.device.device_id} has enrolled before; if this is it, "
                f"run `ferry device forget {self._config.device.device_id}`"
            )
        if answer.status not in _CREATED:
            raise EnrolmentError(f"the server refused to enrol this device: {problem_of(answer, secret)}")
        try:
            reader = read_document(answer.body, what="enrolment", format_=None, max_bytes=_MAX_ANSWER_BYTES)
            token = reader.text("token", max_length=512)
            if not _is_token(token):
                reader.fail("token", "not printable ASCII")
        except FormatError as error:
            raise EnrolmentError(f"the server's answer to the enrolment makes no sense: {error}") from error
        write_durably(self._path, token.encode())
        return token


def _is_token(text: str) -> bool:
    """Whether a text can be carried in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def problem_of(answer: Answer, *secrets: str) -> str:
    """What the server says is wrong, in its own words where it gives any; without the secrets it was told."""
    try:
        problem = read_document(answer.body, what="problem", format_=None, max_bytes=_MAX_ANSWER_BYTES)
        told = next((problem.raw(key) for key in ("detail", "error", "title") if problem.has(key)), "")
    except FormatError:
        told = ""
    text = str(told)
    for secret in secrets:  # some middleboxes give back the request they did not like
        text = text.replace(secret, "…")
    return printable(text, _MAX_PROBLEM) or f"HTTP {answer.status}"
