"""Processes that the kernel kills when they open a socket that they should not.

A filter of system calls (seccomp) sees native code, threads and child processes as well, and needs
neither root nor tools. Linux on x86-64 and ARM only.
"""

from __future__ import annotations

import ctypes
import platform
import signal
import struct
import sys

__all__ = ["IS_POSSIBLE", "KILLED", "seal"]

KILLED = -signal.SIGSYS
"""Return code of a process that was killed by the filter."""
# architecture, socket, connect: see linux/audit.h and the tables of system calls
_MACHINES = {"x86_64": (0xC000003E, 41, 42), "aarch64": (0xC00000B7, 198, 203)}
_IO_URING_SETUP = 425
IS_POSSIBLE = sys.platform == "linux" and platform.machine() in _MACHINES

_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2  # of prctl
_LOAD, _EQUALS, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_CALL, _ARCHITECTURE, _FAMILY, _TYPE = 0, 4, 16, 24  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_AF_INET, _SOCK_STREAM = 2, 1


def seal(listens: bool = False) -> None:
    """From now on this process, and those that it starts, may open no socket.

    ``listens``: TCP sockets over IPv4 may be opened, but not connected.
    """
    architecture, socket, connect = _MACHINES[platform.machine()]
    if listens:
        kinds = [
            (_LOAD, _FAMILY),
            (_EQUALS, _AF_INET, "next", "kill"),
            (_LOAD, _TYPE),
            (_AND, 0xF),
            (_EQUALS, _SOCK_STREAM, "allow", "kill"),
        ]
    else:
        kinds = [(_RETURN, _KILL)]
    steps = [
        (_LOAD, _ARCHITECTURE),
        (_EQUALS, architecture, "next", "kill"),
        (_LOAD, _CALL),
        (_EQUALS, connect, "kill", "next"),
        (_EQUALS, _IO_URING_SETUP, "kill", "next"),
        (_EQUALS, socket, "next", "allow"),
        *kinds,
        (_RETURN, _ALLOW),
        (_RETURN, _KILL),
    ]
    code = b""
    for number, (operation, operand, *labels) in enumerate(steps, 1):
        places = {"next": 0, "allow": len(steps) - 2 - number, "kill": len(steps) - 1 - number}
        jumps = [places[str(label)] for label in labels] or [0, 0]
        code += struct.pack("=HBBI", operation, *jumps, operand)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(steps), ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_SECCOMP, _FILTER, ctypes.c_char_p(program)):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")
