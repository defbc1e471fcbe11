"""The fixtures of `tests.support`."""

from __future__ import annotations

from tests.support import app, context, gate, mesh, module_mesh, shared

__all__ = ["app", "context", "gate", "mesh", "module_mesh", "shared"]
