"""Which language a surname is from.

The surnames are the lists in the package `faker` (MIT licence), collected by its contributors: nothing is known of how
frequent a name is, some lists hold variants for women and men, and a list is of a country's names, in its main language or
not. Names occur that another language's list holds too, see `names`.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, Model, Network, Stack
from rnn_common.packages import optional
from rnn_common.reader import shown
from rnn_common.tasks.metrics import accuracy, balanced_accuracy
from rnn_common.tasks.problem import Problem, Scores, Setting, check_symbols
from rnn_common.training.recipe import Recipe

# Languages with 100 names or more in the Latin script, and which of the lists; Estonia's other one is of Russian names.
ALL = ("last_names", "last_names_male", "last_names_female", "last_names_unisex")
LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Azerbaijani": ("az_AZ", ALL),
    "Croatian": ("hr_HR", ALL),
    "Czech": ("cs_CZ", ALL),
    "Dutch": ("nl_NL", ALL),
    "English": ("en_GB", ALL),
    "Estonian": ("et_EE", ("last_names_est",)),
    "Finnish": ("fi_FI", ALL),
    "French": ("fr_FR", ALL),
    "German": ("de_DE", ALL),
    "Hungarian": ("hu_HU", ALL),
    "Indonesian": ("id_ID", ALL),
    "Irish": ("ga_IE", ALL),
    "Italian": ("it_IT", ALL),
    "Latvian": ("lv_LV", ALL),
    "Spanish": ("es_ES", ALL),
    "Swedish": ("sv_SE", ALL),
    "Twi": ("tw_GH", ALL),
    "Zulu": ("zu_ZA", ALL),
}
GENDERED = ("Azerbaijani", "Czech", "Latvian")
SHARES = (0.70, 0.85)
SPLITS = ("train", "validation", "test")
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)


class Size(NamedTuple):
    """A setting: how many languages and names of each, network, recipe."""

    languages: int
    names: int
    embedding: int
    hidden: int
    dropout: float
    batch_size: int
    epochs: int
    learning_rate: float


SIZES: dict[Setting, Size] = {
    "tiny": Size(4, 12, 8, 8, 0.0, 16, 2, 1e-2),
    "quick": Size(len(LISTS), 400, 32, 96, 0.3, 32, 25, 3e-3),
    "full": Size(len(LISTS), 400, 64, 256, 0.5, 32, 60, 2e-3),
}


@dataclass(frozen=True)
class About:
    """What a network of this task is used with.

    Args:
        alphabet: the characters that it knows.
        languages: of its classes.
        dropped: how many names were, see `names`.
    """

    alphabet: str
    languages: list[str]
    dropped: int

    def check(self, model: Model) -> None:
        """Whether it fits a network; raises ValueError if not, and names the field."""
        if not isinstance(model, Network) or model.head != "sequence":
            raise ValueError("model should be of classes of sequences")
        check_symbols("about.alphabet", self.alphabet, model.stack)
        if self.languages != [language for language in LISTS if language in self.languages]:
            raise ValueError(f"about.languages should be of {', '.join(LISTS)}, in order, got {shown(self.languages)}")
        if len(self.languages) != model.outputs:
            raise ValueError(f"about.languages should number {model.outputs}, got {len(self.languages)}")
        if self.dropped < 0:
            raise ValueError(f"about.dropped should be at least 0, got {self.dropped}")


class Names(NamedTuple):
    """Names and the places of their languages in `LISTS`, by split, and how many were dropped."""

    splits: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]
    dropped: int


def normalise(name: str) -> str:
    """Lower case, composed characters, no space around it."""
    return unicodedata.normalize("NFC", name.strip().lower().replace("i\u0307", "i"))


def plain(name: str) -> str:
    """A normalised name without its accents."""
    return "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))


def stem(name: str, language: str) -> str:
    """What names that have to be in the same split have in common.

    Names that are equal but for accents; in Azerbaijani, Czech and Latvian also the variants for women and men, whose
    consonants are the same but for the ending (němec, němcová; beneš, benešová; podnieks, podniece). This also joins some
    names that are not related, which does no harm. Elsewhere variants are not looked for: Irish ó murchú and mac murchú, or
    Swedish andersson and andreasson, may be in different splits.
    """
    if language not in GENDERED:
        return plain(name)
    without = re.sub("(ov|ev)?a?$", "", plain(name))
    return re.sub("[aeiouyə]", "", without).rstrip("s").replace("c", "k") or plain(name)


def _read(language: str) -> set[str]:
    """A language's names, normalised; those with other signs than letters of the Latin script, ', - and spaces left out."""
    locale, lists = LISTS[language]
    optional("faker", "the surnames come with")
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    found = {normalise(name) for attribute in lists for name in getattr(provider, attribute, ())}
    return {name for name in found if all(c in " '-" or "LATIN" in unicodedata.name(c, "") for c in name)}


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


@cache
def names(languages: int = len(LISTS), limit: int = 400) -> Names:
    """The names of each split, 70, 15 and 15 % of every language's.

    A name that another language's list holds too, with or without the same accents, is dropped. Of a language at most
    `limit` are taken. Names of one `stem` are in one split. All is in the order of a digest of the stems.

    Args:
        languages: how many, the first of `LISTS`. Default all.
        limit: default 400.

    Raises:
        ModuleNotFoundError: `faker` is not installed.
    """
    lists = {language: _read(language) for language in list(LISTS)[:languages]}
    holders: dict[str, set[str]] = {}
    for language, found in lists.items():
        for name in found:
            holders.setdefault(plain(name), set()).add(language)
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    for place, (language, found) in enumerate(lists.items()):
        own = [name for name in found if len(holders[plain(name)]) == 1]
        for split, name in _split(own, language, limit):
            splits[split].append((name, place))
    shared = sum(len(holders[plain(name)]) > 1 for found in lists.values() for name in found)
    arranged = {
        split: (tuple(name for name, _ in pairs), np.array([place for _, place in pairs], np.int64))
        for split, pairs in splits.items()
    }
    return Names(arranged, shared)


def _split(own: Iterable[str], language: str, limit: int) -> Iterable[tuple[str, str]]:
    """Up to `limit` of a language's names, each with its split."""
    ordered = sorted(own, key=lambda name: (_digest(stem(name, language)), name))[:limit]
    split, before = 0, ""
    for count, name in enumerate(ordered):
        if split < 2 and count >= SHARES[split] * len(ordered) and stem(name, language) != before:
            split += 1
        before = stem(name, language)
        yield SPLITS[split], name


