"""Which code makes the numbers of a notebook, piece by piece: by it results know what made them.

Numbers come from a notebook's cells and from the science modules of this package. A piece is a function, a class or a
constant that the cells lead to, or the cells themselves, read without comments, docstrings and layout. What only shows
or moves things makes no number and has no part in it: figures (``cxr/plots``), plumbing (``cxr/project``), and
statements of a cell whose results go nowhere but onto the page. ``make stale`` is this module.
"""

import ast
import copy
import hashlib
import json
import re
from collections.abc import Set
from functools import cache
from pathlib import Path

from .paths import ROOT, Problem, command, display_path, results_dir

PACKAGE = Path(__file__).resolve().parent
NO_NUMBERS = {"__init__", "plots"}  # modules of the package; cxr/project is a folder of its own
SHOWN = {"print", "plots", "pd", "Markdown", "display"}  # roots of an expression that is there to be looked at
TRAINS = {"fit", "train_on_batch"}  # whose result counts, whatever it is called on
CHANGES = {"compile", "append", "extend", "insert", "update", "add", "pop", "remove", "sort", "shuffle"}
CHANGES |= TRAINS | {"set_weights", "load_weights", "adapt"}  # methods that change what they are called on
IMPORT = ast.Import | ast.ImportFrom
DEFINITION = ast.FunctionDef | ast.ClassDef
ASSIGNMENT = ast.Assign | ast.AnnAssign | ast.AugAssign


def notebooks(folder: Path = ROOT / "notebooks") -> dict[str, Path]:
    """The notebooks of a folder by number, in order: those called ``NN_name.ipynb``."""
    return {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def cells(notebook: Path, tag: str = "") -> list[str]:
    """What stands in the code cells of a notebook, or in those with this tag."""
    found = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    return ["".join(one["source"]) for one in found if not tag or tag in one["metadata"].get("tags", [])]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class _Wordless(ast.NodeTransformer):
    """Takes out what is only said: docstrings, what is printed, the words of an error, types."""

    def visit_arg(self, node):
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=0) if node.value else ast.Pass())

    def visit_Expr(self, node):
        called = getattr(node.value, "func", None)
        said = isinstance(node.value, ast.Constant) or isinstance(called, ast.Name) and called.id == "print"
        return ast.Pass() if said else self.generic_visit(node)

    def visit_Raise(self, node):
        return ast.Raise(node.exc.func if isinstance(node.exc, ast.Call) else node.exc, None)


def _text(node: ast.AST) -> str:
    """The code of a node as Python would print it, without its words."""
    return ast.unparse(_Wordless().visit(ast.parse(ast.unparse(node))))


def _defined(node: ast.AST) -> set[str]:
    """The names that a statement defines or changes: ``a, b[0], c.d = ...`` changes a, b and c."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name):
            return {name}
        case ast.Attribute(value=part) | ast.Subscript(value=part) | ast.Starred(value=part):
            return _defined(part)
        case ast.AnnAssign(target=part) | ast.AugAssign(target=part):
            return _defined(part)
        case ast.Assign(targets=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return set().union(*map(_defined, parts))
    return set()


def _used(node: ast.AST) -> set[str]:
    """Names that a node reads; ``module.name`` as both ``module`` and ``module.name``."""
    nodes = [*ast.walk(ast.parse(_text(node)))]
    dotted = [(one.value, one.attr) for one in nodes if isinstance(one, ast.Attribute)]
    names = {one.id for one in nodes if isinstance(one, ast.Name)}
    return names | {f"{value.id}.{name}" for value, name in dotted if isinstance(value, ast.Name)}


def _imports(tree: ast.AST, science: Set[str]) -> dict[str, str]:
    """What names of a module or notebook stand for: ``module`` or ``module.name`` of the science modules."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "cxr"):
            module = node.module if node.level else (node.module or "").partition(".")[2]
            for alias in node.names:
                name = f"{module}.{alias.name}" if module else alias.name
                if name.split(".")[0] in science:
                    found[alias.asname or alias.name] = name
    return found


@cache
def _modules(package: Path) -> dict[str, tuple[dict[str, str], dict[str, ast.Module]]]:
    """What the imports of each science module mean, and its pieces ("": statements that define nothing); read once."""
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.glob("*.py"))}
    found, science = {}, trees.keys() - NO_NUMBERS
    for module in science:
        pieces: dict[str, ast.Module] = {}
        for node in trees[module].body:
            said = isinstance(node, IMPORT) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            for name in () if said else _defined(node) or {""}:
                pieces.setdefault(name, ast.Module([], [])).body.append(node)
        found[module] = _imports(trees[module], science), pieces
    return found


def _root(node: ast.AST) -> tuple[str, list[str]]:
    """The name at the start of ``a.b(...).c[0]``, and the attributes on the way."""
    way = []
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        way += [node.attr] if isinstance(node, ast.Attribute) else []
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id if isinstance(node, ast.Name) else ""), way


def _changing(node: ast.AST) -> bool:
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(isinstance(one, ast.Attribute) and one.attr in CHANGES for one in calls)


