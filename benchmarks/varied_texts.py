"""Texts of many kinds, the same ones each time: what people and programs send to be embedded."""

import random
from collections.abc import Callable

_PROSE = """the of and to in is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years where much your way down should because long each
just state those people too mister little under between brain scan lesion contrast patient tumour volume segmentation
embedding vector search query index model server queue worker memory latency throughput tensor"""
_KINDS = (
    " ",
    "\n",
    "\t\t",
    ".",
    "a",
    "?",
    "-",
    "...",
    "0",
    "é",
    "\u200b.",
    "  leading and trailing  ",
    "Hello, world!",
    "ALL CAPITALS, SHOUTED",
    "mixedCASE And camelCaseWords",
    "don't can't won't o'clock",
    "😀",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "I ❤️ tokenizers 🚀🚀🚀",
    "🧠🩻 → 🧾",
    "日本語のテキストを埋め込みます。",
    "机器学习模型的推理服务",
    "한국어 문장입니다",
    "Привет, мир",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "naïve café coöperate Ångström",
    "ﬁne ligature ½ ™",
    "e\u0301 combining vs é composed",
    "def f(x):\n    return [i ** 2 for i in range(x) if i % 2]\n",
    "SELECT id, name FROM job WHERE state = 'queued' ORDER BY created_at LIMIT 10;",
    '{"a": [1, 2.5, null, true], "b": {}}',
    "https://example.org/path/to?query=1&other=two#fragment",
    "user@example.org",
    "192.168.0.1:8080",
    "3.14159 2.71828 1e-9 0xFF",
    "C:\\Users\\name\\file.txt",
    '<p class="x">HTML &amp; entities</p>',
    "# Heading\n\n* item\n* item\n\n`code`",
    "$E = mc^2$",
    "supercalifragilisticexpialidocious",
    "a" * 300,
    "ab " * 400,
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "tab\tseparated\tvalues",
    "line one\r\nline two\r\nline three",
    "NULL",
    "null\u0000byte",
)


def varied_texts(count: int, seed: int = 20260) -> list[str]:
    """Of `count`, one in twenty is long, some of them of 10,000 characters."""
    chance = random.Random(seed)
    texts = list(_KINDS[:count])
    while len(texts) < count:
        share = chance.random()
        if share < 0.02:
            text = _sentence(chance, 4000)[:10_000]
        elif share < 0.05:
            text = _sentence(chance, chance.randint(150, 400))
        elif share < 0.35:
            text = _sentence(chance, chance.randint(20, 80))
        elif share < 0.45:
            text = " ".join(chance.choice(_KINDS[:-1]) for _ in range(3))[:400]
        else:
            text = _sentence(chance, chance.randint(1, 20))
        texts.append(text)
    chance.shuffle(texts)
    return texts


def mixed_texts(count: int, tokens_of: Callable[[str], int], seed: int = 7) -> list[str]:
    """Half of them of about 16 tokens, two fifths of about 64, one tenth of 256 or more; `tokens_of` counts them."""
    chance = random.Random(seed)
    texts = []
    for number in range(count):
        place = number % 10
        wanted = chance.randint(12, 20) if place < 5 else chance.randint(52, 76) if place < 9 else 256
        text = _sentence(chance, 1)
        while tokens_of(text) < wanted:
            text += " " + chance.choice(_PROSE.split())
        texts.append(text)
    return texts


def _sentence(chance: random.Random, words: int) -> str:
    known = _PROSE.split()
    chosen = [chance.choice(known) for _ in range(words)]
    for at in range(0, words, 12):
        chosen[at] = chosen[at].capitalize()
    return " ".join(chosen) + chance.choice((".", "!", "?", ""))
