"""The documentation is true: its code runs, its links lead somewhere, its figures and anchors hold."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("servers/*/README.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
ANCHOR = re.compile(r"<!-- DOC: (\S+): (.+?) -->")
KERNEL = ROOT / "kernel"
SIZE = re.compile(r"^\| (x2|boot|paging|core) \| (.+?) \| ([\d,]+) \|$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for name, body in found if name == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def headings(page: Path) -> set[str]:
    lines = [line.lstrip("#").strip() for line in prose(page).splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def anchors() -> list[tuple[str, str, str]]:
    found = [(page, *match) for page in PAGES for match in ANCHOR.findall(page.read_text(encoding="utf-8"))]
    return [(named(page), file, text) for page, file, text in found]


@pytest.mark.parametrize("page", ["writing-a-server.md", "testing.md"])
def test_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, one after the other, do what they say."""
    monkeypatch.chdir(ROOT)
    file = ROOT / "docs" / page
    namespace: dict[str, object] = {"__name__": "page"}

    for number, block in enumerate(blocks(file, "python"), 1):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)  # noqa: S102 - our own page


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_compiles(page: Path) -> None:
    """Python in a page is Python."""
    for block in blocks(page, "python"):
        compile(block, named(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository, and a heading of it."""
    broken = []
    for target, heading in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (heading and file.suffix == ".md" and heading not in headings(file)):
            broken.append(f"{target}#{heading}")

    assert broken == []


@pytest.mark.parametrize(("page", "file", "text"), anchors())
def test_anchor_holds(page: str, file: str, text: str) -> None:
    """The line of code on which a sentence of the prose depends is still there."""
    assert text in (ROOT / file).read_text(encoding="utf-8"), (
        f"{page}: read the sentence at this anchor again"
    )


def test_the_kernel_keeps_to_its_size() -> None:
    """Each part of the kernel has at most the lines that docs/design.md gives it."""
    paths = [path for path in KERNEL.rglob("*.py") if path.relative_to(KERNEL).parts[0] != "abi"]
    left = {
        path.relative_to(KERNEL).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in paths
    }
    bounds = SIZE.findall((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    named = {part: tuple(re.findall(r"`([\w./]+)`", of)) for part, of, _ in bounds}
    lines = {
        part: sum(left.pop(path) for path in [*left] if path.startswith(names))
        for part, names in named.items()
    }
    lines["core"] += sum(left.values())

    assert set(lines) == {"core", "x2", "boot", "paging"}
    assert [
        (part, lines[part], bound) for part, _, bound in bounds if lines[part] > int(bound.replace(",", ""))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_page_names_no_machine(page: Path) -> None:
    """No path of the machine it was written on."""
    assert re.findall(r"/work/|/home/\w+|/root\b", page.read_text(encoding="utf-8")) == []
