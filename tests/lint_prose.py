"""Checks the prose of the repository for banned phrases: `python -m tests.lint_prose`. Exits with 1 if it finds any.

Prose is the strings and comments of Python code, which include docstrings and messages, the descriptions in
schema.graphql, the Markdown pages, and all files of the examples and the web page. A comment `# prose: allow`
(`<!-- prose: allow -->` in Markdown) allows a phrase: on the same line, or on the last line of the docstring, comment
or paragraph.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "jobs", "graphql_api", "bench", "tests", "examples")
#: Files that quote the banned phrases: this one and its test.
QUOTING = {"lint_prose.py", "test_lint_prose.py"}
#: Folders in which all files with these suffixes are checked as a whole.
FOLDERS = ("examples", "web")
SUFFIXES = {".css", ".graphql", ".html", ".js", ".jsx", ".md", ".mjs", ".sh", ".ts"}
#: Banned phrases, as regular expressions, and the words to use instead.
BANNED = {
    r"under\s+way": "in flight (requests), running (jobs) or open (transactions)",
    r"mend(?:s|ed|ing)?": "fix",
    r"whoever": "the noun: the caller, the client, the worker",
    r"lately": "recently",
    r"what\s+came\s+of": "outcome or result",
    r"told\s+of": "notified of",
    r"tells\s+of": "reports or says",
    r"know\s+no\s+more": "forget",
}
ALLOW = "prose: allow"

_BANNED = {re.compile(rf"\b{phrase}\b", re.IGNORECASE): instead for phrase, instead in BANNED.items()}
_DESCRIPTION = re.compile(r'"""(.*?)"""', re.DOTALL)
_PARAGRAPH = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_COMMENT_START = re.compile(r"#:? ?")


class Passage(NamedTuple):
    """A piece of prose. A phrase may extend over several of its lines."""

    text: str
    first_line: int


class Finding(NamedTuple):
    """A banned phrase in a file."""

    path: Path
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.phrase}". Use: {self.instead}.'


def check_repository(root: Path) -> list[Finding]:
    """Return the banned phrases in all checked files of a checkout."""
    findings = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name not in QUOTING:
                findings += check(path.relative_to(root), path.read_text(), python_passages)
    schema = Path("schema.graphql")
    findings += check(schema, (root / schema).read_text(), schema_passages)
    pages = [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]
    for folder in FOLDERS:
        paths = [path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES]
        pages += sorted(path for path in paths if "node_modules" not in path.parts)
    for path in pages:
        findings += check(path.relative_to(root), path.read_text(), markdown_passages)
    return findings


def check(path: Path, source: str, split: Callable[[str], Iterator[Passage]]) -> list[Finding]:
    """Return the banned phrases in a file. `split` finds its prose."""
    lines = source.splitlines()
    findings = []
    for passage in split(source):
        last_line = passage.first_line + passage.text.count("\n")
        for pattern, instead in _BANNED.items():
            for match in pattern.finditer(passage.text):
                line = passage.first_line + passage.text.count("\n", 0, match.start())
                if ALLOW not in lines[line - 1] and ALLOW not in lines[last_line - 1]:
                    findings.append(Finding(path, line, " ".join(match[0].split()), instead))
    return findings


def python_passages(source: str) -> Iterator[Passage]:
    """Yield the strings and comments of a module. Comments on consecutive lines are one passage."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if node.end_lineno != node.lineno + text.count("\n"):  # the lines of the text are not those of the source
                text = " ".join(text.split())
            yield Passage(text, node.lineno)
    block: list[str] = []
    end = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != end + 1:
            yield Passage("\n".join(block), end - len(block) + 1)
            block = []
        block.append(_COMMENT_START.sub("", token.string, count=1))
        end = line
    if block:
        yield Passage("\n".join(block), end - len(block) + 1)


def schema_passages(source: str) -> Iterator[Passage]:
    """Yield the descriptions of a GraphQL schema."""
    for match in _DESCRIPTION.finditer(source):
        yield Passage(match[1], source.count("\n", 0, match.start()) + 1)


def markdown_passages(source: str) -> Iterator[Passage]:
    """Yield the paragraphs, lists, tables and code blocks of a page: all that is separated by empty lines."""
    for match in _PARAGRAPH.finditer(source):
        yield Passage(match[0], source.count("\n", 0, match.start()) + 1)


def main() -> int:
    """Print the findings. Return 1 if there are any."""
    findings = check_repository(ROOT)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
