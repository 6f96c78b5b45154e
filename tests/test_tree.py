"""The tree stays readable: sizes, docstrings, and the few places that may catch everything."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: lines a file and a function may have (ARCHITECTURE "The tree")
FILE_LINES = 400
FUNCTION_LINES = 50

#: ARCHITECTURE "Style": the CLI's edge, the server's guard of one request, the performer of effects
CATCHES_ALL = {
    "jobctl/cli.py",
    "jobd/server/handlers.py",
    "jobd/daemon/control.py",
}


def sources(*tops: str) -> list[Path]:
    """Every Python file below `tops`, by path from the root."""
    return [
        path.relative_to(ROOT)
        for top in tops
        for path in sorted((ROOT / top).rglob("*.py"))
        if ".venv" not in path.parts
    ]


OURS = sources("jobd", "jobctl")


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file given by its path from the root."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def long_functions(tree: ast.Module) -> list[tuple[int, str, int]]:
    """`(line, name, lines)` of every function that is too long, its docstring not counted."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
        lines = (node.end_lineno or node.lineno) - body[0].lineno + 1 if body else 0
        if lines > FUNCTION_LINES:
            found.append((node.lineno, node.name, lines))
    return found


def catches_all(tree: ast.Module) -> list[int]:
    """The lines on which every exception is caught and kept, by whatever spelling.

    A handler that ends by raising the same again (to let go of something first) keeps none.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and not raises_again(node):
            named = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(
                each is None or (isinstance(each, ast.Name) and each.id in _EVERYTHING)
                for each in named
            ):
                found.append(node.lineno)
    return found


_EVERYTHING = {"Exception", "BaseException"}


def raises_again(handler: ast.ExceptHandler) -> bool:
    """True when the handler's last word is a bare `raise`, and nothing in it returns before."""
    last = handler.body[-1]
    leaves = (ast.Return, ast.Break, ast.Continue)
    return (
        isinstance(last, ast.Raise)
        and last.exc is None
        and not any(isinstance(node, leaves) for node in ast.walk(handler))
    )


def test_there_is_something_to_look_at() -> None:
    assert Path("jobd/errors.py") in OURS


def test_no_file_is_long() -> None:
    sizes = [
        (len((ROOT / path).read_text(encoding="utf-8").splitlines()), path)
        for path in [*OURS, *sources("tests", "contrib")]
    ]
    found = [f"{path}: {lines} lines" for lines, path in sizes if lines > FILE_LINES]
    assert not found, "\n".join([f"over {FILE_LINES} lines:", *found])


def test_no_function_is_long() -> None:
    found = [
        f"{path}:{line}: {name} has {lines} lines"
        for path in OURS
        for line, name, lines in long_functions(parsed(path))
    ]
    assert not found, "\n".join([f"over {FUNCTION_LINES} lines:", *found])


def test_everything_is_caught_in_three_places_only() -> None:
    found = [
        f"{path}:{line}"
        for path in OURS
        if str(path) not in CATCHES_ALL
        for line in catches_all(parsed(path))
    ]
    assert not found, "\n".join(["name the exceptions that can come:", *found])


@pytest.mark.parametrize(
    "text",
    [
        "except Exception:",
        "except BaseException as error:",
        "except:",
        "except (ValueError, Exception):",
    ],
)
def test_the_look_for_catch_alls_finds_them(text: str) -> None:
    assert catches_all(ast.parse(f"try:\n    pass\n{text}\n    pass\n")) == [3]


def test_letting_go_and_raising_again_is_not_catching() -> None:
    head = "try:\n    pass\nexcept BaseException:\n"
    assert not catches_all(ast.parse(f"{head}    close()\n    raise\n"))
    assert catches_all(ast.parse(f"{head}    if x:\n        raise\n"))
    assert catches_all(ast.parse(f"{head}    if x:\n        return\n    raise\n"))


def test_the_look_for_long_functions_finds_them() -> None:
    body = "\n".join(["    pass"] * (FUNCTION_LINES + 1))
    assert long_functions(ast.parse(f"def f():\n    '''Said.'''\n{body}\n")) == [
        (1, "f", FUNCTION_LINES + 1)
    ]
    assert not long_functions(ast.parse("def f():\n    '''Said.'''\n"))


@pytest.mark.parametrize("path", OURS, ids=str)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree) or not tree.body, f"{path}: no docstring"


@pytest.mark.parametrize("path", OURS, ids=str)
def test_annotations_are_not_evaluated(path: Path) -> None:
    tree = parsed(path)
    uses = any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))
    future = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )
    assert future or not uses, f"{path}: from __future__ import annotations is missing"


def test_nothing_built_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    wrong = [
        name
        for name in listed.stdout.splitlines()
        if name.endswith((".pyc", ".so")) or name.startswith((".venv/", ".demo/", "build/"))
    ]
    assert not wrong


def named_tests(text: str) -> list[tuple[str, str]]:
    """The tests that a document names, as file and function; each is there."""
    named = re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", text)
    for file, test in named:
        found = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^(async )?def {test}\(", found, re.MULTILINE), f"{file}::{test}"
    return named


def test_the_tests_that_security_names_are_there() -> None:
    assert len(named_tests((ROOT / "contrib/SECURITY.md").read_text())) > 40


def test_every_fault_has_a_test_or_a_reason() -> None:
    text = (ROOT / "contrib/FAULTS.md").read_text()
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 66))
    for number, row in rows:
        assert named_tests(row) or re.search(r"no test: \w+ \w+", row), f"fault {number}"
