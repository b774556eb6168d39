# pathlib would be one more import in every instance.
# ruff: noqa: PTH100, PTH120
"""A template: confines itself, imports the user's code, runs its init, parks, and forks instances on demand.

Started by the launcher as `python -I -S -B -X utf8 template.py NATIVE` with the server's control socket on descriptor 3.
Nothing of the user's is on sys.path, in the environment or in memory before confine_template() has returned.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # The runtime is the package sundog.runtime, whether or not the user's environment has a package "sundog" (the SDK);
    # if it has, that one is found through the same name once the user's code asks for more than the runtime.
    import importlib.machinery
    import importlib.util
    import os
    import types

    def _install_package(native: str) -> None:
        here = os.path.dirname(os.path.abspath(__file__))
        package = types.ModuleType("sundog")
        package.__path__ = [os.path.dirname(here)]
        sys.modules["sundog"] = package
        loader = importlib.machinery.ExtensionFileLoader("sundog.runtime._native", native)
        spec = importlib.util.spec_from_file_location("sundog.runtime._native", native, loader=loader)
        assert spec is not None
        extension = importlib.util.module_from_spec(spec)
        loader.exec_module(extension)
        import sundog.runtime

        sys.modules["sundog.runtime._native"] = extension
        sundog.runtime._native = extension

    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    _install_package(sys.argv[1])
    from sundog.runtime.parking import main

    main(3)
