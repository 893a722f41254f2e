"""What is installed, what is written about it, and that both are true."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from snnergy.cli import cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_is_a_package_that_installs():
    places = PROJECT["tool"]["setuptools"]["package-dir"]
    assert set(places) == set(PROJECT["tool"]["setuptools"]["packages"])
    found = {p.parent.relative_to(ROOT).as_posix() for top in ("snnergy", "export", "deploy", "hardware_profiles")
             for p in (ROOT / top).rglob("__init__.py")}  # fmt: skip
    assert found - {f"snnergy/{name}" for name in ("export", "deploy", "hardware_profiles")} == set(places.values())


@pytest.mark.parametrize("name", ["export", "deploy", "hardware_profiles"])
def test_the_links_lead_to_the_folders(name):
    link = ROOT / "snnergy" / name
    if not link.is_symlink():
        pytest.skip("this checkout was made without symbolic links")
    assert link.resolve() == ROOT / name


def test_the_command_pages_are_what_help_prints():
    done = subprocess.run([sys.executable, ROOT / "docs" / "commands.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_is_in_the_changelog_and_every_link_of_the_readme_leads_somewhere():
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert all(re.search(rf"\b{name}\b", changes) for name in cli.commands)
    for page in ("README.md", "ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{page} links to {target}"


def test_files_named_in_the_architecture_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`((?:snnergy|export|deploy)/\w+\.py)", text):
        assert (ROOT / name).exists(), name


def test_the_command_line_runs_from_a_checkout():
    done = subprocess.run([sys.executable, ROOT / "cli.py", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("snnergy, version ")


def test_no_module_stands_at_the_top_of_the_installation():
    script = (
        "import importlib.util as u; print([n for n in ('deploy', 'export', 'hardware_profiles') if u.find_spec(n)])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "[]"
    assert importlib.util.find_spec("snnergy.deploy")
