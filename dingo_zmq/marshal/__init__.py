"""
Values to bodies and back.

A *body* is a pair ``(data, buffers)``: msgpack, and the large binary values that travel beside it uncopied.

::

    arguments   [positional, ...]  or, with keyword arguments,  {"args": [...], "kwargs": {name: value}}
    return      the value
    failure     [code, message, type, traceback]
    progress    [fraction or nil, note or nil]

Binary values that are an argument or the return themselves stand inline as msgpack bin below `OUT_OF_BAND`
bytes.  Arrays and other buffer objects anywhere, and large binary values, stand as an extension of code 1
whose content is again msgpack: ``[kind, index, dtype, shape, content]``.  ``index`` says which buffer holds
the bytes; -1 means that ``content`` does (else it is nil).  ``kind`` is 0 bytes, 1 bytearray, 2 memoryview,
3 ndarray; ``dtype`` and ``shape`` are those of NumPy, and nil and [] for the other kinds.

The buffers are the caller's own memory: what is written to them before they were sent is sent.

`Header`, `compose` and `decompose` make one byte string of a task or report, for adapters without frames.
"""

from dingo_zmq.marshal.body import OUT_OF_BAND, Body, Buffer, frozen, is_large, size
from dingo_zmq.marshal.header import Header, Kind, compose, decompose
from dingo_zmq.marshal.limits import check_arguments, check_return
from dingo_zmq.marshal.packing import encode, encode_arguments, encode_inline
from dingo_zmq.marshal.reports import decode_failure, decode_progress, encode_failure, encode_progress
from dingo_zmq.marshal.unpacking import decode, is_extension, read_extension, split_arguments

__all__ = [
    "OUT_OF_BAND",
    "Body",
    "Buffer",
    "Header",
    "Kind",
    "check_arguments",
    "check_return",
    "compose",
    "decode",
    "decode_failure",
    "decode_progress",
    "decompose",
    "encode",
    "encode_arguments",
    "encode_failure",
    "encode_inline",
    "encode_progress",
    "is_extension",
    "frozen",
    "is_large",
    "read_extension",
    "size",
    "split_arguments",
]
