"""LibreChat's MongoDB, by the connection string that only an environment variable holds."""

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
)

from config.errors import UserError

VARIABLE = "MONGO_URI"
"""LibreChat's own name for it. It holds a password: it is never an argument, and never printed."""
DEFAULT_DATABASE = "test"
"""What LibreChat's driver takes where the string names no database."""
TIMEOUT_SECONDS = 5
NOT_ALLOWED = 13
WRONG_LOGIN = {18, 8000}
"""AuthenticationFailed, and what MongoDB Atlas says instead."""

Store = Database[dict[str, Any]]


@contextmanager
def librechat_database() -> Generator[Store]:
    """The database that MONGO_URI names; UserError for all that MongoDB refuses while it is used.

    The driver's own messages are never shown: they hold hosts, users and parts of the string.
    """
    with _client() as client:
        try:
            database = client.get_default_database(DEFAULT_DATABASE)
            if "conversations" not in database.list_collection_names():
                raise UserError(
                    f"The database {database.name} has no collection `conversations`: {VARIABLE} must end with the "
                    "name of LibreChat's own, as in mongodb://…:27017/LibreChat."
                )
            yield database
        except PyMongoError as error:
            raise UserError(_explained(error)) from None


def _client() -> MongoClient[dict[str, Any]]:
    uri = os.environ.get(VARIABLE)
    if not uri:
        raise UserError(f"{VARIABLE} is not set: put LibreChat's own connection string into that variable.")
    milliseconds = TIMEOUT_SECONDS * 1000
    try:
        # what the driver warns of are parts of the string
        with warnings.catch_warnings(action="ignore"):
            return MongoClient(
                uri, appname="llama-chat", serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds
            )
    except (PyMongoError, ValueError, TypeError):
        # from None: the driver quotes what it cannot read
        raise UserError(
            f"{VARIABLE} is no connection string that can be used: it must read mongodb://user:password@host:27017/"
            "LibreChat, with user and password percent-encoded; the name in a mongodb+srv:// must resolve here."
        ) from None


def _explained(error: PyMongoError) -> str:
    code = error.code if isinstance(error, OperationFailure) else None
    kind = type(error).__name__
    if code in WRONG_LOGIN:
        return f"MongoDB refuses the user or the password of {VARIABLE}: check both, and authSource."
    if code == NOT_ALLOWED:
        return (
            f"MongoDB does not let the user of {VARIABLE} do that: give it the role readWrite on LibreChat's database "
            "(read is enough for a dry run)."
        )
    if isinstance(error, NotPrimaryError):
        return f"{VARIABLE} leads to a member that takes no changes: name its replica set, or the primary."
    if isinstance(error, ConnectionFailure):
        return (
            f"No MongoDB answers where {VARIABLE} points ({kind} after at most {TIMEOUT_SECONDS} s): check host, port "
            "and TLS, forward the port where it is inside a cluster, and run it again."
        )
    if isinstance(error, ConfigurationError):
        return f"MongoDB cannot do what {VARIABLE} asks for, or is older than its driver supports ({kind})."
    return f"MongoDB failed ({kind}, code {code}): read its log, and run it again."
