"""Sundog: serverless machine learning. From raw data to a live model, by functions that exist only while they work.

import sundog

app = sundog.App("risk")
cloud = sundog.connect()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sundog import errors
    from sundog.app import App, Environment, Function
    from sundog.bill import Bill
    from sundog.budgets import Budget, Spending
    from sundog.cloud import Cloud, connect
    from sundog.datasets import DatasetVersion
    from sundog.errors import (
        AlreadyExists,
        BudgetExceeded,
        Cancelled,
        Conflict,
        DataLoss,
        DeadlineExceeded,
        FunctionError,
        Internal,
        InvalidArgument,
        NotFound,
        PermissionDenied,
        SignatureError,
        SundogError,
        Throttled,
        TooLarge,
        Unauthenticated,
        Unavailable,
        Unsupported,
    )
    from sundog.invoice import Invoice
    from sundog.models import Endpoint, ModelVersion
    from sundog.profile import Profile
    from sundog.rows import Predictions
    from sundog.runs import Run
    from sundog.spaces import choice, integer, loguniform, uniform
    from sundog.studies import Study, Trial

# Where each public name lives. Loaded when first used, so that `import sundog` stays quick.
_HOMES = {
    "app": ("App", "Environment", "Function"),
    "bill": ("Bill",),
    "budgets": ("Budget", "Spending"),
    "cloud": ("Cloud", "connect"),
    "datasets": ("DatasetVersion",),
    "errors": (
        "AlreadyExists",
        "BudgetExceeded",
        "Cancelled",
        "Conflict",
        "DataLoss",
        "DeadlineExceeded",
        "FunctionError",
        "Internal",
        "InvalidArgument",
        "NotFound",
        "PermissionDenied",
        "SignatureError",
        "SundogError",
        "Throttled",
        "TooLarge",
        "Unauthenticated",
        "Unavailable",
        "Unsupported",
    ),
    "invoice": ("Invoice",),
    "models": ("Endpoint", "ModelVersion"),
    "profile": ("Profile",),
    "rows": ("Predictions",),
    "runs": ("Run",),
    "spaces": ("choice", "integer", "loguniform", "uniform"),
    "studies": ("Study", "Trial"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyExists",
    "App",
    "Bill",
    "Budget",
    "BudgetExceeded",
    "Cancelled",
    "Cloud",
    "Conflict",
    "DataLoss",
    "DatasetVersion",
    "DeadlineExceeded",
    "Endpoint",
    "Environment",
    "Function",
    "FunctionError",
    "Internal",
    "InvalidArgument",
    "Invoice",
    "ModelVersion",
    "NotFound",
    "PermissionDenied",
    "Predictions",
    "Profile",
    "Run",
    "SignatureError",
    "Spending",
    "Study",
    "SundogError",
    "Throttled",
    "TooLarge",
    "Trial",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "choice",
    "connect",
    "errors",
    "integer",
    "loguniform",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("sundog.errors")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'sundog' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sundog.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
