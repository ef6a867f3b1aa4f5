"""Damage to files: changed bytes, and processes that are killed while they write."""

import fcntl
import os
import signal


def damaged(whole, rng):
    """Return bytes with a random kind of damage: changed, cut, inserted or repeated."""
    content = bytearray(whole)
    kind, n = rng.integers(5), len(whole)
    if kind == 0:
        return bytes(content[: rng.integers(n)])
    if kind == 1:
        begin = rng.integers(n)
        content[begin : begin + rng.integers(1, 200)] = b""
    elif kind == 2:
        begin = rng.integers(n)
        content[begin:begin] = rng.bytes(rng.integers(1, 50))
    elif kind == 3:
        begin, size = rng.integers(n), rng.integers(1, 200)
        content[begin : begin + size] = rng.bytes(len(content[begin : begin + size]))
    else:
        # Most damage to text is near the beginning, where headers lie.
        for position in (rng.beta(0.5, 2.0, size=rng.integers(1, 5)) * n).astype(int):
            content[position] ^= 1 << rng.integers(8)
    return bytes(content)


def killed_at(function, action, *, n_calls=0):
    """Run an action in a process that is killed when it calls a function of `os` or `fcntl`.

    Returns whether the function was called more than `n_calls` times.
    """
    child = os.fork()
    if child == 0:
        owner = os if hasattr(os, function) else fcntl
        original, calls = getattr(owner, function), []

        def kill(*args, **kwargs):
            calls.append(function)
            if len(calls) > n_calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, function, kill)
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
