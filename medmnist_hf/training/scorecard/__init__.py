"""Score a pretrained model on many subsets by fixed protocols: a card of one model, and cards side by side."""
