#!/usr/bin/env python3
"""Makes the Python environment of requirements.txt and prints its interpreter's path.

It lies in $EDGE_VENV, else target/reference-venv of this repository. A second call does nothing when the
environment is whole and was made from the same requirements. Any Python 3.11 or later may start it.
"""
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"


def location():
    """The environment's folder."""
    return pathlib.Path(os.environ.get("EDGE_VENV") or HERE.parent.parent / "target" / "reference-venv").absolute()


def stamp():
    """What the environment depends on: the requirements and the Python that made it."""
    return f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} {sys.version_info[0]}.{sys.version_info[1]}\n"


def usable(root):
    """Whether the environment was finished from these requirements and its interpreter still starts."""
    mark, python = root / "edge-requirements", root / "bin" / "python"
    # The interpreter may have gone with an upgrade of the system's Python.
    return (mark.is_file() and mark.read_text().split()[0] == stamp().split()[0]
            and subprocess.run([python, "-c", "import onnxruntime, onnx, numpy, PIL"],
                               stderr=subprocess.DEVNULL).returncode == 0)


def install(root):
    """Creates the environment and installs the requirements; pip is run twice at most."""
    shutil.rmtree(root, ignore_errors=True)
    venv.create(root, with_pip=True)
    pip = [str(root / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
           "--requirement", str(REQUIREMENTS)]
    if subprocess.run(pip, stdout=sys.stderr).returncode and subprocess.run(pip, stdout=sys.stderr).returncode:
        sys.exit("bootstrap.py: pip install failed twice")
    # Last, so that a broken install is never taken for a whole one.
    (root / "edge-requirements").write_text(stamp())


def main():
    if sys.version_info < (3, 11):
        sys.exit("bootstrap.py: Python 3.11 or later is needed")
    root = location()
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.with_name(root.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test programs may start it side by side
        if not usable(root):
            install(root)
    print(root / "bin" / "python")


if __name__ == "__main__":
    main()
