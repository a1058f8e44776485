"""The same trained on shifted images too: the large model of the demo's hybrid system."""

from relope.extract.model.card import Card

CARD = Card(source="package:tiny-vl-large", n_blocks=6, layer=4, batch_size=64)
