"""Methods: what learns expression from images, each in a file of its own, behind one protocol."""

from spotscope.methods.base import Method, MethodSettings, Provenance, load_method, methods

__all__ = ["Method", "MethodSettings", "Provenance", "load_method", "methods"]
