"""Words among token ids: what each token of a prompt says, and which tokens a word or phrase is made of.

Whatever the tokenizer (bytes, pieces, words), a run of tokens is read by decoding it bit by bit: a token says what its
run says more with it than without. So words that split into several tokens, phrases and accents need no rule of their
own. Of a chat, only what the user says is the prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

_USER = "user"
_MARKERS = {
    "system": r"^[^/]*(?i:system)",
    _USER: r"^[^/]*((?i:user)|INST)",
    "assistant": r"^[^/]*(?i:assistant)|/INST",
}
"""Special tokens that say who speaks, such as "[INST]" or "<|user|>"; others leave that to the text behind them."""
_PROMPT_BEGINS = ("<Prompt Start>", "User Prompt:")
"""What templates without turns (Lumina 2, Sana) put before the prompt."""
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts, as Unicode names begin, that put no space between words."""


class Run(NamedTuple):
    """Tokens in a row that are neither special nor padding."""

    text: str
    tokens: Sequence[int]
    """Their positions among the ids."""
    spans: Sequence[tuple[int, int]]
    """Begin and end in the text, by token."""
    begins: int = 0
    """Where the prompt begins in the text."""

    def tokens_within(self, start: int, stop: int) -> list[int]:
        """Positions of the tokens that say any of the text between two places."""
        pairs = zip(self.tokens, self.spans, strict=True)
        return [token for token, (begin, end) in pairs if begin < stop and end > start]


def prompt_runs(tokenizer: Any, ids: Sequence[int], is_padding: Sequence[bool]) -> list[Run]:
    """The runs of a prompt's own tokens: without special ones, padding, and what a template says itself."""
    turns = list(_turns(tokenizer, ids, is_padding))
    is_chat = any(role == _USER for role, _ in turns)
    return [run for role, run in turns if role == _USER or not (is_chat or role)]


def occurrences(runs: Sequence[Run], word: str) -> list[list[int]]:
    """Positions of a word's or phrase's tokens, for each time that the prompt has it, whatever its case."""
    pattern = _pattern(word)
    found = []
    for run in runs:
        for match in pattern.finditer(run.text, run.begins):
            found.append(run.tokens_within(*match.span()))
    return [tokens for tokens in found if tokens]


def has_word(text: str, word: str) -> bool:
    """Whether a text has a word or phrase, whatever its case."""
    return _pattern(word).search(text) is not None


def own_tokens(runs: Sequence[Run]) -> list[int]:
    """Positions of all tokens of the prompt."""
    return [token for run in runs for token in run.tokens_within(run.begins, len(run.text))]


def nearest_words(runs: Sequence[Run], word: str, count: int = 3) -> list[str]:
    """Words of the prompt that are spelt most like one that it lacks; its first words if none is."""
    words = list(dict.fromkeys(re.findall(r"\w[\w'-]*", " ".join(run.text[run.begins :] for run in runs))))
    by_case = {found.casefold(): found for found in words}
    near = [by_case[name] for name in get_close_matches(word.casefold(), by_case, count, cutoff=0.5)]
    return near or words[:count]


def _pattern(word: str) -> re.Pattern[str]:
    """A word as decoding may space it: CLIP's "cat's" is "cat 's"."""
    words = [re.findall(r"\w+|[^\w\s]", part) for part in unicodedata.normalize("NFKC", word).split()]
    if not words:
        return re.compile(r"(?!)")
    joined = r"\s+".join(r"\s*".join(map(re.escape, parts)) for parts in words)
    before = r"(?<!\w)" if _is_spaced(words[0][0][0]) else ""
    after = r"(?!\w)" if _is_spaced(words[-1][-1][-1]) else ""
    return re.compile(f"{before}{joined}{after}", re.IGNORECASE)


def _is_spaced(letter: str) -> bool:
    """Whether the letter's script puts spaces between words."""
    return letter.isalnum() and not unicodedata.name(letter, "").startswith(_UNSPACED)


def _turns(tokenizer: Any, ids: Sequence[int], is_padding: Sequence[bool]) -> Iterator[tuple[str, Run]]:
    """Each run with who says it, as a chat's template has it; nobody where there is none."""
    role, runs = "", list(_plain_runs(tokenizer, ids, is_padding))
    for index, tokens in enumerate(runs):
        run = _run(tokenizer, ids, tokens)
        marker = _decoded(tokenizer, [ids[tokens[0] - 1]]) if tokens[0] else ""
        role = next((role for role, pattern in _MARKERS.items() if re.search(pattern, marker)), role)
        match = re.match(r"\s*(system|user|assistant)(\n|$)", run.text)
        if match is None or (match[2] == "" and index == len(runs) - 1):
            yield role, run._replace(begins=_begin_of_prompt(run.text))
            continue
        role = match[1]
        if match.end() < len(run.text):  # else a header of its own: the next run is what it heads
            yield role, run._replace(begins=match.end())


def _plain_runs(tokenizer: Any, ids: Sequence[int], is_padding: Sequence[bool]) -> Iterator[list[int]]:
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}  # chats, pictures
    run: list[int] = []
    for position, (token, padded) in enumerate(zip(ids, is_padding, strict=True)):
        if not padded and token not in special:
            run.append(position)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _run(tokenizer: Any, ids: Sequence[int], tokens: Sequence[int]) -> Run:
    chosen = [ids[token] for token in tokens]
    text = _decoded(tokenizer, chosen)
    ends = [_shared(_decoded(tokenizer, chosen[: count + 1]), text) for count in range(len(chosen))]
    ends[-1] = len(text)
    spans = []
    for index, begin in enumerate([0, *ends[:-1]]):  # part of a letter's bytes says nothing by itself: the letter
        spans.append((begin, next((end for end in ends[index:] if end > begin), begin)))
    return Run(text, tokens, spans)


def _shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _begin_of_prompt(text: str) -> int:
    return max(text.rfind(marker) + len(marker) if marker in text else 0 for marker in _PROMPT_BEGINS)
