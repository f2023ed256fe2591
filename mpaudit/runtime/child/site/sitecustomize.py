"""Imported by Python itself at the start of every process of a run, as its folder is first on PYTHONPATH.

Lets mpaudit in, then gives way to the `sitecustomize` that would have been imported without it.
"""

import os
import sys
from types import ModuleType


def _mpaudit() -> ModuleType:
    """Imports the package this file belongs to, from where it lies, whatever sys.path holds."""
    from importlib.util import module_from_spec, spec_from_file_location

    root = os.path.abspath(__file__)
    for _ in range(4):
        root = os.path.dirname(root)
    if "mpaudit" not in sys.modules:
        spec = spec_from_file_location("mpaudit", os.path.join(root, "__init__.py"), submodule_search_locations=[root])
        assert spec is not None and spec.loader is not None
        package = module_from_spec(spec)
        sys.modules["mpaudit"] = package
        spec.loader.exec_module(package)
    from mpaudit.runtime.child import start

    return start


def _give_way() -> None:
    ours = sys.modules.pop(__name__)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401 the user's
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault(__name__, ours)


_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _here]
if os.environ.get("MPAUDIT_RUN"):
    try:
        _start = _mpaudit()
    except ImportError:
        pass  # another interpreter than mpaudit's, started by the script, which lacks what mpaudit needs: unwatched
    else:
        _start.start()
_give_way()
