"""A plugin of pytest (`-p tests.support.mutating`): one module of jobd has one deliberate bug.

Which one `JOBD_MUTANT` says, by its name in :mod:`tests.support.mutants`. The module's source is
changed as it is imported; nothing on disk is touched, and no other process sees it.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any

from tests.support.mutants import BY_NAME, ROOT, Mutant


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads one module from its changed source."""

    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(self._mutant.source(), path, "exec", dont_inherit=True)


class _Finder:
    """Finds that module alone."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = mutant.file.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> Any:
        """The spec of the changed module, None for any other."""
        if name != self._name:
            return None
        place = str(ROOT / self._mutant.file)
        loader = _Loader(name, place, self._mutant)
        return importlib.machinery.ModuleSpec(name, loader, origin=place)


_given = os.environ.get("JOBD_MUTANT")
if _given:
    assert not any(name.startswith("jobd.") for name in sys.modules), "too late"
    sys.meta_path.insert(0, _Finder(BY_NAME[_given]))  # type: ignore[arg-type]
