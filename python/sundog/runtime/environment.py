# pathlib would be one more import in every instance.
# ruff: noqa: PTH110, PTH112, PTH115, PTH118, PTH120, PTH208
"""The template of an environment: imports the packages that its functions use, and forks their templates.

It never runs a function's code: that begins in the fork, after the fork has made namespaces of its own and given up every
right over them. What it imports is told by the server, which learned it from the functions that ran before.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sundog.runtime import _native, randomness, wire
from sundog.runtime.forking import Parent, copy_tmp, open_tmp, take_output
from sundog.runtime.loading import prepare_function, prepare_process, why_not_fork_safe

_PACKAGES = "/opt/sundog/env/"
_LIBRARY = os.path.dirname(os.__file__) + "/"
_MOST_MODULES = 5000  # that one function teaches


class Inherited:
    """What a function's template has of its environment's.

    Attributes:
        first: The modules that every process has before it runs anything of the user's.
        modules: Those and the ones that the environment's template had imported.
        variables: Environment variables that a package set when it was imported.
    """

    def __init__(self, first: frozenset[str], modules: frozenset[str], variables: dict[str, str]) -> None:
        self.first = first
        self.modules = modules
        self.variables = variables

    def shadowed(self, folders: Sequence[str]) -> str:
        """A module of these folders that the environment's module of the same name would wrongly stand for."""
        suffixes = tuple(importlib.machinery.all_suffixes())
        for folder in folders:
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for entry in names:
                name = entry.partition(".")[0]
                if name not in self.modules or name in self.first:
                    continue
                path = os.path.join(folder, entry)
                if os.path.isdir(path):
                    regular = any(os.path.exists(path + "/__init__" + suffix) for suffix in suffixes)
                    if regular or getattr(sys.modules.get(name), "__file__", None) is None:
                        return name
                elif entry.endswith(suffixes):
                    return name
        return ""

    def learned(self) -> list[str]:
        """Modules of the environment and of the standard library that were imported here, in their order."""
        names: list[str] = []
        # From the end, where the new ones are: to look at the others would part their pages from the environment's template.
        for name in reversed(sys.modules):
            if name in self.modules:
                break
            if name.partition(".")[0] in ("sundog", "__main__", "__mp_main__"):
                continue
            module = sys.modules[name]
            spec = getattr(module, "__dict__", {}).get("__spec__")
            origin = getattr(spec, "origin", None)
            found_here = isinstance(origin, str) and origin.startswith((_PACKAGES, _LIBRARY))
            if found_here and getattr(spec, "name", None) == name:
                names.append(name)
        names.reverse()
        return names[:_MOST_MODULES]


def why_not_shareable(own: set[int]) -> str:
    """What a package left open that two functions must not share: empty if nothing."""
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # the listing's own descriptor
        if int(name) in own or target.startswith(
            ("/dev/", "/usr/", "/opt/", "/etc/", "/proc/", "anon_inode:[landlock")
        ):
            continue
        return f"a package left {target} open"
    return ""


class Environment(Parent):
    def __init__(self, control: int, settings: dict[str, Any], in_force: int) -> None:
        super().__init__(control)
        self.own_network = bool(settings["own_network"])
        self.in_force = in_force
        self.first = self.modules = frozenset(sys.modules)  # made here: in a fork it would part the pages of all names
        self.variables = dict(os.environ)
        self.tmp_was_used = False
        self.gathered = False

    def handle(self, kind: int, number: int, header: bytes, fds: list[int]) -> None:
        fields = json.loads(header)
        if kind == wire.PRELOAD:
            self.preload(number, fields["modules"])
        elif kind == wire.FORK_TEMPLATE:
            self.fork(number, fds, lambda: self.become_template(fields, fds))
        else:
            raise RuntimeError(f"A frame of type {kind} for an environment's template.")

    def preload(self, number: int, modules: list[str]) -> None:
        failed, reason, culprit, package = [], "", "", ""
        for name in modules:
            if name in sys.modules:
                continue
            if name.partition(".")[0] != package:
                package = name.partition(".")[0]
                self.send(wire.IMPORTING, {"package": package}, number)
            try:
                importlib.import_module(name)
            except BaseException:
                failed.append(name)
            if reason := self.why_not():
                culprit = package
                break
        self.watch_children()  # whatever a package did to the signal
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.modules = frozenset(sys.modules)
        gc.collect()
        randomness.collect()
        gc.freeze()
        if not self.gathered:  # later it would part what it shares with those that it forked
            _native.gather_memory()
            self.gathered = True
        self.tmp_was_used = any(os.scandir("/tmp"))
        self.send(wire.PRELOADED, {"failed": failed, "reason": reason, "culprit": culprit}, number)
        if reason:
            os._exit(0)  # before the next frame asks for a fork

    def why_not(self) -> str:
        """Why this process cannot be forked from any more: empty if it can."""
        own = {0, 1, 2, self.control, *self.wake}
        return why_not_fork_safe({self.control}, len(self.numbers)) or why_not_shareable(own)

    def become_template(self, settings: dict[str, Any], fds: list[int]) -> NoReturn:
        control, output, code, *cgroups = fds
        old_tmp = open_tmp(self.tmp_was_used)
        take_output(output)  # first: why the rest failed is the function's to say
        _native.become_template(code, cgroups, settings["tmp_megabytes"], self.own_network, settings["private_tmp"])
        os.close(self.control)
        if old_tmp >= 0:
            copy_tmp(old_tmp)
        variables = {name: value for name, value in os.environ.items() if self.variables.get(name) != value}
        from sundog.runtime import parking

        parking.begin(control, Inherited(self.first, self.modules, variables), self.in_force)


def serve(control: int, settings: dict[str, Any]) -> NoReturn:
    in_force = _native.confine_environment(settings["landlock"], settings["filters"], settings["own_network"])
    prepare_process(settings["paths"])
    prepare_function(settings["variables"], settings["paths"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environment = Environment(control, settings, in_force)
    gc.collect()
    gc.freeze()
    environment.send(wire.CONFIGURED, {"in_force": in_force})
    environment.serve()
