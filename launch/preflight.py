"""What `make` needs before anything is installed: told in one sentence each. Runs on any Python 3."""

import importlib.util
import os
import shutil
import sys
import sysconfig


def missing():
    """What is missing, in words."""
    if sys.version_info < (3, 11):  # noqa: UP036  # this file runs before anything is known
        return [f"Python >= 3.11 (this is {sys.version.split()[0]}; try `make PYTHON=python3.11`)"]
    found = []
    for module, package in (("venv", "python3-venv"), ("ensurepip", "python3-venv"), ("pip", "python3-pip")):
        if importlib.util.find_spec(module) is None:
            found.append(f"Python's {module} module (Debian: apt install {package})")
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        found.append("Python's headers (Debian: apt install python3-dev)")
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        found.append("a C++ compiler (Debian: apt install g++)")
    return found


if __name__ == "__main__":
    if missing():
        sys.exit("tarmac needs " + "; ".join(missing()) + ", then run make again.")
