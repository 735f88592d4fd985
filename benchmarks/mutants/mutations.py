"""Where a mistake can be put into a source text, and the text with it. Pure.

A mutation replaces one expression or statement by a small mistake (DeMillo, Lipton, Sayward 1978; the kinds are those
of Offutt's sufficient set and of what people get wrong: a bound off by one, a forgotten call, two arguments the wrong
way round). Left alone is what no test should hold: words, logs, annotations, decorators, assertions, `__repr__`, and
figures that are settings (constants of a module in capitals).
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ALIKE: Final = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)
"""Arguments that may be taken for each other; a constant where a name belongs is noticed at once."""
_ORDERED: Final = frozenset({"isinstance", "issubclass", "getattr", "setattr", "cast", "min", "max"})
_WORDS: Final = frozenset({"log", "_log", "logging", "warnings", "console"})
"""Whose calls are words for people."""
_SILENT: Final = frozenset({"__repr__", "__str__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One mistake: the bytes from `start` to `end` of the source become `after`."""

    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str

    def apply(self, source: str) -> str:
        """Put the mistake into the source that it was found in."""
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()


def mutations(source: str) -> list[Mutation]:
    """List every mistake that can be put into a module, in the order of the text."""
    found = _Finder(source)
    found.visit(ast.parse(source))
    return sorted(found.found, key=lambda one: (one.start, one.kind, one.after))


class _Finder(ast.NodeVisitor):
    """Walks a module and notes what can be replaced."""

    def __init__(self, source: str) -> None:
        self._text = source.encode()
        starts = [0]
        for line in self._text.split(b"\n"):
            starts.append(starts[-1] + len(line) + 1)
        self._starts = starts
        self.found: list[Mutation] = []

    def _note(self, node: ast.AST, kind: str, after: str) -> None:
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        before = self._text[start:end].decode()
        if before != after:
            line: int = node.lineno  # type: ignore[attr-defined]
            self.found.append(Mutation(line=line, kind=kind, start=start, end=end, before=before, after=after))

    def _note_changed(self, node: ast.expr, kind: str, changed: ast.expr) -> None:
        # In brackets: what stands around it may bind more tightly.
        self._note(node, kind, f"({ast.unparse(ast.fix_missing_locations(changed))})")

    # What is left alone

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in _SILENT:
            return
        for default in [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]:
            self.visit(default)
        self._body(node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._body(node.body)

    def visit_Module(self, node: ast.Module) -> None:
        for statement in node.body:
            if not _is_setting(statement):
                self.visit(statement)

    def _body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Nothing: it tells the type checker, and readers."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Only the statement: what is said is words."""
        self._note(node, "error not raised", "pass")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Nothing: words."""

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing."""

    visit_ImportFrom = visit_Import  # type: ignore[assignment]  # noqa: N815

    # What is replaced

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and (other := _COMPARED.get(type(node.ops[0]))) is not None:
            self._note_changed(node, "comparison", ast.Compare(node.left, [other()], node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._note_changed(node, "and / or", ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._note_changed(node, "not forgotten", node.operand)
        elif isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self._note_changed(node, "sign", node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _COMPUTED.get(type(node.op))
        if other is not None and not (_is_words(node.left) or _is_words(node.right)):
            self._note_changed(node, "arithmetic", ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._note(node, "constant", str(not node.value))
        elif isinstance(node.value, int):
            self._note(node, "constant", str(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        if _speaks(node):
            return
        if isinstance(node.func, ast.Name) and node.func.id in _NAMES:
            self._note(node.func, "the other function", _NAMES[node.func.id])
        if (
            len(node.args) >= 2
            and all(isinstance(one, _ALIKE) for one in node.args[:2])
            and not _is_known_by_its_order(node)
        ):
            first, second, *rest = node.args
            if ast.dump(first) != ast.dump(second):
                swapped = ast.Call(node.func, [second, first, *rest], node.keywords)
                self._note_changed(node, "arguments swapped", swapped)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._note_changed(node, "branches swapped", ast.IfExp(node.test, node.orelse, node.body))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._note(node.value, "nothing returned", "None")
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and not _speaks(node.value):
            self._note(node, "call forgotten", "pass")
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._note(node, "statement forgotten", "pass")
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._note(node, "statement forgotten", "pass")
        self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._note(node, "continue / break", "break")

    def visit_Break(self, node: ast.Break) -> None:
        self._note(node, "continue / break", "continue")

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant | ast.NamedExpr):
            self._note_changed(test, "condition turned", ast.UnaryOp(ast.Not(), test))


def _is_setting(statement: ast.stmt) -> bool:
    """Tell a constant of the module: a figure that was chosen."""
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return False
    return all(isinstance(target, ast.Name) and target.id.strip("_").isupper() for target in targets)


def _is_words(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_known_by_its_order(node: ast.Call) -> bool:
    """Tell a call whose arguments nobody takes for each other, or that is the same either way."""
    return isinstance(node.func, ast.Name) and node.func.id in _ORDERED


def _speaks(node: ast.Call) -> bool:
    """Tell a call that only says something: a log, a warning, a metric's name."""
    called = node.func
    while isinstance(called, ast.Attribute):
        if called.attr in _WORDS:
            return True
        called = called.value
    return isinstance(called, ast.Name) and called.id in _WORDS


def lines_of(source: str) -> int:
    """Count a module's lines of code: those with a statement or an expression, not words, comments and blanks."""
    tree = ast.parse(source)
    words = {line for node in ast.walk(tree) for line in _docstring_lines(node)}
    return len({line for node in ast.walk(tree) for line in _lines(node)} - words)


def _lines(node: ast.AST) -> Iterator[int]:
    if isinstance(node, ast.stmt | ast.expr):
        yield node.lineno


def _docstring_lines(node: ast.AST) -> range:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return range(0)
