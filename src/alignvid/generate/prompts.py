"""Check a prompt: before a model is loaded, and against the words that the model reads."""

from __future__ import annotations

import unicodedata
from typing import Any

from alignvid.errors import InputError

MAX_WORDS = 1_000
"""No supported text encoder reads more than 512 tokens, and a word is at least one."""

MAX_CHARACTERS = 8_000
"""The same limit for languages that do not put spaces between words."""

_SHOWN_CHARACTERS = 40


def check_prompt(prompt: str, *, name: str = "prompt") -> None:
    """Refuse a prompt that no model could follow.

    Raises: InputError if it is empty, not text, without a letter or digit, or longer than any model reads.
    """
    if bad := [character for character in prompt if unicodedata.category(character) == "Cs"]:
        raise InputError(
            f"The {name} is not valid UTF-8 text: {bad[0]!a} at character {prompt.index(bad[0])}; "
            "type it again, or save its file as UTF-8."
        )
    if not prompt.strip():
        raise InputError(f"The {name} is empty; say in words what the video should show.")
    if not any(unicodedata.category(character)[0] in "LN" for character in prompt):
        raise InputError(f"The {name} {shortened(prompt)!r} has no words, only signs; say in words what should happen.")
    word_count = len(prompt.split())
    if word_count > MAX_WORDS or len(prompt) > MAX_CHARACTERS:
        raise InputError(
            f"The {name} has {word_count:,} words and {len(prompt):,} characters, but models read at most 512 tokens; "
            f"shorten it to at most {MAX_WORDS:,} words and {MAX_CHARACTERS:,} characters."
        )


def unread_tokens_note(prompt: str, tokenizer: Any, limit: int) -> str | None:
    """A sentence if the tokenizer cuts the prompt at `limit` tokens, else None.

    Args:
        prompt: What the user wrote.
        tokenizer: The pipeline's own, a callable of transformers.
        limit: Tokens that the pipeline passes to its text encoder.
    """
    token_count = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
    if token_count <= limit:
        return None
    return (
        f"The prompt has {token_count} tokens and the model reads the first {limit}; "
        f"the last {token_count - limit} have no effect, so shorten the prompt."
    )


def unknown_words_note(unknown_words: list[str]) -> str | None:
    """A sentence that names the words which the miniature does not know, or None."""
    if not unknown_words:
        return None
    names = ", ".join(repr(word) for word in unknown_words)
    return f"The miniature does not know {names} and ignores it; it knows coloured circles, squares and triangles."


def foreign_picture_note(reason: str | None) -> str | None:
    """A sentence that says why the miniature cannot know a picture, or None."""
    if reason is None:
        return None
    return (
        f"The miniature does not know such a picture ({reason}), so expect nothing like it in the video; it knows "
        "flat coloured circles, squares and triangles on a muted ground, as in examples/scene-1.png. For a photo name "
        "a large model with --model."
    )


def shortened(prompt: str) -> str:
    """The beginning of a prompt, for a message."""
    return prompt if len(prompt) <= _SHOWN_CHARACTERS else prompt[: _SHOWN_CHARACTERS - 1] + "…"
