"""The first lines that run in a model's process: `python bootstrap.py REQUESTS REPLIES LIFELINE STACKS`.

And in any other process of mlstream that is of another environment: `python bootstrap.py -m MODULE`. Loads this very
package by the place of its files, so that a model's environment need not have mlstream installed, and nothing of the
worker's environment comes to the model's path with it.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from runpy import run_module

PACKAGE = "mlstream"


def load_package(folder: Path) -> None:
    """Make the package in a folder importable under its name, whatever the path says."""
    spec = spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package in {folder}", name=PACKAGE)
    module = module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    load_package(Path(__file__).resolve().parent.parent)
    if sys.argv[1] == "-m":
        run_module(sys.argv[2], run_name="__main__", alter_sys=True)
    else:
        # Not before its package is loaded, and not at the top: the model's own processes may import this file again.
        from mlstream.host.serving import main

        main([int(number) for number in sys.argv[1:]])
