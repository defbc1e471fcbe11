"""
Marshallers: how arguments and returns become bytes, chosen for each function by name or as an object.

==========  =========================================================  ===============================
name        body                                                       binary values of 64 KiB and more
==========  =========================================================  ===============================
msgpack     see `dingo_zmq.marshal`                                    frames of their own, uncopied
json        one document: a list, or {"args": [...], "kwargs": {...}}  base64 inside the document
json-safe   one document for each argument                             base64; its document is a frame
pickle      see the module `pickle`, protocol 5                        frames for what offers them out
                                                                       of band, such as arrays of NumPy
==========  =========================================================  ===============================

`json` decodes to plain values, which the typed invoker converts; `json-safe` decodes each argument straight
into its annotated type, whatever the invoker.  NaN and infinity have no JSON and are refused; where nothing is
annotated, what is no JSON value arrives as one: bytes as base64 text, a tuple as a list.  Who sends pickles can
run any code, so `pickle` needs ``App(allow_pickle=True)`` and a mesh with keys.  `CustomMarshaller` makes a
marshaller of a `dingo_zmq.ports.Codec`; its parts of 64 KiB and more travel as frames of their own.

Progress and failures are always msgpack.
"""

from dingo_zmq.marshallers.builtin import JSONMarshaller, MsgpackMarshaller, PickleMarshaller
from dingo_zmq.marshallers.custom import CustomMarshaller, JSONSafeCodec
from dingo_zmq.marshallers.named import ENTRY_POINTS, SAFE, Marshallers, is_safe, spoken

__all__ = [
    "ENTRY_POINTS",
    "SAFE",
    "CustomMarshaller",
    "JSONMarshaller",
    "JSONSafeCodec",
    "Marshallers",
    "MsgpackMarshaller",
    "PickleMarshaller",
    "is_safe",
    "spoken",
]
