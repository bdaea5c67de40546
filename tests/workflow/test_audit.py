"""tools/audit.py: what it says and returns for what pip-audit 2.10.1 was seen to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/audit.py"
LOCK = """numpy==2.4.6 \\
    --hash=sha256:00
    # via pandas
rich==15.0.0
uvloop==0.22.1 ; sys_platform == 'linux' \\
    --hash=sha256:11
"""
CLEAN = [{"name": name, "version": "1", "vulns": []} for name in ("rich", "uvloop")]
VULNERABLE = {
    "name": "numpy",
    "version": "2.4.6",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["99.1"], "aliases": ["CVE-2099-1"], "description": "s"}],
}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}


def audited(tmp_path: Path, answer: str, error: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tool with a module in place of pip-audit, which keeps what it was asked."""
    (tmp_path / "pip_audit.py").write_text(
        "import pathlib, sys\n"
        "asked = pathlib.Path(sys.argv[sys.argv.index('--requirement') + 1]).read_text()\n"
        "pathlib.Path(__file__).with_name('asked').write_text(asked)\n"
        f"print({answer!r})\nsys.exit({error!r})\n"
    )
    (tmp_path / "some.lock").write_text(LOCK)
    command = [sys.executable, TOOL, tmp_path / "some.lock"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def answer(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_every_package_of_the_lock_is_asked_for_whatever_system_it_is_for(tmp_path: Path) -> None:
    done = audited(tmp_path, answer({"name": "numpy", "version": "2.4.6", "vulns": []}, *CLEAN))
    assert (tmp_path / "asked").read_text().splitlines() == ["numpy==2.4.6", "rich==15.0.0", "uvloop==0.22.1"]
    assert done.returncode == 0
    assert done.stdout == "3 of 3 packages checked with osv; known vulnerabilities in them: 0\n"


def test_a_vulnerable_package_is_named_with_the_version_that_repairs_it(tmp_path: Path) -> None:
    done = audited(tmp_path, answer(VULNERABLE, *CLEAN))
    assert done.returncode == 1
    assert done.stdout.startswith("numpy 2.4.6: PYSEC-1, CVE-2099-1; fixed in 99.1\n3 of 3 packages checked")


@pytest.mark.parametrize(
    ("said", "error", "checked", "reason"),
    [
        ("", "ConnectionError: Failed to resolve 'api.osv.dev'", 0, "Failed to resolve"),
        (answer(SKIPPED, *CLEAN), "", 2, "Dependency not found on PyPI"),
        (answer(*CLEAN), "", 2, "about which nothing is known"),
        ("{}", "", 0, "pip-audit said nothing"),
    ],
)
def test_what_could_not_be_checked_does_not_pass(
    said: str, error: str, checked: int, reason: str, tmp_path: Path
) -> None:
    done = audited(tmp_path, said, error)
    assert done.returncode == 2
    known = "; known vulnerabilities in them: 0" * bool(checked)
    assert done.stdout == f"{checked} of 3 packages checked with osv{known}\n"
    assert f"NOT CHECKED: {3 - checked} packages" in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
