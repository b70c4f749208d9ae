"""A function in a child process, where native code may die without taking the caller along."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["DiedError", "forked"]

_FORK = multiprocessing.get_context("fork")


class DiedError(Exception):
    """The child ended without an answer."""


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, computed in a fork; what it raises is raised here.

    Raises:
        DiedError: A crash in native code, or an end by somebody else.
    """
    receiver, sender = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_answer, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError as ended:
        raise DiedError("the process died") from ended
    finally:
        receiver.close()
        child.join()
    if error is not None:
        raise error
    return result


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = function(*arguments)
    except Exception as error:  # noqa: BLE001 - it is raised in the parent
        sender.send((None, error))
    else:
        sender.send((result, None))
