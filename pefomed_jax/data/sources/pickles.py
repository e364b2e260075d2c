"""Pickle files of plain data, read without running what they may ask for.

A pickle names the functions that rebuild its objects, so a file from elsewhere can run anything.
Here only containers, text, numbers, True, False and None are rebuilt.
"""

import pathlib
import pickle
from typing import Any

from pefomed_jax.errors import UserError

# modules as Python 2 and 3 name them; lists, dicts and tuples have codes of their own
PLAIN = {(module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}


class _Refused(Exception):
    """A pickle that asks for an object of a module."""


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in PLAIN:
            raise _Refused(f"{module_name}.{global_name}")
        return {"set": set, "frozenset": frozenset}[global_name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent id {pid}")


def read(path: pathlib.Path) -> Any:
    """The content of a pickle file of plain data.

    Errors: UserError that names the object that was refused, or says that the file is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8").load()  # encoding: of text from Python 2
    except FileNotFoundError:
        raise UserError(f"there is no {path}; fetch it, or correct --config.data.dir") from None
    except _Refused as error:
        raise UserError(
            f"{path} asks for {error}, which is not plain data and could run code: refused; "
            "fetch the authors' own file"
        ) from None
    except Exception as error:  # a damaged pickle raises whatever its last codes lead to
        raise UserError(f"{path} is cut short or no pickle ({error}); fetch it again") from None
