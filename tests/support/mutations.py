"""Makes mechanical mutants of the core, for mutants.py: an operator for another, a statement gone.

Those of C are found by its tokens, inside the bodies of functions; those of Python by its tree.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple


class Change(NamedTuple):
    """``new`` in place of the text from ``start`` to ``end``."""

    start: int
    end: int
    new: str


#: What an operator becomes, wherever it stands between two operands.
_OPERATORS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "+": "-",
    "-": "+",
}

# --- C ------------------------------------------------------------------------------------------

C_OPERATORS = _OPERATORS | {
    "&&": "||",
    "||": "&&",
    "&": "|",
    "|": "&",
    "<<": ">>",
    ">>": "<<",
    "+=": "-=",
    "-=": "+=",
}
_C_TOKEN = re.compile(
    r"""(?P<passed>/\*.*?\*/ | //[^\n]* | ^[ \t]*\#(?:\\\n|[^\n])*)
      | (?P<operand>\w+ | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])+')
      | (?P<other><<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|->|[-+*/%&|^]=|\S)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
#: An assignment, or a call for what it does: what it is to is not declared there.
_C_STATEMENT = re.compile(
    r"^\t+((?:[a-z_]\w*(?:(?:->|\.)\w+|\[[^];]*\])*|\*\w+)\s*(?:[-+|&]?=[^=;][^;{}]*|\+\+|--)"
    r"|(?!return|if|for|while|sizeof)[a-z_]\w*\([^;{}]*\));$",
    re.MULTILINE,
)


def _c_bodies(text: str) -> Iterator[list[re.Match[str]]]:
    """Give the tokens of each function's body."""
    tokens = [token for token in _C_TOKEN.finditer(text) if token.lastgroup != "passed"]
    depth = first = 0
    for index, token in enumerate(tokens):
        if token[0] == "{":
            if not depth:
                first = index if index and tokens[index - 1][0] == ")" else -1
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if not depth and first >= 0:
                yield tokens[first : index + 1]


def c_changes(text: str) -> Iterator[Change]:
    """Give the changes of a C source."""
    for body in _c_bodies(text):
        for before, token in pairwise(body):
            new = C_OPERATORS.get(token[0])
            operand = before.lastgroup == "operand" and before[0] not in ("return", "case")
            if new and (operand or before[0] in ")]"):
                yield Change(*token.span(), new)
        begin, end = body[0].start(), body[-1].end()
        for statement in _C_STATEMENT.finditer(text, begin, end):
            yield Change(statement.start(1), statement.end(1), "")


# --- Python -------------------------------------------------------------------------------------

PYTHON_OPERATORS = _OPERATORS | {
    "is": "is not",
    "is not": "is",
    "in": "not in",
    "not in": "in",
    "and": "or",
    "or": "and",
}
#: What nobody would miss: messages, and what is for a type checker alone.
_NOT_CHANGED = ("log.", "warnings.", "self._log", "super().__init__", "assert ")


class _PythonChanges(ast.NodeVisitor):
    def __init__(self, text: str) -> None:
        self.text = text
        self.changes: list[Change] = []
        self._making = False
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def _between(self, left: ast.expr, right: ast.expr) -> None:
        """Change the operator between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        match = re.fullmatch(r"[\s)]*(\S+(?: not| in)?)[\s(]*", self.text[start:end])
        if match and (new := PYTHON_OPERATORS.get(match[1])):
            self.changes.append(Change(start + match.start(1), start + match.end(1), new))

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in pairwise([node.left, *node.comparators]):
            self._between(left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in pairwise(node.values):
            self._between(left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(isinstance(side, ast.JoinedStr) for side in (node.left, node.right)):
            self._between(node.left, node.right)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start = self._span(node)[0]
            self.changes.append(Change(start, start + len("not "), ""))
        self.generic_visit(node)

    def _statement(self, node: ast.stmt) -> None:
        start, end = self._span(node)
        if not self.text[start:end].startswith(_NOT_CHANGED):
            self.changes.append(Change(start, end, "pass"))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._statement(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not self._making and all(
            isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets
        ):
            self._statement(node)
        else:
            self.generic_visit(node)

    visit_AugAssign = _statement
    visit_Delete = _statement
    visit_Raise = _statement

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave the types of names alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Look at a function's body, not at its signature; not at what it prints of itself.

        Nor is an attribute left out that is made with its object: that tells of itself.
        """
        self._making = node.name == "__init__"
        if node.name != "__repr__":
            for statement in node.body:
                self.visit(statement)


def python_changes(text: str) -> Iterator[Change]:
    """Give the changes of a Python module, within its functions."""
    if not text.isascii():
        raise ValueError("columns are counted in bytes: write it in ASCII")
    changes = _PythonChanges(text)
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            changes.visit(node)
    yield from changes.changes


# --- both ---------------------------------------------------------------------------------------


def changes_of(path: Path) -> list[Change]:
    """All changes of a source, in its order."""
    changes = python_changes if path.suffix == ".py" else c_changes
    return sorted(set(changes(path.read_text(encoding="utf-8"))))


def in_context(text: str, change: Change) -> tuple[str, str]:
    """The lines of a change and what they become, with as many around as make them unique."""
    first = text.rfind("\n", 0, change.start) + 1
    last = text.find("\n", change.end) + 1 or len(text)
    while text.count(text[first:last]) > 1:
        first = text.rfind("\n", 0, first - 1) + 1
        last = text.find("\n", last) + 1 or len(text)
    return text[first:last], text[first : change.start] + change.new + text[change.end : last]
