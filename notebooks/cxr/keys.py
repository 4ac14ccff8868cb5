"""Keys of what is kept: `code_hash` of code, `cache_key` of all that a result depends on. Every cache asks here."""

import ast
import hashlib
import inspect
import json
import textwrap
import types
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

PACKAGE = Path(__file__).resolve().parent
PLUMBING = {"chain", "colab", "download", "keys", "paths", "plots"}  # modules that no number comes from
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def statements(source: str) -> list[str]:
    """The statements of Python source, without docstrings, comments and layout."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, DEFINITION) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return [ast.unparse(node) for node in tree.body]


def plain(source: str) -> str:
    """Python source without docstrings, comments and layout."""
    return "\n".join(statements(source))


def imported(source: str) -> set[str]:
    """The modules of this package that Python source imports, by name, but for `PLUMBING`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "cxr"):
            module = node.module if node.level else (node.module or "").partition(".")[2]
            found |= {module.split(".")[0]} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cxr.")}
    return {name for name in found - PLUMBING if (PACKAGE / f"{name}.py").exists()}


@cache
def _parsed(path: Path, mtime_ns: int) -> tuple[str, frozenset[str]]:
    text = plain(path.read_text(encoding="utf-8"))
    return text, frozenset(imported(text))


def with_imports(names: Iterable[str]) -> dict[str, str]:
    """The plain source of these modules of the package, and of all that they import, by name."""
    found, todo = dict[str, str](), list(names)
    while todo:
        if (name := todo.pop()) not in found:
            path = PACKAGE / f"{name}.py"
            found[name], more = _parsed(path, path.stat().st_mtime_ns)
            todo += more
    return dict(sorted(found.items()))


def _of_object(item, found: dict[str, str]) -> None:
    """Add the plain source of a function or class, and of what it uses, to `found`."""
    name = f"{item.__module__}.{item.__qualname__}"
    if name in found:
        return
    functions = [item] if inspect.isfunction(item) else list(filter(inspect.isfunction, vars(item).values()))
    try:
        found[name] = plain(inspect.getsource(item))
    except OSError:  # a class of a notebook's cell: its functions have a source
        found[name] = "\n".join(plain(inspect.getsource(function)) for function in functions)
    ours = ("cxr", "__main__", item.__module__.split(".")[0])
    for function in functions:
        codes = [function.__code__]
        for code in codes:  # it grows by the functions inside
            codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
        for used in {name for code in codes for name in code.co_names} & function.__globals__.keys():
            value = inspect.unwrap(function.__globals__[used])  # of a tf.function
            if isinstance(value, types.ModuleType):
                found |= with_imports(imported(f"import {value.__name__}"))
            elif (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.split(".")[0] in ours:
                _of_object(value, found)
            elif isinstance(value, str | int | float | tuple):
                found[f"{name}: {used}"] = repr(value)


def code_hash(*code: types.ModuleType | Callable | type) -> str:
    """12 hex digits of the source of modules, functions or classes, docstrings, comments and layout aside.

    A module counts with all modules of this package that it imports; a function with the functions, constants and
    modules that it uses. `PLUMBING` has no part.
    """
    found: dict[str, str] = {}
    for item in code:
        if isinstance(item, types.ModuleType):
            found |= with_imports([item.__name__.rpartition(".")[2]])
        else:
            _of_object(inspect.unwrap(item), found)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def _update(digest, value) -> None:
    def add(kind: str, content) -> None:
        digest.update(f"{kind} {len(content)} ".encode())
        digest.update(content)

    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        _update(digest, value.tolist())
    elif isinstance(value, np.ndarray):
        add(f"array {value.dtype} {value.shape}", np.ascontiguousarray(value).reshape(-1).view("uint8").data)
    elif isinstance(value, pd.DataFrame | pd.Series):
        add("table", value.to_csv(index=False).encode())
    elif isinstance(value, bytes):
        add("bytes", value)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            _update(digest, [key, value[key]])
        add("dict", str(len(value)).encode())
    elif isinstance(value, list | tuple):
        for one in value:
            _update(digest, one)
        add("list", str(len(value)).encode())
    elif hasattr(value, "get_weights"):  # a network
        _update(digest, value.get_weights())
    else:
        add("json", json.dumps(value, default=str).encode())


def cache_key(*inputs, code: Iterable = ()) -> str:
    """16 hex digits that differ where any input or any `code` (see `code_hash`) does.

    Inputs are JSON values, numpy arrays, tables, bytes, networks (their weights), and lists and dicts of these.
    """
    digest = hashlib.sha256()
    _update(digest, inputs)
    _update(digest, code_hash(*code) if code else "")
    return digest.hexdigest()[:16]
