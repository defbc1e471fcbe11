"""
Functions as something to be called from afar: their signatures, and conversion to and from bodies.

A `Signature` is compiled once per function.  ``pack`` and ``unpack_return`` run at the caller, ``unpack`` and
``pack_return`` at the node, ``correct`` and ``correct_return`` where both are one process.  `convert_words`
makes arguments of the words of a command line.  `Marshalled` is the same with other marshallers or invokers.  A
`Handler` is a function of the caller's that hears of a value.
"""

from dingo_zmq.invoke.handler import Handler
from dingo_zmq.invoke.marshalled import DirectInvoker, How, Marshalled
from dingo_zmq.invoke.signature import Signature
from dingo_zmq.invoke.wire import WireSignature
from dingo_zmq.invoke.words import convert_words, example_words

__all__ = [
    "DirectInvoker",
    "Handler",
    "How",
    "Marshalled",
    "Signature",
    "WireSignature",
    "convert_words",
    "example_words",
]
