"""Listening to a function of a module."""

from __future__ import annotations


def recorded(monkeypatch, module, name):
    """What a function of a module gives from now on."""
    results, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: results.append(function(*args, **kwargs)) or results[-1])
    return results