def _needs(node: ast.stmt, last: bool, imported: set[str]) -> set[str] | None:
    """The names of which one must be in use for this statement to count; empty: always; None: never."""
    if isinstance(node, IMPORT | ast.Assert | ast.Pass):
        return None
    if isinstance(node, ASSIGNMENT) and _changing(node):
        return set()
    if not isinstance(node, ast.Expr):
        return _defined(node)
    root, way = _root(node.value)
    if not isinstance(node.value, ast.Call) or root in SHOWN or "style" in way:
        return None
    if root == "step" and way[0] in ("write", "done"):
        name = getattr(node.value.args[0], "value", None) if node.value.args else None
        return None if way[0] == "done" or str(name).endswith((".png", ".md")) else set()
    of_variable = way and root not in {"", "step", *imported}
    if of_variable and way[0] in CHANGES - TRAINS:
        return {root}
    return None if of_variable and last and not _changing(node) else set()


def _pruned(body: list[ast.stmt], live: set[str], imported: set[str], last: bool) -> list[ast.stmt]:
    """The statements that count, given the names that are in use."""
    kept: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.For | ast.While | ast.If | ast.With):
            parts = [getattr(node, part, []) for part in ("body", "orelse")]
            then, otherwise = (_pruned(part, live, imported, False) for part in parts)
            if then or otherwise:
                kept.append(copy.copy(node))
                vars(kept[-1]).update(body=then or [ast.Pass()], orelse=otherwise)
        elif (needs := _needs(node, last and node is body[-1], imported)) is not None and (not needs or needs & live):
            kept.append(node)
    return kept


def _counting(sources: list[str]) -> tuple[list[ast.stmt], ast.Module]:
    """The statements of a notebook that lead to a number, and all of it as one tree."""
    bodies = [ast.parse(re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.M)).body for source in sources]
    tree = ast.Module([node for body in bodies for node in body], [])
    imports = [alias for node in ast.walk(tree) if isinstance(node, IMPORT) for alias in node.names]
    imported, live, kept, before = {alias.asname or alias.name for alias in imports}, set[str](), [], None
    while len(live) != before:
        before = len(live)
        kept = [node for body in bodies for node in _pruned(body, live, imported, True)]
        live |= set().union(*map(_used, kept))
    return kept, tree


def code(notebook: Path, package: Path = PACKAGE) -> dict[str, str]:
    """Fingerprints of the pieces of code behind a notebook's numbers: eight hexadecimal digits each, by name.
    Pieces are called ``"training.py, class_weights"``, or ``"cells"`` and ``"cells, build_network"``. The cell that
    fetches the project on Colab has no part in it. `package` is the folder of the science modules.
    """
    kept, tree = _counting([cell for cell in cells(notebook) if "google.colab" not in cell])
    modules = _modules(package)
    found = {f"cells, {node.name}": _digest(_text(node)) for node in kept if isinstance(node, DEFINITION)}
    found["cells"] = _digest("\n".join(_text(node) for node in kept if not isinstance(node, DEFINITION)))

    means = _imports(tree, modules.keys())
    todo = [(name, means, "") for name in set().union(*map(_used, kept))]
    while todo:
        name, imports, own = todo.pop()
        head, _, attribute = name.partition(".")
        module, _, piece = imports.get(head, own and f"{own}.{head}").partition(".")
        means, pieces = modules.get(module, ({}, {}))
        for wanted in {"", piece or attribute} & pieces.keys():
            title = f"{module}.py, {wanted}".removesuffix(", ")
            if title not in found:
                found[title] = _digest(_text(pieces[wanted]))
                todo += [(used, means, module) for used in _used(pieces[wanted])]
    return dict(sorted(found.items()))


def together(pieces: dict[str, str]) -> str:
    """One fingerprint of all pieces, twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(pieces, sort_keys=True).encode()).hexdigest()[:12]


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of the pieces that are not the same in both."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def record(number: str) -> dict:
    """The lineage record that a notebook left in the results folder; a `Problem` where it can't be read."""
    path = results_dir() / f"{number}_lineage.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        lack = f"{display_path(path)} can't be read ({type(error).__name__})"
        raise Problem(f"{lack}: run notebook {number} again, it writes it.") from None


def stale(notebook: Path) -> list[str]:
    """Pieces of code that changed since a notebook's results were made, unless `restamp` was told to accept that."""
    made_by, now = record(notebook.name[:2]), code(notebook)
    accepted = made_by.get("accepted", {})
    return [] if accepted.get("code") == together(now) else differing(made_by.get("code", {}), now)


def main() -> None:
    """The command behind ``make stale``."""
    for number, notebook in notebooks().items():
        if changed := stale(notebook):
            print(f"{number} stale: {'; '.join(changed)}")
        elif accepted := record(number).get("accepted"):
            print(f"{number} made by older code, accepted: {accepted['why']} ({'; '.join(accepted['differs'])})")


if __name__ == "__main__":
    command(main)
