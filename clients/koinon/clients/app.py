"""The partner's side of the Flower app: thin, silent about everything but codes.

Flower sends the text of an exception that a ClientApp raises to the server, and our errors name rows and values. So
every handler catches everything, and the only thing it ever returns is what :func:`koinon.clients.door.cross` returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from koinon.clients import door
from koinon.clients.answering import answer

if TYPE_CHECKING:
    from koinon.clients.answering import SecurePhase
    from koinon.clients.work import Phase

app = ClientApp()


@app.query("catalogue")
def catalogue(message: Message, context: Context) -> Message:
    """Tell of the partner's items what it has declared public, or keyed hashes."""
    return _reply("catalogue", message, context)


@app.train("contribute")
def contribute(message: Message, context: Context) -> Message:
    """Work on private data for one round and give the tensors the policy declares."""
    return _reply("contribute", message, context)


@app.query("keys")
def keys(message: Message, context: Context) -> Message:
    """Begin a secure sum: give fresh public keys."""
    return _reply("keys", message, context)


@app.query("share")
def share(message: Message, context: Context) -> Message:
    """Seal shares of the own seeds for the neighbours in a secure sum."""
    return _reply("share", message, context)


@app.query("agree")
def agree(message: Message, context: Context) -> Message:
    """Sign the list of everybody who is in a secure sum."""
    return _reply("agree", message, context)


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Help to take the masks off a total: shares of seeds, once."""
    return _reply("unmask", message, context)


@app.train("adopt")
def adopt(message: Message, context: Context) -> Message:
    """Take the final releases, fit, choose on validation, keep the models at home."""
    return _reply("adopt", message, context)


@app.query("withdrawn")
def withdrawn(message: Message, context: Context) -> Message:
    """Hear that a release was withdrawn, and go back to the last good one; nothing is told but that it was heard."""
    return _reply("withdrawn", message, context)


def _reply(phase: Phase | SecurePhase | Literal["withdrawn"], message: Message, context: Context) -> Message:
    records: RecordDict | None
    try:
        records = answer(phase, message.content, context.node_config, context.run_config)
    except BaseException as error:
        records, code = None, door.error_code(error)
    if records is None:
        # not even the door could be used (no folder, no log): outside the handler, so that no cause is attached
        raise RuntimeError(code)
    return Message(records, reply_to=message)
