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


@cache
def plain(source: str) -> str:
    return "\n".join(statements(source))


def short_hash(code: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:12]


def imported(source: str) -> set[str]:
    """The modules of this package that Python source imports, but for `PLUMBING`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "cxr"):
            module = node.module if node.level else (node.module or "").partition(".")[2]
            found |= {module.split(".")[0]} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cxr.")}
    return {name for name in found - PLUMBING if (PACKAGE / f"{name}.py").exists()}


def with_imports(names: Iterable[str]) -> dict[str, str]:
    """The plain source of these modules of the package, and of all that they import, by name."""
    found, todo = dict[str, str](), list(names)
    for name in todo:  # it grows by what they import
        if name not in found:
            found[name] = plain((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
            todo += imported(found[name])
    return found


def _of_object(item, found: dict[str, str]) -> None:
    """Add the plain source of a function or class, and of what it uses, to `found`."""
    if (name := f"{item.__module__}.{item.__qualname__}") in found:
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
    """12 hex digits of the plain source of modules with all that they import, and of functions with what they use."""
    found: dict[str, str] = {}
    for item in code:
        if isinstance(item, types.ModuleType):
            found |= with_imports([item.__name__.rpartition(".")[2]])
        else:
            _of_object(inspect.unwrap(item), found)
    return short_hash(found)


def _update(digest, value) -> None:
    if hasattr(value, "get_weights"):  # a network
        return _update(digest, value.get_weights())
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return _update(digest, value.tolist())
    if isinstance(value, np.ndarray):
        kind, content = f"array {value.dtype} {value.shape}", np.ascontiguousarray(value).reshape(-1).view("uint8").data
    elif isinstance(value, pd.DataFrame | pd.Series):
        kind, content = "table", value.to_csv(index=False).encode()
    elif isinstance(value, bytes):
        kind, content = "bytes", value
    elif isinstance(value, dict | list | tuple):
        kind, content = "dict" if isinstance(value, dict) else "list", str(len(value)).encode()
        for one in [[key, value[key]] for key in sorted(value, key=str)] if kind == "dict" else value:
            _update(digest, one)
    else:
        kind, content = "json", json.dumps(value, default=str).encode()
    digest.update(f"{kind} {len(content)} ".encode())
    digest.update(content)


def cache_key(*inputs, code: Iterable = ()) -> str:
    """16 hex digits of JSON values, arrays, tables, bytes, networks, lists and dicts of these, and of `code`."""
    digest = hashlib.sha256()
    _update(digest, inputs)
    _update(digest, code_hash(*code) if code else "")
    return digest.hexdigest()[:16]
