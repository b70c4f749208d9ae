"""What every tracked file must keep to, and the promises files make about one another."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ota_contract", "edge_runtime", "converter", "ota_server", "device_sdk", "ferry_cli", "demo")


def tracked() -> list[Path]:
    """Every file of the repository that git knows and that is still there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def texts() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in tracked():
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
    return found


# Written so that this file does not hold what it looks for. What stands in quotes of an example that
# must not be a path of anybody's machine is spelled with a placeholder instead.
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:work|root|home/\w+|Users/\w+)(?:/|\b)(?!\w*:)")
TEMPORARY = re.compile(r"[\"'\s=(]/" + r"tmp/\w")
REGISTRY = re.compile(
    r"(?i)(?:--(?:extra-)?index-url[ =]\S|--find-links[ =]\S|pypi"
    r"\.org/simple|files\.pythonhosted"
    r"\.org)"
)


def test_no_file_knows_a_machine() -> None:
    for name, text in texts().items():
        for number, line in enumerate(text.splitlines(), 1):
            assert not MACHINE_PATHS.search(line), f"{name}:{number}: {line.strip()[:120]}"
            assert not TEMPORARY.search(line), f"{name}:{number}: {line.strip()[:120]}"


def test_no_file_names_a_package_index() -> None:
    for name, text in texts().items():
        for number, line in enumerate(text.splitlines(), 1):
            assert not REGISTRY.search(line), f"{name}:{number}: {line.strip()[:120]}"


@pytest.mark.parametrize("name", ["bootstrap.lock", "dev.lock"])
def test_a_lock_file_pins_every_package_by_digest_and_no_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    entries = text.replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry.strip() and not entry.lstrip().startswith("#")]
    assert packages
    for entry in packages:
        assert re.match(r"[A-Za-z0-9._-]+(\[[^\]]+\])?==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert "://" not in text


def test_continuous_integration_runs_what_a_newcomer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert re.search(r"(?m)^(?:exec )?make test$", script.read_text())
    makefile = (ROOT / "Makefile").read_text()
    for target in ("setup", "demo", "test", "lint", "types", "imports", "tests", "lock", "clean"):
        assert re.search(rf"(?m)^{target}:", makefile), target
    assert re.search(r"(?m)^test: lint types imports tests\b", makefile)


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_one_version_and_every_package_is_in_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "ota_contract/__init__.py"
    built = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(built) == set(PACKAGES) - {"demo"}
    for package in built:
        assert (ROOT / package / "py.typed").is_file()


def markdown_links() -> list[tuple[str, str]]:
    found = []
    for name, text in texts().items():
        if not name.endswith(".md"):
            continue
        prose = re.sub(r"(?ms)^```.*?^```", "", text)
        found += [(name, target) for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"(?m)^#+ +(.+?)\s*$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere() -> None:
    links = markdown_links()
    assert links
    for name, target in links:
        if re.match(r"[a-z]+:", target):
            continue  # another site's business
        path, _, anchor = unquote(target).partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(page), f"{name} links to {target}"


@pytest.mark.parametrize("package", PACKAGES)
def test_an_error_tree_in_a_docstring_is_the_one_in_the_code(package: str) -> None:
    """Every class is drawn once, below its own base."""
    path = ROOT / package / "errors.py"
    if not path.exists():
        pytest.skip(f"{package} has no errors of its own yet")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    ]
    classes = {node.name: ast.unparse(node.bases[0]) for node in definitions}
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (ast.get_docstring(tree) or "").splitlines():
        match = re.match(r"([\s│├└─]*)([A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        above = [entry for entry in above if entry[0] < depth]
        assert name not in drawn, f"{name} is drawn twice"
        drawn[name] = above[-1][1] if above else ""
        above.append((depth, name))
    if package != "ota_contract":
        drawn.pop("FerryError", None)  # the contract's, drawn as the root by some
    assert drawn.keys() == classes.keys()
    for name, base in drawn.items():
        assert not base or classes[name] == base, f"{name} is drawn below {base}"


def test_test_files_have_names_of_their_own() -> None:
    """pytest's default import mode takes two of one name for one module."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
