"""DC217 for chats: unknown roles, turns that do not alternate, no answer, messages without text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import with_kernels
from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, Leaf, arrow_bits
from datacheck.schema.model import Field

#: The names of the two keys of a message, as OpenAI and as ShareGPT call them.
_KEYS = (("role", "content"), ("from", "value"))
#: What a role is called, by who speaks.
_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "model", "bot"),
    "tool": ("tool", "function", "observation", "ipython", "function_call"),
}
_SPEAKERS = {name: number for number, names in enumerate(_ROLES.values()) for name in names}
_SYSTEM, _USER, _ASSISTANT, _TOOL = range(len(_ROLES))
_UNKNOWN = len(_ROLES)

#: Given the speaker of each message, the chat that it is in, and which message is first, the chats that break a rule.
Speakers = np.ndarray[Any, Any]


def chat_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rules for a field with ``format: chat``, on the list of messages."""
    if field.format != "chat" or leaf.values is None:
        return []
    if leaf.is_numeric or not leaf.dtype.startswith("list<"):
        # The messages are judged with their list.
        return [] if leaf.path is not None and "[]" in leaf.path else [_refuse(leaf)]
    if _keys_of(leaf.values.type) is None:
        return [_refuse(leaf)] if not (leaf.path or "").endswith("[]") else []
    aspects: tuple[tuple[str, Callable[[_Chats], BoolArray]], ...] = (
        ("roles are system, user, assistant or tool", _has_unknown),
        ("user and assistant alternate", _has_repeated),
        ("there is an assistant turn", _has_no_answer),
        ("every message has text", _has_blank),
    )
    return [
        ValueRule("DC217", _mask(breaks), "chats", screened=False, num_units=_num_chats, name=name)
        for name, breaks in aspects
    ]


def _num_chats(leaf: Leaf) -> int:
    return len(leaf) - leaf.num_nulls


def _refuse(leaf: Leaf) -> ValueRule:
    return uncheckable("DC217", f"format: the values are {leaf.dtype}, not lists of messages with role and content")


def _keys_of(kind: pa.DataType) -> tuple[str, str] | None:
    messages = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if messages is not None and pa.types.is_null(messages):
        # Empty lists have no type of their own.
        return _KEYS[0]
    if messages is None or not pa.types.is_struct(messages):
        return None
    names = {messages.field(index).name for index in range(messages.num_fields)}
    return next((keys for keys in _KEYS if names.issuperset(keys)), None)


class _Chats:
    """The messages of some chats: the chat, the speaker and the text of each."""

    def __init__(self, lists: pa.Array) -> None:
        keys = _keys_of(lists.type)
        assert keys is not None
        self.num_chats = len(lists)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        self.lengths = lengths
        self.chat = np.repeat(np.arange(len(lists)), lengths)
        messages = lists.flatten()
        if pa.types.is_null(messages.type):
            messages = messages.cast(pa.struct([(name, pa.string()) for name in keys]))
        roles, self.texts = (with_kernels(pc.struct_field(messages, name)) for name in keys)
        self.speaker = _speakers(roles)

    def where(self, broken: BoolArray) -> BoolArray:
        """The chats with a message that breaks a rule."""
        found = np.zeros(self.num_chats, np.bool_)
        found[self.chat[broken]] = True
        return found


def _speakers(roles: pa.Array) -> Speakers:
    encoded = roles.dictionary_encode() if not pa.types.is_dictionary(roles.type) else roles
    known = [_SPEAKERS.get(str(role).strip().lower(), _UNKNOWN) for role in encoded.dictionary.to_pylist()]
    indices = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    speakers: Speakers = np.array([*known, _UNKNOWN])[indices]
    return speakers


def _mask(breaks: Callable[[_Chats], BoolArray]) -> Callable[[Leaf, slice], BoolArray]:
    return lambda leaf, part: breaks(_Chats(leaf.values[part.start : part.stop]))


def _has_unknown(chats: _Chats) -> BoolArray:
    return chats.where(chats.speaker == _UNKNOWN)


def _has_repeated(chats: _Chats) -> BoolArray:
    """User follows user, or assistant follows assistant: no tool has answered in between."""
    is_turn = (chats.speaker == _USER) | (chats.speaker == _ASSISTANT) | (chats.speaker == _TOOL)
    chat, speaker = chats.chat[is_turn], chats.speaker[is_turn]
    same = (chat[1:] == chat[:-1]) & (speaker[1:] == speaker[:-1]) & (speaker[1:] != _TOOL)
    found = np.zeros(chats.num_chats, np.bool_)
    found[chat[1:][same]] = True
    return found


def _has_no_answer(chats: _Chats) -> BoolArray:
    return ~chats.where(chats.speaker == _ASSISTANT)


def _has_blank(chats: _Chats) -> BoolArray:
    """A user's or assistant's message without text. An answer that calls a tool may have none."""
    texts = chats.texts
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        # Content in parts (text, images) is not looked into.
        return np.zeros(chats.num_chats, np.bool_)
    blank = arrow_bits(pc.fill_null(pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0), True))
    calls = np.zeros(len(blank), np.bool_)
    following = (chats.chat[1:] == chats.chat[:-1]) & (chats.speaker[1:] == _TOOL)
    calls[:-1][following] = True
    speaks = (chats.speaker == _USER) | ((chats.speaker == _ASSISTANT) & ~calls)
    return chats.where(blank & speaks)
