"""The fixtures of `tests.support`, and a proxy before a node."""

from __future__ import annotations

from tests.support import context, gate, mesh, module_mesh, shared

__all__ = ["context", "gate", "mesh", "module_mesh", "shared"]