def encode(words: Iterable[str], alphabet: str) -> tuple[NDArray[np.int64], ...]:
    """Names, normalised, as the characters' places in the alphabet, counted from 1; 0 for others: each `(time,)`.

    Raises:
        ValueError: a name without a character.
    """
    place = {character: i for i, character in enumerate(alphabet, 1)}
    found = tuple(np.array([place.get(c, 0) for c in normalise(word)], np.int64) for word in words)
    if not all(map(len, found)):
        raise ValueError("words should have at least one character each, got an empty one")
    return found


def _network(size: Size, symbols: int, cell: str) -> Network:
    stack = Stack(cell, symbols, size.hidden, size.embedding, bidirectional=True, dropout=size.dropout)
    return Network(stack, outputs=size.languages, head="sequence")


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(
        learning_rate=size.learning_rate,
        schedule="cosine",
        clip_norm=1.0,
        batch_size=size.batch_size,
        epochs=size.epochs,
        bucket=True,
    )


def _scores(targets: Array, answers: Sequence[Array]) -> Scores:
    return {
        "balanced accuracy": balanced_accuracy(targets, np.asarray(answers)),
        "accuracy": accuracy(targets, np.asarray(answers)),
    }


def _regression(data: Names) -> Mapping[str, Scores]:
    """Logistic regression on runs of 1 to 4 characters; the penalty is the best of a few on the validation names."""
    text = optional("sklearn.feature_extraction.text", "the baseline needs", package="scikit-learn")
    linear = optional("sklearn.linear_model", "the baseline needs", package="scikit-learn")
    (train, classes), (validation, held_out), (test, targets) = (data.splits[split] for split in SPLITS)
    features = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), lowercase=False, sublinear_tf=True)
    x = features.fit_transform(train)
    tried = [linear.LogisticRegression(C=c, class_weight="balanced", max_iter=1000).fit(x, classes) for c in PENALTIES]
    best = max(tried, key=lambda model: balanced_accuracy(held_out, model.predict(features.transform(validation))))
    return {"n-gram logistic regression": _scores(targets, best.predict_proba(features.transform(test)))}


def problems(setting: Setting) -> tuple[Problem, ...]:
    """The task in one size; see `rnn_common.tasks.problems`."""
    size = SIZES[setting]
    data = names(size.languages, size.names)
    alphabet = "".join(sorted(set("".join(data.splits["train"][0]))))
    train, validation, test = (
        Sequences(f"names, {split}", encode(data.splits[split][0], alphabet), data.splits[split][1]) for split in SPLITS
    )
    return (
        Problem(
            name="names",
            train=train,
            validation=validation,
            test=test,
            model=partial(_network, size, len(alphabet) + 1),
            recipe=partial(_recipe, size),
            score=partial(_scores, np.asarray(test.targets)),
            baselines=partial(_regression, data),
            lower_is_better={"balanced accuracy": False, "accuracy": False},
            about=asdict(About(alphabet, list(LISTS)[: size.languages], data.dropped)),
        ),
    )
