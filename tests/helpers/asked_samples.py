"""What an extraction of ours asks an endpoint, as the stub's table of answers."""

from openai_stub import key_of

from relope.extract.data.open import open_dataset
from relope.extract.endpoint.messages import messages_of
from relope.extract.view import View


def answers_of(data, said=lambda sample: sample.answers[0], split=("train", "test")):
    """Return the stub's table: `key_of` each sample → what is said to it."""
    dataset = open_dataset(str(data))
    samples = View().worded(sample for name in split for sample in dataset.load(name, None))
    return {key_of(messages_of(sample, False, None)): said(sample) for sample in samples}
