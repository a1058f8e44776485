"""TF-IDF against scikit-learn's own, both encoders, and what the cascade reads."""

import dataclasses
import sys

import numpy as np
import pytest
from made_traces import no_pickle
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from relope.errors import InvalidInputError, NotFoundError
from relope.probes.encoder import Tfidf
from relope.probes.logistic import Scale, beside
from relope.probes.protocol import make
from relope.probes.text import answered_texts

TEXTS = [("What colour is the star?", "Red"), ("Is it red?", "yes"), ("Which hour is it?", "4"), ("red RED", "")]


@pytest.fixture(scope="session")
def sentence_folder(tmp_path_factory, training_words):
    """A BERT of random weights, made on the spot; sentence-transformers pools it by the mean."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("sentences")
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *training_words])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def training_words():
    from relope.extract.data.open import open_dataset

    samples = open_dataset("tiny").load("train", 160)
    return sorted(
        {word for sample in samples for word in [*sample.question.replace("?", " ?").split(), *sample.answers]}
    )


def test_tf_idf_is_scikit_learns_on_marked_words():
    ours = Tfidf(1000).learn(TEXTS).encode(TEXTS).toarray()
    lines = [
        "<q> what colour is the star ? a:red",
        "<q> is it red ? a:yes",
        "<q> which hour is it ? a:4",
        "<q> red red",
    ]
    own = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
    assert np.allclose(ours, own.fit_transform(lines).toarray())
    assert "a:red" in own.vocabulary_ and "red" in own.vocabulary_


def test_tf_idf_comes_back_to_the_bit():
    encoder = Tfidf(20).learn(TEXTS)
    settings, tensors = encoder.state()
    again = Tfidf.restore(settings, tensors)
    assert len(settings["vocabulary"]) == 20
    assert np.array_equal(again.encode(TEXTS).toarray(), encoder.encode(TEXTS).toarray())


def test_scaling_and_columns():
    numbers = np.array([[1.0, 5.0], [3.0, 5.0]])
    scale = Scale.learn(numbers)
    assert scale(numbers).tolist() == [[-1, 0], [1, 0]]
    assert beside(numbers, np.eye(2)).toarray().tolist() == [[1, 5, 1, 0], [3, 5, 0, 1]]


def test_the_answers_text_is_read(training, testing):
    """Labels that the answer's words decide, whatever the question."""

    def signal(examples):
        return examples.table["response"].str.len_chars().to_numpy() % 2 == 0

    labelled = dataclasses.replace(training, correct=signal(training))
    reads = make("cascade", {"c": 100}).fit(labelled, seed=0).predict_proba(testing)
    alone = make("cascade-logprob", {}).fit(labelled, seed=0).predict_proba(testing)
    assert roc_auc_score(signal(testing), reads) > max(0.9, roc_auc_score(signal(testing), alone))
    assert all(question and "\n" not in answer for question, answer in answered_texts(testing))


@pytest.mark.parametrize("name", ["cascade", "routellm-sw"])
def test_sentence_transformers_in_place_of_tf_idf(name, training, testing, sentence_folder, tmp_path):
    probe = make(name, {"encoder": str(sentence_folder)}).fit(training, seed=0)
    scores = probe.predict_proba(testing)
    assert scores.shape == (80,) and scores.std() > 0
    assert not np.array_equal(scores, make(name, {}).fit(training, seed=0).predict_proba(testing))
    probe.save(tmp_path)
    assert no_pickle(tmp_path)
    assert np.array_equal(type(probe).load(tmp_path).predict_proba(testing), scores)
    assert probe.predict_proba(testing.take(np.zeros(0, np.int64))).shape == (0,)


@pytest.mark.parametrize("name", ["cascade", "routellm-sw"])
def test_an_encoder_that_is_not_there_is_named(name, training, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match=r"encoder='.*nowhere' is neither tfidf nor"):
        make(name, {"encoder": str(tmp_path / "nowhere")}).fit(training, seed=0)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(NotFoundError, match="sentence-transformers, which is not installed") as caught:
        make(name, {"encoder": "all-MiniLM-L6-v2"}).fit(training, seed=0)
    assert "pip install 'relope[text]'" in caught.value.hint
