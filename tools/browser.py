"""See that there is a browser, and what drives it, for ``make test-browser``.

Where this runs as root on Debian or Ubuntu it installs what is missing; elsewhere
it says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib

from bootstrap import ROOT, Refusal, run

# As distributions call it.
NAMES = ("chromium", "chromium-browser")

_DRIVES = "import playwright.sync_api"


def main() -> int:
    """Install what is missing; return the exit code."""
    log = ROOT / "build" / "browser.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    python = str(ROOT / ".venv" / "bin" / "python")
    try:
        if find() is None:
            run("chromium", install_command(), log)
        if subprocess.run([python, "-c", _DRIVES], capture_output=True, check=False).returncode:
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
            run("playwright", [*pip, *requirements()], log)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    return 0


def find() -> str | None:
    """Return the path of a browser; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install_command() -> list[str]:
    """Return what installs the browser.

    Raises:
        Refusal: Only somebody else can.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Refusal(
            "no Chromium found; install it so that 'chromium' is on the PATH (on Debian and "
            "Ubuntu: sudo apt install chromium)"
        )
    return ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]


def requirements() -> list[str]:
    """Return what the extra ``browser`` needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed: list[str] = project["optional-dependencies"]["browser"]
    return needed


if __name__ == "__main__":
    sys.exit(main())
